/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* import.c - see import.h: what all formats have in common. */
#include "trace/import.h"
#include "trace/formats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 4096, SEEN_MAX = 8, VOLUME_MAX = 256 };

struct trace_import {
	struct trace_in in;
	const struct trace_format *format;
	struct trace_import_options opt;
	struct trace_import_stats stats;
	struct trace_header header;
	bool begun; /* a request was seen: base_ns holds */
	uint64_t base_ns;
	char volume[VOLUME_MAX]; /* the one that is taken */
	size_t volume_bytes;
	char seen[SEEN_MAX][VOLUME_MAX]; /* others, to name in an error */
	unsigned n_seen;
};

static int choose(struct trace_import *im, struct err *e)
{
	const uint8_t *head;
	size_t n;

	if (im->opt.format) {
		im->format = trace_format_find(im->opt.format, false, e);
		return im->format ? 0 : -EINVAL;
	}
	n = trace_input_peek(im->in.input, HEAD, &head);
	im->format = n ? trace_format_guess(head, n) : &trace_format_lsvd;
	return 0;
}

static int start(struct trace_import *im, struct err *e)
{
	int rc = choose(im, e);

	if (rc < 0)
		return rc;
	im->in.binary = im->format->binary;
	if (im->format->in_bytes && !(im->in.state = calloc(1, im->format->in_bytes)))
		return err_set(e, -ENOMEM, "out of memory");
	if (im->opt.volume) {
		im->volume_bytes = strlen(im->opt.volume);
		if (im->volume_bytes >= VOLUME_MAX)
			return err_set(e, -EINVAL, "the name of the volume is too long");
		memcpy(im->volume, im->opt.volume, im->volume_bytes);
	}
	return im->format->open ? im->format->open(&im->in, e) : 0;
}

int trace_import_take(struct trace_input *input, const struct trace_import_options *opt,
	struct trace_import **out, struct err *e)
{
	struct trace_import *im = calloc(1, sizeof(*im));
	int rc;

	if (!im) {
		trace_input_close(input);
		return err_set(e, -ENOMEM, "out of memory");
	}
	im->in.input = input;
	if (opt)
		im->opt = *opt;
	rc = start(im, e);
	if (rc < 0) {
		trace_import_close(im);
		return rc;
	}
	*out = im;
	return 0;
}

int trace_import_open(const char *path, const struct trace_import_options *opt,
	struct trace_import **out, struct err *e)
{
	struct trace_input *input;
	int rc = trace_input_open(path, &input, e);

	return rc < 0 ? rc : trace_import_take(input, opt, out, e);
}

/* ---- one volume of several ---- */

static bool same(const char *a, size_t n, const char *b, size_t m)
{
	return n == m && !memcmp(a, b, n);
}

static void see(struct trace_import *im, const char *v, size_t n)
{
	if (im->n_seen == SEEN_MAX || n >= VOLUME_MAX)
		return;
	for (unsigned i = 0; i < im->n_seen; i++)
		if (same(im->seen[i], strlen(im->seen[i]), v, n))
			return;
	memcpy(im->seen[im->n_seen++], v, n);
}

static int no_such_volume(struct trace_import *im, struct err *e)
{
	char names[SEEN_MAX * 40] = "";

	for (unsigned i = 0; i < im->n_seen; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%.30s",
			i ? ", " : "", im->seen[i]);
	return err_set(e, -ENOENT, "'%s' has no request to volume '%s'; it has %s%s",
		trace_input_name(im->in.input), im->volume, im->n_seen ? names : "no volumes",
		im->n_seen == SEEN_MAX ? " ..." : "");
}

/* 1: taken; 0: left out. */
static int of_volume(struct trace_import *im, struct err *e)
{
	const char *v = im->in.volume;
	size_t n = im->in.volume_bytes;

	if (!v && im->opt.volume)
		return no_such_volume(im, e);
	if (!v || im->opt.all_volumes)
		return 1;
	if (!im->begun && !im->opt.volume && n < VOLUME_MAX) {
		memcpy(im->volume, v, n);
		im->volume_bytes = n;
	}
	if (same(v, n, im->volume, im->volume_bytes))
		return 1;
	if (im->opt.volume) {
		see(im, v, n);
		im->stats.others++;
		return 0;
	}
	return err_set(e, -EINVAL,
		"%s:%" PRIu64 ": requests to '%s' and to '%.*s': choose one with --volume, "
		"or import all with --split",
		trace_input_name(im->in.input), im->in.at, im->volume, (int)n, v);
}

/* ---- the requests ---- */

/* What follows only holds for a format with its own times. */
static void base(struct trace_import *im, struct trace_record *r)
{
	uint64_t t = r->submit_ns;

	if (im->format->clock == TRACE_CLOCK_START)
		return;
	if (!im->begun) {
		im->base_ns = t;
		if (im->format->clock == TRACE_CLOCK_WALL)
			im->in.header.start_wall_ns = t;
	}
	im->stats.early += t < im->base_ns;
	r->submit_ns = t > im->base_ns ? t - im->base_ns : 0;
	if (r->complete_ns)
		r->complete_ns = r->complete_ns > im->base_ns ? r->complete_ns - im->base_ns : 0;
}

static int check(struct trace_import *im, const struct trace_record *r, struct err *e)
{
	const char *what = "it is too large";

	if (trace_record_ok(r) && (!im->opt.size_bytes || r->op == TRACE_FLUSH ||
					  r->offset_bytes + r->len_bytes <= im->opt.size_bytes))
		return 0;
	if (trace_record_ok(r))
		what = "it ends beyond the size of the volume";
	else if (r->complete_ns && r->complete_ns < r->submit_ns)
		what = "it completes before it is submitted";
	return trace_in_bad(&im->in, e, "impossible request:", what);
}

/* A line that is bad: 0 to go on behind it. */
static int bad(struct trace_import *im, int rc, const struct err *e)
{
	if (rc != -EINVAL || !im->opt.skip_bad)
		return rc;
	if (!im->stats.bad++ && e)
		snprintf(im->stats.first_bad, sizeof(im->stats.first_bad), "%.199s", e->msg);
	return 0;
}

int trace_import_next(struct trace_import *im, struct trace_record *r, struct err *e)
{
	struct err mine = {0};
	int rc;

	for (;;) {
		*r = (struct trace_record){0};
		rc = im->format->next(&im->in, r, e ? e : &mine);
		if (rc == 0) {
			bool none = im->opt.volume && !im->stats.requests;

			im->in.counts.records = im->stats.requests;
			im->stats.ignored = im->in.ignored;
			return none ? no_such_volume(im, e) : 0;
		}
		if (rc == 1)
			rc = check(im, r, e ? e : &mine);
		if (rc < 0 && bad(im, rc, e ? e : &mine) < 0)
			return rc;
		if (rc != 0)
			continue;
		rc = of_volume(im, e);
		if (rc < 0)
			return rc;
		base(im, r);
		im->begun = true;
		if (rc == 1)
			break;
	}
	im->stats.requests++;
	return 1;
}

const char *trace_import_volume(const struct trace_import *im, size_t *bytes)
{
	*bytes = im->in.volume ? im->in.volume_bytes : 0;
	return im->in.volume ? im->in.volume : "";
}

const char *trace_import_format(const struct trace_import *im)
{
	return im->format->name;
}

const struct trace_header *trace_import_header(const struct trace_import *im)
{
	return &im->in.header;
}

const struct trace_counts *trace_import_counts(const struct trace_import *im)
{
	return &im->in.counts;
}

const struct trace_import_stats *trace_import_stats(const struct trace_import *im)
{
	return &im->stats;
}

uint64_t trace_import_done(const struct trace_import *im, uint64_t *total)
{
	*total = trace_input_size(im->in.input);
	return trace_input_done(im->in.input);
}

void trace_import_close(struct trace_import *im)
{
	if (!im)
		return;
	if (im->format && im->format->close && (im->in.state || !im->format->in_bytes))
		im->format->close(&im->in);
	free(im->in.state);
	trace_input_close(im->in.input);
	free(im);
}
