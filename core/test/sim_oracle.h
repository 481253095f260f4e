/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sim_oracle.h - what an image may contain: the simulator's judge.  Pure.
 *
 * Every sector that is written carries its own address and the number of the write (its stamp).
 * Requests are noted as *pieces* in the order of their submission: each is what the library keeps
 * whole under a crash (128 KiB of data).  The library promises order only between requests that did
 * not overlap in time; it keeps the order of submission, and is held to that.
 *
 * After a crash the image must equal the state after the first n pieces, for one n that is not less
 * than what was promised: acknowledged (the process died), flushed (the machine died), or stored
 * (the pool is lost).  What lies behind n is lost for good: its stamps must never be seen again.
 *
 * Every image has a tag of its own, so that bytes of another image, or of an earlier one of the
 * same name, are noticed.  A clone begins with its parent's stamps (`base`).
 *
 * While it runs, a read must give the newest acknowledged write of each sector, or one that was in
 * flight together with the read.
 */
#ifndef LSVD_TEST_SIM_ORACLE_H
#define LSVD_TEST_SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ORACLE_PIECE_SECTORS = 256 };

struct piece {
	uint32_t lba, len; /* sectors */
	uint32_t stamp;	   /* 0: reads as zeroes */
	uint32_t *back;	   /* a roll-back: the stamp of each sector; else NULL */
	bool acked;
};

struct oracle {
	uint64_t salt;	      /* of this seed: stamps of another are foreign */
	uint32_t tag;	      /* of this image, 1 to 255: the top byte of its stamps */
	uint32_t sectors;     /* room; the image may be smaller */
	uint32_t *base;	      /* by sector: the stamp before the first piece; NULL: all zeroes */
	uint32_t *newest;     /* by sector: the newest acknowledged piece */
	uint32_t *seen, *now; /* scratch of oracle_settle */
	struct piece *piece;  /* 1..n; 0 is the image as it was made */
	uint32_t n, cap;
	uint32_t *first_piece; /* by number of the write; 0: lost */
	uint32_t stamps, stamps_cap;
	uint32_t acked, flushed, stored; /* numbers of pieces: what was promised so far */
	uint32_t must;			 /* what the crashes since the last settling left of it */
	char why[300];
};

void oracle_init(struct oracle *o, uint64_t salt, uint32_t tag, uint32_t sectors);
void oracle_copy(struct oracle *o, const struct oracle *from);
void oracle_fini(struct oracle *o);

/* A write (zero: discard or zeroes) is about to be submitted; the first and last of its pieces. */
void oracle_submit(struct oracle *o, uint32_t lba, uint32_t len, bool zero, uint32_t *first,
	uint32_t *last, uint32_t *stamp);
/* The whole image is about to become what these stamps say, in one piece; which is returned. */
uint32_t oracle_roll_back(struct oracle *o, const uint32_t *stamps, uint32_t sectors);
void oracle_acked(struct oracle *o, uint32_t first, uint32_t last);

/* Fill, and read back: the stamp, 0 for zeroes, -1 for bytes nobody wrote there. */
void oracle_fill(const struct oracle *o, void *buf, uint32_t lba, uint32_t len, uint32_t stamp);
int64_t oracle_stamp(const struct oracle *o, const void *sector, uint32_t lba);

/* A read of [lba, lba+len): at submission, newest[] of the range is copied to `snap`. */
void oracle_snap(const struct oracle *o, uint32_t lba, uint32_t len, uint32_t *snap);
bool oracle_check_read(
	struct oracle *o, const void *buf, uint32_t lba, uint32_t len, const uint32_t *snap);

/* The world went down; what counts from now on is the weakest promise of all crashes in a row. */
enum oracle_loss { LOST_PROCESS, LOST_MACHINE, LOST_POOL };
void oracle_crashed(struct oracle *o, enum oracle_loss loss);

/* The whole image was read: o->seen[lba] = oracle_stamp().  Find n, which something else says is
 * from least to most (0 to UINT32_MAX: nothing does), and forget what was lost.  False and o->why:
 * no n fits. */
bool oracle_settle(struct oracle *o, uint32_t sectors, uint32_t least, uint32_t most);

/* Something that was cut from the image was read into o->seen (a snapshot): it must be the state
 * after n pieces for an n from lo to hi.  Nothing is forgotten.  False and o->why: no n fits. */
bool oracle_matches(struct oracle *o, uint32_t sectors, uint32_t lo, uint32_t hi);

#endif
