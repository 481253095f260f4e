/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* s3_hash.h - SHA-256 and MD5 by OpenSSL's libcrypto, loaded when needed. */
#ifndef LSVD_STORE_S3_HASH_H
#define LSVD_STORE_S3_HASH_H

#include "sys/err.h"

#include <stddef.h>
#include <stdint.h>

enum hash_kind { HASH_SHA256, HASH_MD5 };
enum { HASH_MAX = 32 };

int hash_load(struct err *e) MUST_CHECK;

/* Begin; NULL: out of memory. */
void *hash_new(enum hash_kind kind);
void hash_add(void *h, const void *bytes, size_t len);
/* The digest's length; frees h. */
size_t hash_end(void *h, uint8_t digest[HASH_MAX]);

#endif
