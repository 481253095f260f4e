/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* convert.c - see convert.h. */
#include "trace/convert.h"
#include "trace/sorter.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

struct convert {
	const struct convert_options *opt;
	struct convert_result *res;
	struct trace_import *in;
	struct trace_export **out; /* one; or, split, one a volume */
	struct sorter *sorter;
	const char *output;
	uint32_t *slot, slots; /* of a hash table: volume + 1; 0 = free */
	uint32_t room;	       /* of res->volumes and out */
};

/* ---- volumes by name ---- */

static uint32_t hash_of(const char *s, size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)s[i]) * 16777619u;
	return h ^ h >> 15;
}

static uint32_t *find(const struct convert *c, const char *name, size_t n)
{
	uint32_t i = hash_of(name, n) & (c->slots - 1);

	for (; c->slot[i]; i = (i + 1) & (c->slots - 1)) {
		const char *s = c->res->volumes[c->slot[i] - 1].name;

		if (!strncmp(s, name, n) && !s[n])
			break;
	}
	return &c->slot[i];
}

static int grow(struct convert *c)
{
	uint32_t room = c->room ? 2 * c->room : 64, *slot = calloc(4 * (size_t)room, sizeof(*slot));
	struct convert_volume *v = realloc(c->res->volumes, room * sizeof(*v));
	struct trace_export **out = realloc(c->out, room * sizeof(struct trace_export *));

	c->res->volumes = v ? v : c->res->volumes;
	c->out = out ? out : c->out;
	if (!slot || !v || !out) {
		free(slot);
		return -ENOMEM;
	}
	free(c->slot);
	c->slot = slot;
	c->slots = 4 * room;
	for (uint32_t i = c->room; i < room; i++)
		out[i] = NULL;
	c->room = room;
	for (uint32_t i = 0; i < c->res->n_volumes; i++)
		*find(c, v[i].name, strlen(v[i].name)) = i + 1;
	return 0;
}

static int volume_of(struct convert *c, const char *name, size_t n, uint32_t *index)
{
	struct convert_volume *v;
	uint32_t *slot;

	if (c->res->n_volumes == c->room && grow(c) < 0)
		return -ENOMEM;
	slot = find(c, name, n);
	if (!*slot) {
		v = &c->res->volumes[c->res->n_volumes];
		*v = (struct convert_volume){.name = strndup(name, n)};
		if (!v->name)
			return -ENOMEM;
		*slot = ++c->res->n_volumes;
	}
	*index = *slot - 1;
	return 0;
}

static void count(struct convert_volume *v, const struct trace_record *r)
{
	uint64_t end = r->offset_bytes + r->len_bytes;

	v->requests++;
	v->read_bytes += r->op == TRACE_READ ? r->len_bytes : 0;
	v->write_bytes += r->op == TRACE_WRITE ? r->len_bytes : 0;
	if (r->op != TRACE_FLUSH && end > v->end_bytes)
		v->end_bytes = end;
}

/* ---- outputs ---- */

static int open_output(struct convert *c, const char *path, uint32_t index, struct err *e)
{
	struct trace_header h = *trace_import_header(c->in);

	if (c->opt->size_bytes)
		h.size_bytes = c->opt->size_bytes;
	if (c->opt->comment)
		snprintf(h.comment, sizeof(h.comment), "%s", c->opt->comment);
	return trace_export_open(path, &c->opt->out, &h, &c->out[index], e);
}

/* A name that is a file's in the folder and no other's: what is neither letter, digit nor one of
 * -_. becomes _, and then the volume's number follows. */
static int split_output(struct convert *c, uint32_t index, struct err *e)
{
	const char *name = c->res->volumes[index].name[0] ? c->res->volumes[index].name : "volume";
	char path[4096];
	bool odd = false;
	int n = snprintf(path, sizeof(path), "%s/", c->output);

	for (size_t i = 0; name[i] && n < (int)sizeof(path) - 64; i++) {
		bool fine = isalnum((unsigned char)name[i]) || name[i] == '-' || name[i] == '_' ||
			    (name[i] == '.' && i);

		path[n++] = fine ? name[i] : '_';
		odd = odd || !fine;
	}
	if (odd)
		snprintf(path + n, sizeof(path) - (size_t)n, "~%u.trace", index);
	else
		snprintf(path + n, sizeof(path) - (size_t)n, ".trace");
	return open_output(c, path, index, e);
}

static int put(struct convert *c, const struct trace_record *r, uint32_t index, struct err *e)
{
	int rc = 0;

	if (!c->opt->out.format)
		return 0;
	if (!c->out[index])
		rc = c->opt->split ? split_output(c, index, e)
				   : open_output(c, c->output, index, e);
	if (rc == 0 && (rc = trace_export_add(c->out[index], r, e)) < 0)
		c->out[index] = NULL; /* gone by itself */
	return rc;
}

/* As many files as there are volumes. */
static int prepare_folder(struct convert *c, struct err *e)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	if (mkdir(c->output, 0777) < 0 && errno != EEXIST)
		return err_set(e, -errno, "folder '%s': %s", c->output, strerror(errno));
	return 0;
}

/* ---- the pass ---- */

/* One request of the input; its volume's number is 0 unless they are told apart. */
static int one(struct convert *c, const struct trace_record *r, struct err *e)
{
	const char *name;
	size_t n;
	uint32_t index = 0, tag;
	struct trace_record out;

	name = trace_import_volume(c->in, &n);
	if (volume_of(c, name, n, &index) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	count(&c->res->volumes[index], r);
	return sorter_put(c->sorter, r, index, &out, &tag) ? put(c, &out, tag, e) : 0;
}

static int tick(struct convert *c, struct err *e)
{
	uint64_t total, done = trace_import_done(c->in, &total);
	int rc = c->opt->progress ? c->opt->progress(c->opt->arg, done, total) : 0;

	return rc < 0 ? err_set(e, rc, "interrupted") : 0;
}

static int pass(struct convert *c, struct err *e)
{
	struct trace_record r;
	uint64_t n = 0;
	uint32_t tag;
	int rc = 0;

	while (rc == 0 && (rc = trace_import_next(c->in, &r, e)) > 0) {
		rc = one(c, &r, e);
		if (rc == 0 && ++n % 16384 == 0)
			rc = tick(c, e);
	}
	while (rc == 0 && sorter_take(c->sorter, &r, &tag))
		rc = put(c, &r, tag, e);
	return rc;
}

/* All or none: once one cannot be finished, or the pass failed, the others are removed too. */
static int finish(struct convert *c, int rc, struct err *e)
{
	const struct trace_counts *n = trace_import_counts(c->in);

	if (rc == 0 && c->opt->out.format && !c->opt->split && !c->res->n_volumes) {
		rc = grow(c) < 0 ? -ENOMEM
				 : open_output(c, c->output, 0, e); /* no request at all */
		c->res->n_volumes = 0;
	}
	for (uint32_t i = 0; i < c->room; i++) {
		if (rc == 0 && c->out[i])
			rc = trace_export_close(c->out[i], n->dropped + n->skipped_records, e);
		else
			trace_export_cancel(c->out[i]);
	}
	c->res->stats = *trace_import_stats(c->in);
	c->res->counts = *n;
	c->res->late = c->sorter ? sorter_late(c->sorter) : 0;
	return rc;
}

int convert_run(const char *input, const char *output, const struct convert_options *opt,
	struct convert_result *res, struct err *e)
{
	struct convert c = {.opt = opt, .res = res, .output = output, .sorter = sorter_new()};
	struct trace_import_options in = opt->in;
	int rc;

	*res = (struct convert_result){0};
	in.all_volumes = opt->split || !opt->out.format;
	in.size_bytes = opt->size_bytes;
	rc = trace_import_open(input, &in, &c.in, e);
	if (rc == 0 && !c.sorter)
		rc = err_set(e, -ENOMEM, "out of memory");
	if (rc == 0 && opt->split)
		rc = prepare_folder(&c, e);
	if (rc == 0)
		rc = pass(&c, e);
	if (c.in) {
		res->format = trace_import_format(c.in);
		rc = finish(&c, rc, e);
	}
	trace_import_close(c.in);
	sorter_free(c.sorter);
	free(c.slot);
	free(c.out);
	return rc;
}

void convert_result_fini(struct convert_result *res)
{
	for (uint32_t i = 0; i < res->n_volumes; i++)
		free(res->volumes[i].name);
	free(res->volumes);
	*res = (struct convert_result){0};
}
