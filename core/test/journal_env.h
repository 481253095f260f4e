/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* journal_env.h - a pool on simulated or real disks with a journal on it, for tests. */
#ifndef LSVD_TEST_JOURNAL_ENV_H
#define LSVD_TEST_JOURNAL_ENV_H

#include "journal/journal.h"
#include "sys/bdev_sim.h"
#include "sys/loop_sim.h"
#include "test/test.h"

enum { ENV_LEGS_MAX = POOL_LEGS_MAX, ENV_MIB = 1 << 20 };

/* Disks outlive crashes; loop and pool are one power-on. */
struct penv {
	struct sim_disk *disk[ENV_LEGS_MAX];
	unsigned legs;
	struct loop *loop;
	struct pool *pool;
	struct config cfg;
	uint64_t seed;
};

struct sim_disk_model penv_fast_disk(void);
/* Disks of `mib` MiB each; nothing is open yet. */
void penv_init(struct penv *v, unsigned legs, uint64_t mib, uint64_t seed);
/* A loop, and the pool on legs `first` .. `first + n - 1`; the error of opening, if any, in e. */
int penv_open_legs(struct penv *v, unsigned first, unsigned n, struct err *e);
void penv_open(struct penv *v);
void penv_close(struct penv *v);
/* Power fails (process_only: the process dies); what was on the loop must still be in memory. */
void penv_crash(struct penv *v, uint64_t seed, bool process_only);
void penv_fini(struct penv *v);

/* A journal and its owner, which keeps a model of what the records said. */
struct jenv {
	struct journal_owner owner;
	struct penv *v;
	struct journal *j;
	uint64_t first, last; /* record numbers handed over */
	uint64_t fulls;
	int failed;
	/* model: sector -> stamp of the newest record that was acknowledged; 0 zeroes */
	uint64_t *sector;
	uint64_t sectors;
	bool cover_at_once; /* journal_covered from on_full */
	/* acknowledged record number -> nothing but its extents, for replays */
	void (*record)(struct jenv *je, uint64_t seq, const struct journal_extent *ext, uint32_t n);
};

extern const uint8_t jenv_uuid[16];

void jenv_config(struct jenv *je, struct penv *v, uint64_t epoch, struct journal_config *cfg);
/* Make and replay. */
int jenv_open(struct jenv *je, struct penv *v, uint64_t epoch, uint64_t covered, struct err *e);
void jenv_open_with(struct jenv *je, const struct journal_config *cfg);

struct journal_stats jenv_stats(const struct jenv *je);
/* Wait until nothing is in flight, and end the journal, its pool and the disks. */
void jenv_stop(struct jenv *je);

/* A write whose sectors each hold (lba, stamp). */
struct jwrite {
	struct journal_req r;
	struct iovec iov;
	uint8_t *buf;
	uint64_t stamp, after; /* `after`: how many writes were acknowledged before it */
	int fired, status;
	uint64_t *count;
};
void jwrite_fill(uint8_t *buf, uint64_t lba, uint64_t len, uint64_t stamp);
void jwrite_start(struct jenv *je, struct jwrite *w, uint64_t lba, uint64_t len, uint64_t stamp,
	uint8_t kind);
void jwrite_wait(struct jenv *je, struct jwrite *w);
/* Start and wait; its status. */
int jwrite(struct jenv *je, uint64_t lba, uint64_t len, uint64_t stamp, uint8_t kind);
int jflush(struct jenv *je);

/* Read through the journal (map, memory or pool): the stamp of each sector; 0 zeroes, UINT64_MAX
 * not in the journal. */
void jread(struct jenv *je, uint64_t lba, uint64_t len, uint64_t *stamps);

/* Poll until nothing is in flight. */
void jidle(struct jenv *je);

#endif
