/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* study.c - see study.h. */
#include "trace/study.h"
#include "trace/sorter.h"

#include <errno.h>
#include <string.h>

static const uint64_t oversize = 4ull << 30;

static bool wanted(const struct study *s, const struct trace_record *r)
{
	if (r->op > TRACE_WRITE || !r->len_bytes)
		return false;
	return s->opt.ops == STUDY_ALL || (s->opt.ops == STUDY_WRITES) == (r->op == TRACE_WRITE);
}

static int touch(struct study *s, uint64_t block, bool write, uint64_t unit)
{
	struct reuse_touch t;
	int rc = reuse_touch(&s->reuse, block, write, unit, &t);

	if (rc == 0 && t.weight > 0)
		windows_touch(s->windows, unit, t.first, t.stamp, t.weight);
	if (rc == 0 && s->opt.exact_too)
		rc = reuse_touch(&s->exact, block, write, unit, &t);
	windows_heat(s->windows, unit, block, write);
	return rc;
}

static int add(struct study *s, const struct trace_record *r)
{
	uint64_t unit = windows_unit(s->windows, r->submit_ns), block = s->opt.block_bytes, last;
	uint64_t done = r->complete_ns ? r->complete_ns : r->submit_ns;
	bool write = r->op == TRACE_WRITE;
	int rc = 0;

	if (!wanted(s, r))
		return 0;
	if (r->len_bytes > oversize) {
		s->oversized++;
		return 0;
	}
	s->requests++;
	*(write ? &s->write_bytes : &s->read_bytes) += r->len_bytes;
	if (r->offset_bytes + r->len_bytes > s->end_bytes)
		s->end_bytes = r->offset_bytes + r->len_bytes;
	if (done > s->duration_ns)
		s->duration_ns = done;
	windows_request(s->windows, unit, write ? 0 : r->len_bytes, write ? r->len_bytes : 0);
	last = (r->offset_bytes + r->len_bytes - 1) / block;
	for (uint64_t k = r->offset_bytes / block; k <= last && rc == 0; k++)
		rc = touch(s, k, write, unit);
	return rc;
}

static int pass(struct study *s, struct trace_import *in, struct sorter *sorter, struct err *e)
{
	struct trace_record r, out;
	uint64_t n = 0, done, total;
	uint32_t tag;
	int rc = 0;

	while (rc == 0 && (rc = trace_import_next(in, &r, e)) > 0) {
		rc = sorter_put(sorter, &r, 0, &out, &tag) ? add(s, &out) : 0;
		if (rc < 0)
			return err_set(e, rc, "out of memory: sample with --samples");
		if (++n % 16384 == 0 && s->opt.progress) {
			done = trace_import_done(in, &total);
			rc = s->opt.progress(s->opt.arg, done, total);
			if (rc < 0)
				return err_set(e, rc, "interrupted");
		}
	}
	while (rc == 0 && sorter_take(sorter, &out, &tag))
		if (add(s, &out) < 0)
			return err_set(e, -ENOMEM, "out of memory: sample with --samples");
	return rc;
}

static int start(struct study *s)
{
	s->windows = windows_new(s->opt.unit_ns);
	if (!s->windows || reuse_init(&s->reuse, s->opt.rate, s->opt.samples) < 0)
		return -ENOMEM;
	return s->opt.exact_too ? reuse_init(&s->exact, 1, 0) : 0;
}

int study_run(const char *path, const struct study_options *opt, struct study *s, struct err *e)
{
	struct sorter *sorter = sorter_new();
	struct trace_import *in = NULL;
	int rc;

	memset(s, 0, sizeof(*s));
	s->opt = *opt;
	rc = trace_import_open(path, &opt->in, &in, e);
	if (rc == 0 && (!sorter || start(s) < 0))
		rc = err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = pass(s, in, sorter, e);
	if (rc == 0) {
		reuse_finish(&s->reuse);
		if (opt->exact_too)
			reuse_finish(&s->exact);
		s->late = sorter_late(sorter);
		s->stats = *trace_import_stats(in);
		s->counts = *trace_import_counts(in);
		s->header = *trace_import_header(in);
	} else {
		study_fini(s);
	}
	trace_import_close(in);
	sorter_free(sorter);
	return rc;
}

void study_fini(struct study *s)
{
	reuse_fini(&s->reuse);
	reuse_fini(&s->exact);
	windows_free(s->windows);
	s->windows = NULL;
}

uint64_t study_largest(const struct study *s)
{
	const struct curve *c = s->opt.exact_too ? &s->exact.curve : &s->reuse.curve;
	unsigned b = CURVE_BUCKETS;

	while (b > 1 && c->count[b - 1] <= 0)
		b--;
	return curve_limit(b - 1);
}
