/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wire_impl.h - what wire.c offers the decoders, and a decoder to wire.c.
 *
 * A direction is a row of units: a header, of which the decoder says how many bytes it must see,
 * and then `skip` bytes that it need not.  wire.c gathers the header and skips.
 */
#ifndef LSVD_TRACE_WIRE_IMPL_H
#define LSVD_TRACE_WIRE_IMPL_H

#include "trace/wire.h"

enum {
	WIRE_HEAD_MAX = 8192, /* the longest header: iSCSI's UNMAP with 256 ranges is half of it */
	WIRE_PENDING_MAX = 8192, /* requests of a connection */
	WIRE_UNITS_MAX = 16,	 /* whose block size is remembered */
};

/* What head() returns beside a number of bytes. */
enum { WIRE_DONE = 0, WIRE_BAD = -1, WIRE_AGAIN = -2 };

struct wire_half {
	uint8_t head[WIRE_HEAD_MAX];
	size_t have, want;
	uint64_t skip;
	bool in_unit; /* a header is done; ended() is due when skip is 0 */
	bool searching;
	bool deaf;	   /* nothing can be made of what comes */
	size_t drop;	   /* see head() */
	uint64_t state[4]; /* the decoder's */
};

struct wire;

struct wire_protocol {
	const char *name;
	size_t least[2]; /* bytes that plausible() looks at, by direction */

	/* Before the first byte. */
	void (*init)(struct wire *w);

	/* p[n] is the beginning of a unit.  Returns how many bytes must be seen in all, > n; or
	 * WIRE_DONE, with half->skip set to how many bytes of the unit come after byte n, or
	 * half->drop to its length, if it is shorter; or WIRE_BAD.  cut: no more will come (they
	 * are beyond the snap length): make do, or WIRE_BAD.  WIRE_AGAIN: the first half->drop
	 * bytes belong to no unit. */
	int (*head)(struct wire *w, enum wire_dir d, const uint8_t *p, size_t n, bool cut);

	/* The unit's last byte has passed.  May set half->searching. */
	void (*ended)(struct wire *w, enum wire_dir d);

	/* May a unit begin with these least[d] bytes?  Strict: it is asked at every byte of
	 * anything. */
	bool (*plausible)(struct wire *w, enum wire_dir d, const uint8_t *p);

	/* Between two units are n bytes unknown: true if they are part of the one before.  May be
	 * NULL. */
	bool (*between)(struct wire *w, enum wire_dir d, uint64_t n);
};

/* A request whose answer has not come. */
struct wire_pending {
	uint64_t key; /* cookie, task tag, command identifier */
	struct trace_record r;
	uint64_t unit;
	uint32_t arg; /* the decoder's */
	bool other;   /* no request of a trace; its answer matters to the decoder */
	bool used;
	uint32_t next;	   /* of its bucket, + 1 */
	uint64_t sequence; /* order of submission */
};

struct wire_unit {
	uint64_t unit;
	uint32_t block_bytes;
};

struct wire {
	const struct wire_protocol *p;
	struct wire_sink *sink;
	struct wire_counts *counts;
	uint64_t now_ns;
	uint8_t stream;
	struct wire_half half[2];
	struct wire_pending *pending;
	uint32_t *bucket;
	uint32_t room, n_pending; /* room is a power of two */
	uint32_t hint;		  /* where a free one may be */
	uint64_t sequence;
	struct wire_unit units[WIRE_UNITS_MAX];
	unsigned n_units;
	uint64_t state[4]; /* the decoder's */
};

/* A request was submitted now: r with op, flags, offset, length. */
void wire_submit(struct wire *w, uint64_t key, uint64_t unit, const struct trace_record *r);

/* A command that is no request, or not yet; its answer is waited for.  `arg` is the decoder's. */
void wire_watch(struct wire *w, uint64_t key, uint64_t unit, uint32_t arg);

/* The oldest pending request with this key, or NULL; valid until the next call. */
struct wire_pending *wire_find(struct wire *w, uint64_t key);

/* Everything with this key is answered, now.  A stray answer is counted. */
void wire_complete(struct wire *w, uint64_t key, bool failed);

/* A key is used for a new command: what it named before was answered unseen. */
void wire_reuse(struct wire *w, uint64_t key);

/* Block size of a unit, as it was learned, else 512. */
uint32_t wire_block(const struct wire *w, uint64_t unit);
void wire_learn_block(struct wire *w, uint64_t unit, uint64_t block_bytes);

/* Learns the block size from a request's two lengths, if they agree on a usual one. */
void wire_learn_from(struct wire *w, uint64_t unit, uint64_t len_bytes, uint64_t blocks);

/* TLS from here on. */
void wire_encrypted(struct wire *w);

#endif
