/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image_churn.c - random requests, many at a time, against the model. */
#include "test/image_env.h"
#include "test/test.h"

enum { SLOTS = 16, SLOT_SECTORS = 2600 };

struct slot {
	struct lsvd_io io;
	struct iovec iov[3];
	uint8_t *buf;
	uint64_t lba, len;
	uint32_t version;
	bool busy;
	struct churn *churn;
};

struct churn {
	struct image_env *e;
	struct lsvd_queue *q; /* thread drive */
	struct slot slot[SLOTS];
	uint64_t seed;
	unsigned out, done, submitted;
	bool in_submit;
};

static bool overlaps(const struct churn *c, uint64_t lba, uint64_t len)
{
	for (int i = 0; i < SLOTS; i++)
		if (c->slot[i].busy && c->slot[i].lba < lba + len &&
			lba < c->slot[i].lba + c->slot[i].len)
			return true;
	return false;
}

static void over(struct slot *s)
{
	struct churn *c = s->churn;

	assert_true(s->busy);
	assert_false(c->in_submit);
	assert_int_equal(s->io.status, 0);
	s->busy = false;
	c->out--;
	c->done++;
	if (s->io.op == LSVD_READ)
		model_compare(c->e, s->buf, s->lba, s->len);
}

static void called_back(struct lsvd_io *io)
{
	over(io->user);
}

static void random_range(struct churn *c, struct slot *s)
{
	uint64_t end = c->e->size_bytes / 512, r = test_rand(&c->seed),
		 kind = test_rand(&c->seed) % 16;

	s->len = kind == 0  ? 1 + r % SLOT_SECTORS
		 : kind < 4 ? 1 + r % 300
		 : kind < 8 ? 1 + r % 20
			    : 8;
	/* A third of the writes goes to one place, so that objects die and are collected. */
	s->lba = test_rand(&c->seed) % (test_rand(&c->seed) % 3 ? end : end / 8);
	if (kind >= 8)
		s->lba &= ~7ull;
	if (s->lba + s->len > end)
		s->lba = end - s->len;
}

static enum lsvd_op random_op(struct churn *c)
{
	static const enum lsvd_op ops[] = {LSVD_READ, LSVD_READ, LSVD_READ, LSVD_READ, LSVD_WRITE,
		LSVD_WRITE, LSVD_WRITE, LSVD_WRITE, LSVD_WRITE, LSVD_DISCARD, LSVD_WRITE_ZEROES,
		LSVD_FLUSH};

	return ops[test_rand(&c->seed) % (sizeof(ops) / sizeof(ops[0]))];
}

/* The same bytes in one to three pieces. */
static int cut(struct churn *c, struct slot *s)
{
	size_t len = s->len * 512, a = test_rand(&c->seed) % len,
	       b = a + test_rand(&c->seed) % (len - a);

	s->iov[0] = (struct iovec){s->buf, len};
	if (test_rand(&c->seed) % 2)
		return 1;
	s->iov[0].iov_len = a;
	s->iov[1] = (struct iovec){s->buf + a, b - a};
	s->iov[2] = (struct iovec){s->buf + b, len - b};
	return 3;
}

static void submit_one(struct churn *c, struct slot *s)
{
	struct image_env *e = c->e;
	enum lsvd_op op = random_op(c);
	int rc;

	random_range(c, s);
	if (op != LSVD_FLUSH && overlaps(c, s->lba, s->len))
		return;
	if (op == LSVD_FLUSH)
		s->lba = s->len = 0;
	s->io.op = op;
	s->io.flags = op == LSVD_WRITE && test_rand(&c->seed) % 8 == 0 ? LSVD_FUA : 0;
	s->io.offset_bytes = s->lba * 512;
	s->io.len_bytes = s->len * 512;
	s->io.iov = s->iov;
	s->io.iovcnt = op <= LSVD_WRITE ? cut(c, s) : 0;
	s->io.cb = called_back;
	s->io.user = s;
	s->io.status = 1;
	if (op == LSVD_WRITE)
		model_fill(s->buf, s->lba, s->len, ++e->last_version);
	if (op == LSVD_READ)
		memset(s->buf, 0xa5, s->len * 512);
	if (op != LSVD_READ && op != LSVD_FLUSH)
		model_note(e, s->lba, s->len, op == LSVD_WRITE ? e->last_version : 0);
	s->busy = true;
	c->out++;
	c->submitted++;
	c->in_submit = true;
	rc = c->q ? lsvd_queue_submit(c->q, e->img, &s->io) : lsvd_submit(e->img, &s->io);
	c->in_submit = false;
	assert_int_equal(rc, 0);
}

static void reap(struct churn *c)
{
	struct lsvd_io *ios[SLOTS];
	int n;

	if (!c->q) {
		lsvd_poll(c->e->ctx, -1);
		return;
	}
	n = lsvd_queue_reap(c->q, ios, 1, SLOTS, -1);
	assert_true(n >= 1);
	for (int i = 0; i < n; i++)
		over(ios[i]->user);
}

void model_churn(struct image_env *e, unsigned n)
{
	struct churn *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->e = e;
	c->seed = test_seed() + n;
	if (e->ctx->drive == LSVD_DRIVE_THREAD)
		IE_OK(e, lsvd_queue_new(e->ctx, SLOTS, &c->q, e->why));
	for (int i = 0; i < SLOTS; i++) {
		c->slot[i].churn = c;
		/* Not aligned: the library must cope. */
		c->slot[i].buf = (uint8_t *)malloc(SLOT_SECTORS * 512 + 64) + 8 * (i % 4);
	}
	while (c->submitted < n || c->out) {
		for (int i = 0; i < SLOTS && c->submitted < n; i++)
			if (!c->slot[i].busy)
				submit_one(c, &c->slot[i]);
		if (c->out)
			reap(c);
	}
	assert_int_equal(c->done, c->submitted);
	for (int i = 0; i < SLOTS; i++)
		free(c->slot[i].buf - 8 * (i % 4));
	if (c->q)
		lsvd_queue_free(c->q);
	free(c);
}
