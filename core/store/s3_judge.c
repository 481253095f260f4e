/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_judge.c - what an answer means: an errno, a text that says what to do, and whether to ask
 * again.
 *
 * Texts name the bucket, the endpoint, error codes and times; never a key, a token, or what was
 * sent. Wrong credentials and the like are -EACCES: an image in use waits for somebody to put that
 * right.
 */
#include "store/s3_impl.h"
#include "store/s3_reply.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum fate {
	FATE_NO,	  /* asking again gives the same answer */
	FATE_RETRY,	  /* it may not; whether it was carried out is not known */
	FATE_CREDENTIALS, /* nor with other credentials */
};

static const struct known {
	const char *code;
	int rc;
	enum fate fate;
	const char *text;
} known[] = {
	{"InvalidAccessKeyId", -EACCES, FATE_CREDENTIALS,
		"the access key is not known there; check AWS_ACCESS_KEY_ID, or AWS_PROFILE and "
		"the "
		"credentials file"},
	{"SignatureDoesNotMatch", -EACCES, FATE_CREDENTIALS,
		"the secret key does not belong to the access key; check AWS_SECRET_ACCESS_KEY, or "
		"the "
		"credentials file"},
	{"ExpiredToken", -EACCES, FATE_CREDENTIALS, "the session token has expired; get a new one"},
	{"InvalidToken", -EACCES, FATE_CREDENTIALS,
		"the session token is not valid; check AWS_SESSION_TOKEN"},
	{"TokenRefreshRequired", -EACCES, FATE_CREDENTIALS, "the session token must be renewed"},
	{"AccessDenied", -EACCES, FATE_NO,
		"access denied: these credentials may not do this in this bucket"},
	{"AllAccessDisabled", -EACCES, FATE_NO, "all access to this bucket is disabled"},
	{"AccountProblem", -EACCES, FATE_NO, "there is a problem with the account"},
	{"UserSuspended", -EACCES, FATE_NO, "the user is suspended"},
	{"QuotaExceeded", -ENOSPC, FATE_NO, "the quota of the bucket or the user is used up"},
	{"EntityTooLarge", -EFBIG, FATE_NO, "the object is larger than the service takes"},
	{"NotImplemented", -EOPNOTSUPP, FATE_NO, "the service does not offer this"},
	{"SlowDown", -EAGAIN, FATE_RETRY, "the service asks for fewer requests"},
	{"ServiceUnavailable", -EAGAIN, FATE_RETRY, "the service is not available at the moment"},
	{"TooManyRequests", -EAGAIN, FATE_RETRY, "the service asks for fewer requests"},
	{"RequestLimitExceeded", -EAGAIN, FATE_RETRY, "the service asks for fewer requests"},
	{"OperationAborted", -EAGAIN, FATE_RETRY, "another request for the same object was first"},
	{"ConditionalRequestConflict", -EAGAIN, FATE_RETRY,
		"another request for the same object was first"},
	{"InternalError", -EIO, FATE_RETRY, "the service failed"},
	{"RequestTimeout", -ETIMEDOUT, FATE_RETRY, "the service waited too long for the request"},
	{"BadDigest", -EIO, FATE_RETRY, "the bytes were damaged on their way"},
	{"XAmzContentSHA256Mismatch", -EIO, FATE_RETRY, "the bytes were damaged on their way"},
	{"InvalidDigest", -EIO, FATE_RETRY, "the bytes were damaged on their way"},
	{"IncompleteBody", -EIO, FATE_RETRY, "the bytes did not all arrive"},
};

static struct s3_verdict verdict(int rc, enum fate fate)
{
	return (struct s3_verdict){
		.rc = rc, .retry = fate == FATE_RETRY, .credentials = fate == FATE_CREDENTIALS};
}

static struct s3_verdict no_answer(const struct s3 *s, const struct http_call *c, struct err *e)
{
	const char *at = s->place.endpoint;

	switch (c->result) {
	case HTTP_UNREACHABLE:
		err_set(e, -EIO, "%s cannot be reached: %s", at, c->why);
		return verdict(-EIO, FATE_RETRY);
	case HTTP_UNTRUSTED:
		err_set(e, -EACCES, "%s: %s; see the settings s3.ca_file and s3.verify", at,
			c->why);
		return verdict(-EACCES, FATE_NO);
	case HTTP_TIMEOUT:
		err_set(e, -ETIMEDOUT, "%s does not answer: %s", at, c->why);
		return verdict(-ETIMEDOUT, FATE_RETRY);
	case HTTP_IMPOSSIBLE:
		err_set(e, -EIO, "%s", c->why);
		return verdict(-EIO, FATE_NO);
	default:
		err_set(e, -EIO, "%s broke off: %s", at, c->why);
		return verdict(-EIO, FATE_RETRY);
	}
}

static void utc(time_t t, char out[32])
{
	struct tm tm;

	if (t == (time_t)-1 || !gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		memcpy(out, "?", 2);
}

static struct s3_verdict skewed(const struct s3 *s, const struct http_call *c, struct err *e)
{
	char here[32], there[32];

	utc(time(NULL), here);
	utc(c->date, there);
	err_set(e, -EACCES,
		"this machine's clock (%s) is too far from that of %s (%s); set it, best by NTP",
		here, s->place.endpoint, there);
	return verdict(-EACCES, FATE_NO);
}

static struct s3_verdict elsewhere(const struct s3 *s, const struct http_call *c,
	const char *region, enum fate fate, struct err *e)
{
	const struct http_peer *p = c->peer;

	if (!region[0])
		region = c->region;
	if (region[0] && strcmp(region, p->region))
		err_set(e, -EACCES,
			"the bucket '%s' is in region %s, not in %s; set s3.region or AWS_REGION",
			s->place.bucket, region, p->region);
	else
		err_set(e, -EACCES,
			"the bucket '%s' is not at %s in region %s (HTTP %d); check s3.region and "
			"s3.endpoint",
			s->place.bucket, s->place.endpoint, p->region, c->status);
	return verdict(-EACCES, fate);
}

static struct s3_verdict missing(
	const struct s3 *s, const struct http_call *c, const struct s3_fault *f, struct err *e)
{
	struct s3_verdict v = verdict(-ENOENT, FATE_NO);

	if (!strcmp(f->code, "NoSuchBucket")) {
		err_set(e, -ENOENT,
			"the bucket '%s' does not exist at %s; create it there, or check the URL "
			"and "
			"s3.endpoint",
			s->place.bucket, s->place.endpoint);
		return v;
	}
	v.absent = !strcmp(f->code, "NoSuchKey") || !strcmp(c->method, "HEAD");
	if (v.absent)
		err_set(e, -ENOENT, "no such object");
	else
		err_set(e, -ENOENT, "%s: HTTP 404%s%s: is this an S3 service?", s->place.endpoint,
			f->code[0] ? ", " : "", f->code);
	return v;
}

/* By the status alone: a HEAD has no body, and proxies have their own. */
static struct s3_verdict by_status(
	const struct s3 *s, const struct http_call *c, const struct s3_fault *f, struct err *e)
{
	enum fate fate = FATE_NO;
	int rc = -EIO;

	if (c->status == 403)
		rc = -EACCES;
	else if (c->status == 429 || c->status == 503)
		rc = -EAGAIN, fate = FATE_RETRY;
	else if (c->status == 408 || c->status == 409 || (c->status >= 500 && c->status != 501))
		fate = FATE_RETRY;
	else if (c->status == 501)
		rc = -EOPNOTSUPP;
	else if (c->status == 507)
		rc = -ENOSPC;
	err_set(e, rc, "%s: HTTP %d%s%s%s%s%s%s%s", s->place.endpoint, c->status,
		f->code[0] ? ", " : "", f->code, f->message[0] ? ": " : "", f->message,
		c->request_id[0] ? " (request " : "", c->request_id, c->request_id[0] ? ")" : "");
	if (c->status == 403 && !f->code[0])
		err_set(e, rc, "%s: access denied: check the credentials and what they may do",
			s->place.endpoint);
	return verdict(rc, fate);
}

struct s3_verdict s3_judge(const struct s3 *s, const struct http_call *c, struct err *e)
{
	struct s3_fault f;

	if (c->result != HTTP_ANSWERED)
		return no_answer(s, c, e);
	if (c->status / 100 == 2)
		return verdict(0, FATE_NO);
	s3_fault_read(&f, c->error, c->error_len);
	if (c->status == 412 || !strcmp(f.code, "PreconditionFailed")) {
		err_set(e, -ESTALE, "somebody else was first");
		return (struct s3_verdict){.rc = -ESTALE, .refused = true};
	}
	if (!strcmp(f.code, "RequestTimeTooSkewed"))
		return skewed(s, c, e);
	if (c->status == 307)
		return elsewhere(s, c, f.region, FATE_RETRY, e);
	if (c->status / 100 == 3 || !strcmp(f.code, "AuthorizationHeaderMalformed") ||
		!strcmp(f.code, "IllegalLocationConstraintException"))
		return elsewhere(s, c, f.region, FATE_NO, e);
	if (c->status == 404)
		return missing(s, c, &f, e);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(f.code, known[i].code)) {
			err_set(e, known[i].rc, "%s: %s (%s)", s->place.endpoint, known[i].text,
				f.code);
			return verdict(known[i].rc, known[i].fate);
		}
	return by_status(s, c, &f, e);
}
