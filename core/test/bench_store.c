/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_store.c - how fast a store takes and gives large objects.
 *
 *   bench_store [-s MIB] [-n OBJECTS] [-w IN-FLIGHT] [-p PIECE-KIB] [-q PIECES] [-r ROUNDS] [-u]
 * [-x] URL
 *
 * Each round PUTs n objects, w in flight, GETs them, then DELETEs them; from the second round on a
 * file store has spare files to write again.  -u: buffers not aligned for O_DIRECT.  -x: no GETs.
 * -m: at most so many MB/s, as a paced destager would. A store's own directory is the caller's to
 * make and remove.
 */
#include "store/store.h"
#include "sys/container.h"
#include "sys/loop_uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct slot {
	struct store_req r;
	struct iovec iov;
	char name[32];
	struct run *run;
	uint64_t start_ns;
	struct loop_timer timer;
};

struct run {
	struct store *s;
	struct store_pace pace;
	size_t size;
	unsigned count, next, left, width;
	enum store_op op;
	uint64_t worst_ns, start_ns, gap_ns;
	struct slot *slots;
};

static void done(struct store_req *r, int64_t status);

static void submit(struct loop_timer *t)
{
	struct slot *k = container_of(t, struct slot, timer);

	k->start_ns = loop_clock(k->run->s->loop);
	store_submit(k->run->s, &k->r);
}

static void next(struct slot *k)
{
	struct run *n = k->run;

	if (n->next == n->count)
		return;
	k->timer.fire = submit;
	loop_timer_set(n->s->loop, &k->timer, n->start_ns + n->next * n->gap_ns);
	snprintf(k->name, sizeof(k->name), "bench/%08x", n->next++);
	k->r.op = n->op;
	k->r.name = k->name;
	k->r.iov = &k->iov;
	k->r.iovcnt = 1;
	k->r.len_bytes = n->size;
	k->r.pace = &n->pace;
	k->r.done = done;
}

static void done(struct store_req *r, int64_t status)
{
	struct slot *k = (struct slot *)r;
	uint64_t ns = loop_clock(k->run->s->loop) - k->start_ns;

	if (status < 0) {
		fprintf(stderr, "bench_store: %s: %s\n", k->name, strerror((int)-status));
		exit(1);
	}
	if (ns > k->run->worst_ns)
		k->run->worst_ns = ns;
	k->run->left--;
	next(k);
}

static void phase(struct run *n, enum store_op op, const char *what)
{
	uint64_t start = loop_clock(n->s->loop), ns;
	double s;

	n->start_ns = start;
	n->op = op;
	n->next = 0;
	n->left = n->count;
	n->worst_ns = 0;
	for (unsigned i = 0; i < n->width; i++)
		next(&n->slots[i]);
	while (n->left)
		loop_poll(n->s->loop, LOOP_FOREVER);
	ns = loop_clock(n->s->loop) - start;
	s = (double)ns / 1e9;
	printf("  %s %7.0f MB/s %8.0f /s worst %6.1f ms", what,
		(double)n->count * (double)n->size / 1e6 / s, n->count / s,
		(double)n->worst_ns / 1e6);
}

static void make_slots(struct run *n, size_t skew)
{
	n->slots = calloc(n->width, sizeof(*n->slots));
	for (unsigned i = 0; n->slots && i < n->width; i++) {
		char *p = aligned_alloc(4096, (n->size + 8191) & ~(size_t)4095);

		if (!p)
			exit(1);
		memset(p, (int)i + 1, n->size + skew);
		n->slots[i].run = n;
		n->slots[i].iov = (struct iovec){p + skew, n->size};
	}
}

/* An object that stays, so that the image, and with it its spare files, live on between rounds. */
static int64_t keep(struct store *s)
{
	struct store_req r = {.op = STORE_PUT, .name = "bench/keep"};

	return store_wait(s, &r);
}

static int64_t forget(struct store *s)
{
	struct store_req r = {.op = STORE_DELETE, .name = "bench/keep"};

	return store_wait(s, &r);
}

struct options {
	int rounds;
	unsigned rate_mb_s;
	size_t skew;
	bool no_gets;
};

static bool parse(int argc, char **argv, struct run *n, struct options *o)
{
	int opt;

	while ((opt = getopt(argc, argv, "s:n:w:p:q:r:m:ux")) != -1) {
		unsigned v = optarg ? (unsigned)strtoul(optarg, NULL, 0) : 0;

		if (opt == 's')
			n->size = (size_t)v << 20;
		else if (opt == 'n')
			n->count = v;
		else if (opt == 'w')
			n->width = v;
		else if (opt == 'p')
			n->pace.piece_bytes = v << 10;
		else if (opt == 'q')
			n->pace.pieces_in_flight = v;
		else if (opt == 'r')
			o->rounds = (int)v;
		else if (opt == 'm')
			o->rate_mb_s = v;
		else if (opt == 'u')
			o->skew = 1;
		else if (opt == 'x')
			o->no_gets = true;
		else
			return false;
	}
	if (o->rate_mb_s)
		n->gap_ns = (uint64_t)n->size * 1000 / o->rate_mb_s;
	return optind == argc - 1;
}

int main(int argc, char **argv)
{
	struct run n = {.size = 8 << 20,
		.count = 32,
		.width = 2,
		.pace = {.piece_bytes = 512 << 10, .pieces_in_flight = 1}};
	struct options o = {.rounds = 3};
	struct err e = {0};
	struct loop *l;
	int rc;

	if (!parse(argc, argv, &n, &o)) {
		fprintf(stderr, "usage: bench_store [-s MIB] [-n OBJECTS] [-w IN-FLIGHT] "
				"[-p PIECE-KIB] [-q PIECES] [-r ROUNDS] [-u] [-x] [-m MB/S] URL\n");
		return 2;
	}
	rc = loop_uring_new(256, &l, &e);
	if (!rc)
		rc = store_open(l, argv[optind], NULL, STORE_CREATE, &n.s, &e);
	if (rc) {
		fprintf(stderr, "bench_store: %s\n", err_text(&e, rc));
		return 1;
	}
	make_slots(&n, o.skew);
	if (keep(n.s))
		return 1;
	for (int i = 0; i < o.rounds; i++) {
		printf("round %d:", i);
		phase(&n, STORE_PUT, "PUT");
		if (!o.no_gets)
			phase(&n, STORE_GET, "GET");
		phase(&n, STORE_DELETE, "DEL");
		printf("\n");
	}
	if (forget(n.s))
		return 1;
	store_close(n.s);
	loop_free(l);
	return 0;
}
