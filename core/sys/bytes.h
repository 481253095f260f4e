/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bytes.h - little-endian cursors over a bounded buffer: the only way bytes enter or leave a format.
 *
 * A cursor that runs out of room, or is asked for more than is left, sets `bad` and from then on
 * reads zeroes and writes nothing; a codec checks `bad` once, at its end.  Pure; any thread.
 */
#ifndef LSVD_SYS_BYTES_H
#define LSVD_SYS_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
	const uint8_t *p, *end;
	bool bad;
};

struct writer {
	uint8_t *p, *end;
	bool bad;
};

static inline struct reader reader_of(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return (struct reader){.p = p, .end = p + len};
}

static inline struct writer writer_of(void *buf, size_t len)
{
	uint8_t *p = buf;

	return (struct writer){.p = p, .end = p + len};
}

static inline const uint8_t *reader_take(struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || (size_t)(r->end - r->p) < n) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	return p;
}

static inline uint8_t *writer_take(struct writer *w, size_t n)
{
	uint8_t *p = w->p;

	if (w->bad || (size_t)(w->end - w->p) < n) {
		w->bad = true;
		return NULL;
	}
	w->p += n;
	return p;
}

static inline uint64_t get_le(struct reader *r, size_t n)
{
	const uint8_t *p = reader_take(r, n);
	uint64_t v = 0;

	if (p)
		memcpy(&v, p, n);
	return le64toh(v);
}

static inline void put_le(struct writer *w, uint64_t v, size_t n)
{
	uint8_t *p = writer_take(w, n);

	v = htole64(v);
	if (p)
		memcpy(p, &v, n);
}

static inline uint8_t get_u8(struct reader *r) { return (uint8_t)get_le(r, 1); }
static inline uint16_t get_u16(struct reader *r) { return (uint16_t)get_le(r, 2); }
static inline uint32_t get_u32(struct reader *r) { return (uint32_t)get_le(r, 4); }
static inline uint64_t get_u64(struct reader *r) { return get_le(r, 8); }
static inline void put_u8(struct writer *w, uint8_t v) { put_le(w, v, 1); }
static inline void put_u16(struct writer *w, uint16_t v) { put_le(w, v, 2); }
static inline void put_u32(struct writer *w, uint32_t v) { put_le(w, v, 4); }
static inline void put_u64(struct writer *w, uint64_t v) { put_le(w, v, 8); }

static inline void get_bytes(struct reader *r, void *dst, size_t n)
{
	const uint8_t *p = reader_take(r, n);

	if (p)
		memcpy(dst, p, n);
	else
		memset(dst, 0, n);
}

static inline void put_bytes(struct writer *w, const void *src, size_t n)
{
	uint8_t *p = writer_take(w, n);

	if (p)
		memcpy(p, src, n);
}

static inline void put_zeroes(struct writer *w, size_t n)
{
	uint8_t *p = writer_take(w, n);

	if (p)
		memset(p, 0, n);
}

/* Reserved bytes are zero, and a reader insists on it. */
static inline void get_zeroes(struct reader *r, size_t n)
{
	const uint8_t *p = reader_take(r, n);

	for (size_t i = 0; p && i < n; i++)
		if (p[i])
			r->bad = true;
}

#endif
