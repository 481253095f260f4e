/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pump.c - keeps requests in flight. */
#include "ci/runner/pump.h"
#include "ci/runner/bench.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int pump_context(const char *const *settings, struct lsvd_ctx **ctx, char *why)
{
	struct lsvd_config *cfg = lsvd_config_defaults();
	int rc = cfg ? 0 : -ENOMEM;

	for (; rc == 0 && *settings; settings += 2)
		rc = lsvd_config_set(cfg, settings[0], settings[1], why);
	if (rc == 0)
		rc = lsvd_ctx_open(cfg, LSVD_DRIVE_INLINE, ctx, why);
	lsvd_config_free(cfg);
	return rc;
}

int pump_open(struct pump *p, const char *url, uint64_t size_bytes, char *why)
{
	int rc = size_bytes ? lsvd_image_create(p->ctx, url, size_bytes, why) : 0;

	return rc ? rc : lsvd_image_open(p->ctx, url, 0, &p->img, why);
}

static void on_done(struct lsvd_io *io)
{
	struct pump *p = io->user;

	if (io->status && !p->status)
		p->status = io->status;
	p->done++;
	p->idle[p->nidle++] = io;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

int pump_shape(struct pump *p, uint64_t block, uint64_t stride, uint64_t places)
{
	p->memory = mmap(NULL, PUMP_DEPTH * block, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p->memory == MAP_FAILED) {
		p->memory = NULL;
		return -ENOMEM;
	}
	for (size_t i = 0; i < PUMP_DEPTH * block; i++)
		p->memory[i] = (char)(i * 2654435761u >> 13);
	p->block = block;
	p->stride = stride;
	p->places = places;
	p->step = (uint64_t)(0.618034 * (double)places) | 1;
	while (common_divisor(places, p->step) != 1)
		p->step += 2;
	for (unsigned i = 0; i < PUMP_DEPTH; i++) {
		p->iov[i] = (struct iovec){p->memory + i * block, block};
		p->io[i] = (struct lsvd_io){.iov = &p->iov[i],
			.iovcnt = 1,
			.len_bytes = block,
			.cb = on_done,
			.user = p};
		p->idle[p->nidle++] = &p->io[i];
	}
	return 0;
}

static int submit_one(struct pump *p, enum lsvd_op op)
{
	struct lsvd_io *io = p->idle[p->nidle - 1];
	int rc;

	io->op = op;
	io->offset_bytes = p->at * p->stride;
	rc = lsvd_submit(p->img, io);
	if (rc)
		return rc;
	p->nidle--;
	p->at = (p->at + p->step) % p->places;
	return 0;
}

int pump_run(struct pump *p, enum lsvd_op op, uint64_t ios, double end_s)
{
	uint64_t made = 0;
	int rc = 0;

	for (unsigned turn = 0; !rc && made < ios; turn++) {
		if (turn % 16 == 0 && now_s() >= end_s)
			break;
		for (; p->nidle && made < ios && !rc; made++)
			rc = submit_one(p, op);
		if (!rc && lsvd_poll(p->ctx, -1) < 0)
			rc = -EIO;
		if (!rc)
			rc = p->status;
	}
	while (p->nidle < PUMP_DEPTH && lsvd_poll(p->ctx, -1) >= 0)
		;
	return rc ? rc : p->status;
}

int pump_close(struct pump *p, int rc, char *why)
{
	int closed = p->img ? lsvd_image_close(p->img, rc ? NULL : why) : 0;

	if (p->memory)
		munmap(p->memory, PUMP_DEPTH * p->block);
	p->img = NULL;
	p->memory = NULL;
	return rc ? rc : closed;
}
