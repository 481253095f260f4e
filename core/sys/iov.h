/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* iov.h - copying between flat memory and scattered memory.  Pure; any thread. */
#ifndef LSVD_SYS_IOV_H
#define LSVD_SYS_IOV_H

#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

/* A place in an iovec that moves forward. */
struct iov_cursor {
	const struct iovec *iov;
	size_t off;		/* in iov[0] */
};

static inline struct iov_cursor iov_at(const struct iovec *iov, size_t off)
{
	while (off && off >= iov->iov_len) {
		off -= iov->iov_len;
		iov++;
	}
	return (struct iov_cursor){.iov = iov, .off = off};
}

/* The contiguous piece here, at most *len; *len becomes its length. */
static inline void *iov_piece(struct iov_cursor *c, size_t *len)
{
	void *p;

	while (c->off >= c->iov->iov_len) {
		c->off -= c->iov->iov_len;
		c->iov++;
	}
	if (*len > c->iov->iov_len - c->off)
		*len = c->iov->iov_len - c->off;
	p = (char *)c->iov->iov_base + c->off;
	c->off += *len;
	return p;
}

static inline void iov_read(struct iov_cursor *c, void *dst, size_t len)
{
	for (size_t n; len; len -= n) {
		void *p;

		n = len;
		p = iov_piece(c, &n);
		memcpy(dst, p, n);
		dst = (char *)dst + n;
	}
}

/* src NULL: zeroes. */
static inline void iov_write(struct iov_cursor *c, const void *src, size_t len)
{
	for (size_t n; len; len -= n) {
		void *p;

		n = len;
		p = iov_piece(c, &n);
		if (src) {
			memcpy(p, src, n);
			src = (const char *)src + n;
		} else {
			memset(p, 0, n);
		}
	}
}

static inline size_t iov_bytes(const struct iovec *iov, int cnt)
{
	size_t n = 0;

	for (int i = 0; i < cnt; i++)
		n += iov[i].iov_len;
	return n;
}

#endif
