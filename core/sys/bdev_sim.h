/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bdev_sim.h - a simulated disk with a volatile cache, for the simulator and virtual-time replays.
 *
 * The platters (struct sim_disk) outlive a crash; a bdev is one power-on of them.  Requests take
 * virtual time (latency and bandwidth below, jittered by the loop's randomness) and may complete
 * out of order.  On sim_disk_crash() every 512-byte sector of a write not covered by a completed
 * flush keeps its old contents or takes the new, by lot: nothing of the write, all of it, its
 * beginning, or each sector by a coin (so writes are lost, reordered, torn); a write that had not
 * completed fares the same.  A discard, too, takes effect by lot.  The cache holds 64 MiB: older
 * writes become durable by themselves.  Writes covered by a flush that failed are lost for certain,
 * unless they became durable by themselves.
 *
 * A write whose buffer changed between submit and completion is caught by an assert.
 */
#ifndef LSVD_SYS_BDEV_SIM_H
#define LSVD_SYS_BDEV_SIM_H

#include "sys/bdev.h"
#include "sys/fingerprint.h"

struct sim_disk;

struct sim_disk_model {
	uint64_t read_ns, write_ns, flush_ns; /* latency of one request */
	uint64_t bytes_per_s;		      /* shared by all requests; 0 = infinite */
	uint32_t jitter_percent;	      /* latency is drawn from [1-j, 1+j] */
	uint32_t parallel;		      /* requests served at once; 0 = any number */
	uint32_t error_per_million;	      /* requests that fail with -EIO */
	bool flush_fails;		      /* ... and every flush does */
};

int sim_disk_new(
	uint64_t size_bytes, const struct sim_disk_model *m, struct sim_disk **out) MUST_CHECK;
void sim_disk_free(struct sim_disk *d);

/* A power-on: one at a time per disk. */
int sim_disk_open(struct sim_disk *d, struct loop *l, struct bdev **out) MUST_CHECK;

/* Power fails: `s` seeds the lots.  The bdev, if open, is dead and freed by this; its requests
 * never complete.  Call it while the requests' memory and the loop are still there. process_only:
 * the process died, the disk did not: completed writes all stay, those in flight are torn as above.
 */
void sim_disk_crash(struct sim_disk *d, uint64_t s, bool process_only);

/* Writes that are not durable, or in flight. */
unsigned sim_disk_undecided(const struct sim_disk *d);

/* What a power failure now would leave, without one: a disk of its own that is off; `d` goes on,
 * but must outlive it and not change meanwhile, for what they have in common is shared.  Not by
 * lot: of the undecided writes number i in order of completion (0: the oldest; in flight: last) is
 * there wholly or not at all, as bit i of `kept` says (from the 64th on: as bit 63). */
int sim_disk_after_crash(const struct sim_disk *d, uint64_t kept, struct sim_disk **out) MUST_CHECK;

/* Grows whenever what a crash would leave may have become another. */
uint64_t sim_disk_changes(const struct sim_disk *d);

/* Adds all that reads would give. */
void sim_disk_fingerprint(struct sim_disk *d, struct fingerprint *sum);

/* A flush failed since the last power failure, so some completed writes will be lost with the
 * power: what it says is not to be believed until then. */
bool sim_disk_doubtful(const struct sim_disk *d);

/* Flip one bit (bit rot) at this byte; change the model's faults; look at raw bytes. */
void sim_disk_rot(struct sim_disk *d, uint64_t offset_bytes, unsigned bit);
struct sim_disk_model *sim_disk_model(struct sim_disk *d);
void sim_disk_peek(struct sim_disk *d, uint64_t offset_bytes, void *buf, uint64_t len);

#endif
