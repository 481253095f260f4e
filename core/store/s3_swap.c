/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_swap.c - compare-and-swap by conditional PUT; on the clerk's thread, so written straight down.
 *
 * Creating is `If-None-Match: *`.  Replacing is a look at the object's tag, then `If-Match: ETAG`.
 * The look tells two writes of the same bytes apart, which have one ETag (if that happens between
 * the look and the PUT, what is replaced is still byte for byte what the caller knows).
 *
 * Whatever the answer to the PUT, if it is not "done", the object is looked at again: its version
 * is ours (it was carried out), or its tag is another (somebody else was first), or nothing has
 * changed, and then the PUT may be sent again, for it is conditional.
 *
 * ETags are quoted in HTTP; radosgw 16 compares them as they are written, and so wants them bare. A
 * service that refuses the quoted form of a tag that a look before and a look after the PUT show to
 * be the right one compares text, and is given the bare form.
 */
#include "store/s3_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT_MS = 8000 }; /* for a small object there and back */

/* ---- looking ---- */

static bool small_data(struct http_call *c, const char *bytes, size_t len)
{
	struct s3_desk *d = container_of(c, struct s3_desk, call);

	if (len > d->room - d->got) {
		snprintf(c->why, sizeof(c->why), "the object is larger than it can be");
		return false;
	}
	memcpy(d->into + d->got, bytes, len);
	d->got += len;
	return true;
}

static void run(struct s3_desk *d)
{
	d->call.limit_ms = LIMIT_MS;
	if (d->once && d->s->lease_ms / 3 < LIMIT_MS)
		d->call.limit_ms = d->s->lease_ms / 3;
	http_run(&d->call);
}

bool s3_clerk_again(struct s3_desk *d, const struct s3_verdict *v, unsigned *tries)
{
	uint64_t random = s3_boottime_ns() * 0x9E3779B97F4A7C15u >> 8;

	if (d->once || (!v->retry && !(v->credentials && s3_refresh(d->s))))
		return false;
	if (++*tries >= d->s->tries)
		return false;
	s3_clerk_sleep(d, s3_backoff_ns(d->s, *tries, random));
	if (!d->once)
		(void)s3_renew(d); /* what is being tried may go on for longer than a lease */
	return !d->once;
}

int64_t s3_look(struct s3_desk *d, const char *name, char tag[STORE_TAG_MAX], void *buf, size_t len,
	struct err *e)
{
	struct s3_verdict v;
	unsigned tries = 0;
	int rc;

	do {
		s3_call(d->s, &d->call, buf ? "GET" : "HEAD", name);
		d->call.data = buf ? small_data : NULL;
		d->into = buf;
		d->room = len;
		d->got = 0;
		run(d);
		v = s3_judge(d->s, &d->call, e);
	} while (v.rc && s3_clerk_again(d, &v, &tries));
	if (v.rc)
		return v.rc;
	rc = s3_tag(&d->call, tag, e);
	return rc < 0 ? rc : (int64_t)d->got;
}

/* ---- swapping ---- */

/* tag: what must be there, "" nothing. */
static struct s3_verdict put_if(struct s3_desk *d, const char *name, const char *tag, bool bare,
	const char *version, const struct iovec *iov, int iovcnt, struct err *e)
{
	struct http_call *c = &d->call;
	const char *quote = bare ? "" : "\"";

	s3_call(d->s, c, "PUT", name);
	if (tag[0])
		http_header(
			c, "If-Match: %s%.*s%s", quote, (int)(strrchr(tag, ':') - tag), tag, quote);
	else
		http_header(c, "If-None-Match: *");
	http_header(c, "x-amz-meta-lsvd-version: %s", version);
	c->body = iov;
	c->bodycnt = iovcnt;
	for (int i = 0; i < iovcnt; i++)
		c->body_bytes += iov[i].iov_len;
	run(d);
	return s3_judge(d->s, c, e);
}

static bool has_version(const char *tag, const char *version)
{
	return !strcmp(strrchr(tag, ':') + 1, version);
}

/* What is there now?  1: what we put; 0: still what was there before; -ESTALE or -EEXIST: something
 * else; or a failure. */
static int look_again(struct s3_desk *d, const char *name, char tag[STORE_TAG_MAX],
	const char *version, struct err *e)
{
	char now[STORE_TAG_MAX];
	int rc = (int)s3_look(d, name, now, NULL, 0, e);

	if (rc == 0 && has_version(now, version)) {
		memcpy(tag, now, sizeof(now));
		return 1;
	}
	if (rc == -ENOENT && !tag[0])
		return 0;
	if (rc == 0 && !tag[0])
		return err_set(e, -EEXIST, "it exists already");
	if (rc == -ENOENT || (rc == 0 && strcmp(now, tag)))
		return err_set(e, -ESTALE, "it was changed by another writer");
	return rc;
}

int s3_swap(struct s3_desk *d, const char *name, char tag[STORE_TAG_MAX], const struct iovec *iov,
	int iovcnt, bool look, struct err *e)
{
	char version[S3_VERSION_MAX];
	bool bare = d->bare_etags;
	unsigned tries = 0, refused = 0;

	if (tag[0] && !strrchr(tag, ':'))
		return err_set(e, -ESTALE, "it never had this version");
	s3_new_version(version);
	for (;;) {
		struct s3_verdict v;
		int rc = look ? look_again(d, name, tag, version, e) : 0;

		if (rc)
			return rc < 0 ? rc : 0;
		if (refused) { /* though nothing has changed */
			bare = !bare;
			if (refused > 2)
				return err_set(e, -EIO,
					"%s refuses to replace it, though it has not changed",
					d->s->place.endpoint);
		}
		v = put_if(d, name, tag, bare, version, iov, iovcnt, e);
		if (v.rc == 0) {
			d->bare_etags = tag[0] ? bare : d->bare_etags;
			/* radosgw and others do not send the version back */
			snprintf(d->call.version, sizeof(d->call.version), "%s", version);
			return s3_tag(&d->call, tag, e);
		}
		look = true;
		if (v.refused || v.absent)
			refused += tag[0] != 0;
		else if (!s3_clerk_again(d, &v, &tries))
			return v.rc;
	}
}

int s3_remove(struct s3_desk *d, const char *name, struct err *e)
{
	struct s3_verdict v;
	unsigned tries = 0;

	do {
		s3_call(d->s, &d->call, "DELETE", name);
		run(d);
		v = s3_judge(d->s, &d->call, e);
	} while (v.rc && !v.absent && s3_clerk_again(d, &v, &tries));
	return v.absent ? 0 : v.rc;
}

/* ---- does the service heed conditions? ---- */

static int must_refuse(struct s3_desk *d, const char *name, const char *tag, struct err *e)
{
	struct iovec iov = {.iov_base = "", .iov_len = 0};
	char version[S3_VERSION_MAX];
	struct s3_verdict v;
	unsigned tries = 0;

	s3_new_version(version);
	do {
		v = put_if(d, name, tag, d->bare_etags, version, &iov, 1, e);
	} while (v.rc && !v.refused && s3_clerk_again(d, &v, &tries));
	if (v.refused)
		return 0;
	return v.rc ? v.rc
		    : err_set(e, -EOPNOTSUPP,
			      "%s ignores conditions of PUTs (%s), so it cannot keep two writers "
			      "apart",
			      d->s->place.endpoint, tag[0] ? "If-Match" : "If-None-Match");
}

int s3_check_conditions(struct s3_desk *d, const char *name, const char *tag, struct err *e)
{
	char now[STORE_TAG_MAX];
	int rc = must_refuse(d, name, "", e);

	if (rc == 0)
		rc = must_refuse(d, name, "00000000000000000000000000000000:", e);
	if (rc == 0)
		rc = (int)s3_look(d, name, now, NULL, 0, e);
	if (rc == 0 && strcmp(now, tag) && !strrchr(now, ':')[1])
		rc = err_set(e, -EOPNOTSUPP,
			"%s does not keep the metadata of objects (x-amz-meta-...)",
			d->s->place.endpoint);
	return rc;
}
