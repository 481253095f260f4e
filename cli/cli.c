/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

volatile int cli_interrupted;
struct cli_command *cli_commands;

void cli_register(struct cli_command *c)
{
	struct cli_command **p = &cli_commands;

	while (*p && strcmp((*p)->name, c->name) < 0)
		p = &(*p)->next;
	c->next = *p;
	*p = c;
}

int cli_fail(const char *fmt, ...)
{
	va_list ap;

	fputs("lsvd: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_FAILED;
}

static void print_subs(FILE *f, const char *name, const struct cli_sub *subs)
{
	fprintf(f, "usage: lsvd %s COMMAND [OPTION...]\n\ncommands:\n", name);
	for (; subs->name; subs++)
		fprintf(f, "  %-10s %s\n", subs->name, subs->summary);
	fprintf(f, "\n`lsvd %s COMMAND --help` tells more.\n", name);
}

int cli_dispatch(const char *name, const struct cli_sub *subs, int argc, char **argv)
{
	static char full[80];

	if (argc < 2) {
		print_subs(stderr, name, subs);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-?")) {
		print_subs(stdout, name, subs);
		return CLI_OK;
	}
	for (const struct cli_sub *s = subs; s->name; s++) {
		if (strcmp(s->name, argv[1]))
			continue;
		snprintf(full, sizeof(full), "lsvd %s %s", name, s->name);
		argv[1] = full;
		return s->run(argc - 1, argv + 1);
	}
	fprintf(stderr, "lsvd %s: no command '%s'\n", name, argv[1]);
	print_subs(stderr, name, subs);
	return CLI_USAGE;
}

int cli_parse_size(const char *s, uint64_t *bytes)
{
	static const char units[] = "KMGTPE";
	char *end;
	double v, scale = 1;

	errno = 0;
	v = strtod(s, &end);
	if (end == s || errno || !(v >= 0))
		return -EINVAL;
	if (*end) {
		const char *u = strchr(units, toupper((unsigned char)*end));

		if (u) {
			for (const char *q = units; q <= u; q++)
				scale *= 1024;
			end++;
			if (*end == 'i')
				end++;
		}
		if (*end == 'B' || *end == 'b')
			end++;
		if (*end)
			return -EINVAL;
	}
	v *= scale;
	if (v >= 9.2e18)
		return -EINVAL;
	*bytes = (uint64_t)v;
	return 0;
}

const char *cli_size(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	static char ring[8][32];
	static unsigned next;
	char *out = ring[next++ % 8];
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	snprintf(out, sizeof(ring[0]), v == (double)(uint64_t)v ? "%.0f %s" : "%.2f %s", v, units[u]);
	return out;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ", 12 s left", when that can be told. */
static const char *eta(const struct cli_progress *p, double secs)
{
	static char text[40];
	double left;

	if (!p->done || p->done >= p->total)
		return "             ";
	left = secs * ((double)p->total / (double)p->done - 1);
	snprintf(text, sizeof(text), ", %.0f s left   ", left < 1e6 ? left : 1e6);
	return text;
}

static void draw(struct cli_progress *p, uint64_t now)
{
	double secs = (double)(now - p->start_ns) / 1e9;
	const char *rate = cli_size(secs > 0 ? (uint64_t)((double)p->done / secs) : 0);
	int percent = p->total ? (int)(100.0 * (double)p->done / (double)p->total) : 0;

	if (!p->total) {
		fprintf(stderr, "%s%s: %s, %s/s%s", p->tty ? "\r" : "", p->what, cli_size(p->done), rate,
			p->tty ? "     " : "\n");
	} else if (p->tty) {
		char bar[31] = "                              ";

		memset(bar, '#', (size_t)(percent > 100 ? 100 : percent) * 30 / 100);
		fprintf(stderr, "\r%s [%s] %3d%% %s/s%s  ", p->what, bar, percent, rate, eta(p, secs));
	} else {
		fprintf(stderr, "%s: %d%% (%s of %s, %s/s)\n", p->what, percent, cli_size(p->done),
			cli_size(p->total), rate);
	}
}

void cli_progress_begin(struct cli_progress *p, const char *what, uint64_t total, bool quiet)
{
	*p = (struct cli_progress){.what = what, .total = total, .quiet = quiet,
		.tty = isatty(STDERR_FILENO), .start_ns = now_ns()};
	p->last_ns = p->start_ns;
}

void cli_progress_at(struct cli_progress *p, uint64_t done)
{
	uint64_t now = now_ns();

	p->done = done;
	if (p->quiet || now - p->last_ns < (p->tty ? 200000000u : 5000000000u))
		return;
	p->last_ns = now;
	draw(p, now);
}

void cli_progress_end(struct cli_progress *p)
{
	if (p->quiet || !p->tty)
		return;
	p->done = p->total ? p->total : p->done;
	draw(p, now_ns());
	fputc('\n', stderr);
}

static void interrupt(int sig)
{
	(void)sig;
	cli_interrupted = 1;
}

void cli_catch_signals(void)
{
	struct sigaction sa = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

void cli_print_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
	fputc('\n', stdout);
	json_decref(j);
}
