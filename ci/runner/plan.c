/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plan.c - the list of parts, running it, and saying where it is. */
#include "ci/runner/bench.h"
#include "cli/cli.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

bool plan_wants(const struct bench *b, const char *id)
{
	return !b->only || !fnmatch(b->only, id, 0);
}

struct part *plan_add(struct bench *b, double seconds,
	int (*run)(struct bench *, const struct part *, struct err *), const char *fmt, ...)
{
	struct part p = {.seconds = seconds, .run = run}, *list;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p.id, sizeof(p.id), fmt, ap);
	va_end(ap);
	if (!plan_wants(b, p.id))
		return NULL;
	list = realloc(b->parts, (b->nparts + 1) * sizeof(*list));
	if (!list)
		abort();
	b->parts = list;
	b->parts[b->nparts] = p;
	return &b->parts[b->nparts++];
}

/* What is left: the estimates, scaled by how wrong they were so far. */
static double left_s(const struct bench *b)
{
	double done = 0, left = 0, spent = now_s() - b->begun_s;

	for (size_t i = 0; i < b->nparts; i++)
		*(i < b->at ? &done : &left) += b->parts[i].seconds;
	if (done > 20)
		left *= spent / done;
	return left;
}

static void clock_text(char *out, size_t size, double s)
{
	snprintf(out, size, "%d:%02d", (int)s / 60, (int)s % 60);
}

static void head(const struct bench *b)
{
	char spent[16], left[16];

	clock_text(spent, sizeof(spent), now_s() - b->begun_s);
	clock_text(left, sizeof(left), left_s(b));
	printf("%s[%s, ~%s left] ", b->tty ? "\r\033[K" : "", spent, left);
}

void say(struct bench *b, const char *fmt, ...)
{
	va_list ap;

	head(b);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void say_now(struct bench *b, const char *fmt, ...)
{
	va_list ap;

	if (!b->tty)
		return;
	head(b);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	fputs(" ...", stdout);
	fflush(stdout);
}

unsigned plan_run(struct bench *b)
{
	unsigned failed = 0;

	b->begun_s = now_s();
	for (b->at = 0; b->at < b->nparts && !cli_interrupted; b->at++) {
		const struct part *p = &b->parts[b->at];
		struct err e = {0};
		int rc = p->run(b, p, &e);

		if (!rc)
			continue;
		failed++;
		if (!cli_interrupted)
			say(b, "%s FAILED: %s", p->id, err_text(&e, rc));
	}
	return failed;
}
