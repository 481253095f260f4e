/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store_bench.c - `lsvd store-bench`: what a store gives: PUT and GET rates, range reads, lists,
 * deletes, and how long each request takes.
 *
 * All objects are of one image that nobody else has, `store-bench-<random>`.  Each phase keeps so
 * many requests in flight until its time is up; latency is from submission to completion, as an
 * image on this store would see it.  How far a rate can be trusted is measured too: a phase's time
 * is cut into eight, and the spread says by how much the fastest of them differs from the slowest.
 * Whatever happens, also Ctrl-C, what was put is deleted at the
 * end: the deletes are a phase, too.
 */
#include "cli/open.h"
#include "store/store.h"
#include "sys/config.h"
#include "sys/container.h"
#include "sys/loop_uring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	RANGE_DEPTH = 32,
	DELETE_DEPTH = 256,
	DEPTH_MAX = 256,
	OBJECTS_MAX = 100000,
	PUT_MAX_GIB = 4, /* what a fast store in memory would be given in seconds is all of it */
	SAMPLES_MAX = 1 << 22,
	SLICES = 8,
	SPREAD_NOTED = 50, /* percent */
};

enum { PHASES = 6 };

static const struct {
	const char *name;
	enum store_op op;
	uint64_t bytes_max; /* of a request; objects may be smaller, or of the size asked for */
	unsigned depth;	    /* 0: as asked for */
} plan[PHASES] = {
	{"put", STORE_PUT, UINT64_MAX, 0},
	{"get", STORE_GET, UINT64_MAX, 0},
	{"range_64k", STORE_GET, 65536, RANGE_DEPTH},
	{"range_4k", STORE_GET, 4096, RANGE_DEPTH},
	{"list", STORE_LIST, 4096, 1},
	{"delete", STORE_DELETE, 4096, DELETE_DEPTH},
};

struct args {
	struct cli_open open;
	const char *url;
	uint64_t size, depth;
	double seconds;
	unsigned phases; /* a bit each */
};

enum { OPT_SIZE = 's', OPT_DEPTH = 'd', OPT_SECONDS = 't', OPT_PHASES = 'p' };

static const struct argp_option options[] = {
	{"size", OPT_SIZE, "SIZE", 0, "of an object (8M)", 0},
	{"depth", OPT_DEPTH, "N", 0, "PUTs and GETs of whole objects in flight (4)", 0},
	{"seconds", OPT_SECONDS, "S", 0, "for each phase (10)", 0},
	{"phases", OPT_PHASES, "LIST", 0,
		"only these, of put,get,range_64k,range_4k,list: put is always one, and delete", 0},
	{0},
};

static unsigned parse_phases(const char *list)
{
	unsigned mask = 0, i;
	size_t n;

	for (;; list += n + 1) {
		n = strcspn(list, ",");
		for (i = 0; i < PHASES; i++)
			if (strlen(plan[i].name) == n && !strncmp(list, plan[i].name, n))
				break;
		if (i == PHASES)
			return 0;
		mask |= 1u << i;
		if (!list[n])
			return mask | 1u << 0 | 1u << (PHASES - 1);
	}
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;
	char *end;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->open;
		return 0;
	case OPT_SIZE:
		if (cli_parse_size(arg, &a->size) || a->size < 4096 || a->size > 256 << 20)
			argp_error(st, "--size: want 4K to 256M");
		return 0;
	case OPT_DEPTH:
		a->depth = strtoull(arg, &end, 10);
		if (*end || a->depth < 1 || a->depth > DEPTH_MAX)
			argp_error(st, "--depth: want 1 to %d", DEPTH_MAX);
		return 0;
	case OPT_SECONDS:
		a->seconds = strtod(arg, &end);
		if (*end || !(a->seconds > 0) || a->seconds > 3600)
			argp_error(st, "--seconds: want a number up to 3600");
		return 0;
	case OPT_PHASES:
		a->phases = parse_phases(arg);
		if (!a->phases)
			argp_error(st, "--phases: want some of put,get,range_64k,range_4k,list");
		return 0;
	case ARGP_KEY_ARG:
		if (a->url)
			argp_error(st, "one store URL");
		a->url = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->url)
			argp_error(st, "name a store, for example file:/srv/vols");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child kids[] = {{&cli_open_argp, 0, NULL, 10}, {0}};
static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "STORE-URL",
	.doc = "Measure a store: PUTs and GETs of whole objects, reads of 64 KiB and 4 KiB ranges "
	       "(32 in flight), lists and deletes, each for some seconds. It needs room for what "
	       "it puts in that time, 4 GiB at most, and deletes it at the end, also on Ctrl-C.\v"
	       "example: lsvd store-bench s3:bucket/vols --size 8M --depth 8 --seconds 10",
	.children = kids,
};

/* ---- one phase ---- */

struct slot {
	struct store_req r;
	struct iovec iov;
	struct bench *b;
	struct err err;
	char name[100];
	uint64_t start_ns;
};

struct figures {
	const char *name;
	uint64_t ops, bytes, ns;
	double p50_us, p99_us, p999_us, max_us;
	double spread_percent; /* of the rates of its slices */
};

struct bench {
	const struct args *a;
	struct loop *loop;
	struct store *store;
	char image[40];
	char *memory; /* for each slot, the size of an object */
	struct slot *slots;
	uint32_t *sample_us;
	unsigned objects; /* were put: 0 .. objects - 1 are there, or may be */
	uint64_t seed;
	/* the phase */
	enum store_op op;
	uint64_t bytes, start_ns, end_ns, ops, moved, next, last;
	uint64_t slice_ops[SLICES];
	unsigned in_flight;
	int failed;
	struct err why;
};

static uint64_t draw(struct bench *b)
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return b->seed;
}

static bool more(const struct bench *b)
{
	if (b->failed || (cli_interrupted && b->op != STORE_DELETE))
		return false;
	return b->next < b->last && loop_clock(b->loop) < b->end_ns;
}

static int count_item(struct store_req *r, const char *name, uint64_t size)
{
	(void)name, (void)size;
	((struct slot *)r)->b->moved++;
	return 0;
}

static void done(struct store_req *r, int64_t status);

static void submit(struct bench *b, struct slot *k)
{
	uint64_t n = b->next++, ranges = b->a->size / b->bytes;

	if (b->op == STORE_GET)
		n = b->bytes == b->a->size ? n % b->objects : draw(b) % b->objects;
	snprintf(k->name, sizeof(k->name), "%s/%08" PRIx64, b->image, n);
	if (b->op == STORE_LIST)
		snprintf(k->name, sizeof(k->name), "%s/", b->image);
	if (b->op == STORE_PUT) /* no two objects alike: some stores keep equal ones once */
		memcpy(k->iov.iov_base, &(uint64_t){draw(b)}, sizeof(uint64_t));
	k->b = b;
	k->r = (struct store_req){
		.op = b->op, .name = k->name, .err = &k->err, .done = done, .item = count_item};
	if (b->op == STORE_PUT || b->op == STORE_GET) {
		k->r.iov = &k->iov;
		k->r.iovcnt = 1;
		k->iov.iov_len = k->r.len_bytes = b->bytes;
		k->r.off_bytes = b->op == STORE_GET ? draw(b) % ranges * b->bytes : 0;
	}
	k->start_ns = loop_clock(b->loop);
	b->in_flight++;
	store_submit(b->store, &k->r);
}

static void count_slice(struct bench *b)
{
	uint64_t at = loop_clock(b->loop) - b->start_ns, all = b->end_ns - b->start_ns;

	if (at < all)
		b->slice_ops[(size_t)((double)at / (double)all * SLICES)]++;
}

static void done(struct store_req *r, int64_t status)
{
	struct slot *k = (struct slot *)r;
	struct bench *b = k->b;
	uint64_t us = (loop_clock(b->loop) - k->start_ns) / 1000;

	b->in_flight--;
	if (b->op == STORE_GET && status >= 0 && status != (int64_t)b->bytes)
		status = err_set(&k->err, -EIO, "%s: read %" PRId64 " bytes, not %" PRIu64, k->name,
			status, b->bytes);
	if (status < 0 && !b->failed) {
		b->failed = (int)status;
		snprintf(b->why.msg, sizeof(b->why.msg), "%s", err_text(&k->err, (int)status));
	}
	if (status >= 0) {
		if (b->ops < SAMPLES_MAX)
			b->sample_us[b->ops] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
		b->ops++;
		count_slice(b);
		b->moved += b->op == STORE_PUT || b->op == STORE_GET ? b->bytes : 0;
	}
	if (more(b))
		submit(b, k);
}

static int by_value(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, c = *(const uint32_t *)y;

	return a < c ? -1 : a > c;
}

/* The smallest sample that so many of a thousand are not above. */
static double percentile(const struct bench *b, uint64_t n, unsigned per_mille)
{
	return n ? b->sample_us[(n * per_mille + 999) / 1000 - 1] : 0;
}

/* Of the slices that were all used: a phase may end early, when there is enough, or nothing left.
 */
static double spread(const struct bench *b, uint64_t ns)
{
	unsigned n = (unsigned)((double)ns / (double)(b->end_ns - b->start_ns) * SLICES);
	uint64_t least = UINT64_MAX, most = 0, sum = 0;

	n = n < SLICES ? n : SLICES;
	for (unsigned i = 0; i < n; i++) {
		least = b->slice_ops[i] < least ? b->slice_ops[i] : least;
		most = b->slice_ops[i] > most ? b->slice_ops[i] : most;
		sum += b->slice_ops[i];
	}
	return n > 1 && sum ? 100.0 * (double)(most - least) * n / (double)sum : 0;
}

static uint64_t most_objects(const struct bench *b)
{
	uint64_t n = ((uint64_t)PUT_MAX_GIB << 30) / b->a->size;

	return n < OBJECTS_MAX ? n : OBJECTS_MAX;
}

static void phase(struct bench *b, const char *name, enum store_op op, uint64_t bytes,
	unsigned depth, struct figures *f)
{
	uint64_t start = loop_clock(b->loop), n, ns;

	memset(b->slice_ops, 0, sizeof(b->slice_ops));
	b->start_ns = start;
	b->op = op;
	b->bytes = bytes;
	b->ops = b->moved = b->next = 0;
	b->last = op == STORE_PUT ? most_objects(b) : op == STORE_DELETE ? b->objects : UINT64_MAX;
	b->end_ns = op == STORE_DELETE ? UINT64_MAX : start + (uint64_t)(b->a->seconds * 1e9);
	for (unsigned i = 0; i < depth && more(b); i++)
		submit(b, &b->slots[i]);
	if (op == STORE_PUT)
		b->objects = (unsigned)b->next;
	while (b->in_flight) {
		loop_poll(b->loop, LOOP_FOREVER);
		if (op == STORE_PUT)
			b->objects = (unsigned)b->next;
	}
	ns = loop_clock(b->loop) - start;
	n = b->ops < SAMPLES_MAX ? b->ops : SAMPLES_MAX;
	qsort(b->sample_us, n, sizeof(*b->sample_us), by_value);
	*f = (struct figures){.name = name,
		.ops = b->ops,
		.bytes = b->moved,
		.ns = ns,
		.spread_percent = spread(b, ns),
		.p50_us = percentile(b, n, 500),
		.p99_us = percentile(b, n, 990),
		.p999_us = percentile(b, n, 999),
		.max_us = percentile(b, n, 1000)};
}

/* ---- all of them ---- */

static unsigned measure(struct bench *b, struct figures f[PHASES])
{
	bool tell = isatty(STDERR_FILENO) && !b->a->open.quiet && !b->a->open.json;
	unsigned n = 0;
	int failed;

	for (unsigned i = 0; i < PHASES - 1 && !b->failed && !cli_interrupted; i++) {
		uint64_t size = b->a->size;

		if (!(b->a->phases >> i & 1))
			continue;
		if (tell)
			fprintf(stderr, "\r%-12s", plan[i].name);
		phase(b, plan[i].name, plan[i].op,
			size < plan[i].bytes_max ? size : plan[i].bytes_max,
			plan[i].depth ? plan[i].depth : (unsigned)b->a->depth, &f[n++]);
	}
	failed = b->failed; /* what is there goes, all the same */
	b->failed = 0;
	phase(b, "delete", STORE_DELETE, 4096, DELETE_DEPTH, &f[n++]);
	b->failed = b->failed ? b->failed : failed;
	if (tell)
		fprintf(stderr, "\r%-12s\r", "");
	return n;
}

static double per_s(uint64_t n, uint64_t ns)
{
	return ns ? (double)n * 1e9 / (double)ns : 0;
}

static bool is_list(const struct figures *f)
{
	return !strcmp(f->name, "list");
}

static void print_text(const struct bench *b, const struct figures *f, unsigned n)
{
	printf("%s: objects of %s, %" PRIu64 " in flight (ranges and lists: %d and 1), %g s each\n",
		b->store->url, cli_size(b->a->size), b->a->depth, RANGE_DEPTH, b->a->seconds);
	printf("%-10s %10s %12s %8s %10s %10s %10s %10s\n", "", "per s", "MB/s", "spread", "p50 ms",
		"p99 ms", "p99.9 ms", "max ms");
	for (unsigned i = 0; i < n; i++, f++)
		printf("%-10s %10.1f %12.1f %6.0f %% %10.2f %10.2f %10.2f %10.2f\n", f->name,
			per_s(f->ops, f->ns), is_list(f) ? 0.0 : per_s(f->bytes, f->ns) / 1e6,
			f->spread_percent, f->p50_us / 1e3, f->p99_us / 1e3, f->p999_us / 1e3,
			f->max_us / 1e3);
	for (; n--;)
		if (is_list(--f))
			printf("listed %.0f names per second\n", per_s(f->bytes, f->ns));
}

static void note_spread(const struct figures *f)
{
	if (f->spread_percent > SPREAD_NOTED)
		fprintf(stderr,
			"lsvd: the rate of %s is no steady one: parts of its time differ by %.0f "
			"%%; "
			"measure longer (--seconds), or when the machine and the store are "
			"quieter\n",
			f->name, f->spread_percent);
}

static void print_json(const struct bench *b, const struct figures *f, unsigned n)
{
	json_t *out = json_pack("{ss,sI,sI,sf,si}", "url", b->store->url, "size_bytes",
		(json_int_t)b->a->size, "depth", (json_int_t)b->a->depth, "seconds", b->a->seconds,
		"range_depth", RANGE_DEPTH);

	for (; n--; f++) {
		json_t *j = json_pack("{sI,sf,sf,sf,sf,sf,sf,sf}", "ops", (json_int_t)f->ops,
			"seconds", (double)f->ns / 1e9, "ops_per_s", per_s(f->ops, f->ns), "p50_us",
			f->p50_us, "p99_us", f->p99_us, "p999_us", f->p999_us, "max_us", f->max_us,
			"spread_percent", f->spread_percent);

		json_object_set_new(j, is_list(f) ? "names_per_s" : "bytes_per_s",
			json_real(per_s(f->bytes, f->ns)));
		json_object_set_new(out, f->name, j);
	}
	cli_print_json(out);
}

static bool allocate(struct bench *b)
{
	size_t slots = DELETE_DEPTH,
	       buffers = b->a->depth > RANGE_DEPTH ? b->a->depth : RANGE_DEPTH;
	size_t each = (b->a->size + 4095) & ~(size_t)4095;

	b->slots = calloc(slots, sizeof(*b->slots));
	b->sample_us = malloc(SAMPLES_MAX * sizeof(*b->sample_us));
	b->memory = aligned_alloc(4096, buffers * each);
	if (!b->slots || !b->sample_us || !b->memory)
		return false;
	for (size_t i = 0; i < buffers * each / 8; i++) /* not to be compressed, and faulted in */
		memcpy(b->memory + 8 * i, &(uint64_t){draw(b)}, 8);
	for (size_t i = 0; i < buffers; i++)
		b->slots[i].iov = (struct iovec){b->memory + i * each, b->a->size};
	return true;
}

static int open_store(const struct args *a, struct bench *b)
{
	struct lsvd_config *cfg;
	struct err e = {.msg = ""};
	struct config c;
	int rc = cli_open_config(&a->open, &cfg);

	if (rc)
		return rc;
	rc = config_resolve(cfg, NULL, &c, &e);
	lsvd_config_free(cfg);
	if (rc == 0)
		rc = loop_uring_new(1024, &b->loop, &e);
	if (rc == 0)
		rc = store_open(b->loop, a->url, &c, STORE_CREATE, &b->store, &e);
	return rc < 0 ? cli_fail("%s", err_text(&e, rc)) : CLI_OK;
}

static int bench(struct bench *b)
{
	struct figures f[PHASES];
	unsigned n;

	b->seed = loop_random(b->loop) | 1;
	snprintf(b->image, sizeof(b->image), "store-bench-%016" PRIx64, draw(b));
	if (!allocate(b))
		return cli_fail("out of memory");
	cli_catch_signals();
	n = measure(b, f);
	if (b->failed)
		return cli_fail("%s", err_text(&b->why, b->failed));
	if (cli_interrupted)
		return cli_fail("interrupted; what was put is deleted");
	note_spread(&f[0]);
	if (b->a->open.json)
		print_json(b, f, n);
	else
		print_text(b, f, n);
	return CLI_OK;
}

static int run(int argc, char **argv)
{
	struct args a = {.size = 8 << 20, .depth = 4, .seconds = 10, .phases = (1u << PHASES) - 1};
	struct bench b = {.a = &a};
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = open_store(&a, &b);
	if (rc == CLI_OK)
		rc = bench(&b);
	store_close(b.store);
	if (b.loop)
		loop_free(b.loop);
	free(b.slots);
	free(b.sample_us);
	free(b.memory);
	return rc;
}

static struct cli_command command = {
	.name = "store-bench", .summary = "measure a store: rates and latencies", .run = run};

__attribute__((constructor)) static void ctor(void)
{
	cli_register(&command);
}
