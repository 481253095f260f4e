/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_conf.h - where a bucket is and who asks: from the URL, the settings, the environment and the
 * shared credentials file.
 *
 * Keys `s3.*` come first, then the environment (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION,
 * AWS_DEFAULT_REGION, AWS_CA_BUNDLE), then defaults.  Credentials: AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, else the section AWS_PROFILE (default) of
 * AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials).
 */
#ifndef LSVD_STORE_S3_CONF_H
#define LSVD_STORE_S3_CONF_H

#include "store/s3_http.h"
#include "sys/config.h"

enum { S3_BUCKET_MAX = 64, S3_PREFIX_MAX = 256, S3_BASE_MAX = 1024 };

struct s3_place {
	char bucket[S3_BUCKET_MAX];
	char prefix[S3_PREFIX_MAX + 2]; /* "" or ends with a slash */
	char base[S3_BASE_MAX];		/* URL of the bucket, without a slash at its end */
	char endpoint[256];		/* for messages */
};

/* `rest`: BUCKET[/PREFIX] */
int s3_conf_place(const char *rest, const struct config *cfg, struct s3_place *out, struct err *e)
	MUST_CHECK;

/* Everything of a peer but its credentials, and those. */
int s3_conf_peer(const struct config *cfg, struct http_peer *out, struct err *e) MUST_CHECK;
/* -EACCES: there are none, and where they were looked for. */
int s3_conf_credentials(struct http_peer *out, struct err *e) MUST_CHECK;

#endif
