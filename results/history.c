/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* history.c - reads the runs of a directory, and follows a figure through them. */
#include "results/history.h"
#include "results/find.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool same_bench(const struct results *a, const struct results *b)
{
	return a->profile == b->profile && !strcmp(a->machine.cpu, b->machine.cpu) &&
	       a->machine.cores == b->machine.cores && !strcmp(a->machine.disk, b->machine.disk);
}

/* Of two that began in the same second neither is later. */
static bool earlier(const struct results *a, const struct results *b)
{
	return a->time_s < b->time_s ||
	       (a->time_s == b->time_s && (strcmp(a->commit, b->commit) || a->dirty != b->dirty));
}

static void take(struct history *h, const char *path, const struct results *run)
{
	struct err why = {0};
	struct results *r;

	if (results_read(path, &r, &why)) {
		fprintf(stderr, "left out: %s\n", why.msg);
		return;
	}
	if (earlier(r, run) && same_bench(r, run)) {
		h->runs[h->n++] = r;
		return;
	}
	h->others += earlier(r, run);
	results_free(r);
}

int history_load(const char *dir, struct results *run, struct history *h, struct err *e)
{
	struct results_files f;
	int rc = results_files(dir, &f, e);

	*h = (struct history){0};
	if (rc == -ENOENT)
		rc = 0;
	if (!rc) {
		h->runs = calloc(f.n + 1, sizeof(struct results *));
		if (!h->runs)
			rc = err_set(e, -ENOMEM, "no memory");
	}
	for (size_t i = 0; !rc && i < f.n; i++)
		take(h, f.paths[i], run);
	results_files_free(&f);
	if (!rc)
		h->own = h->runs[h->n++] = run;
	return rc;
}

void history_free(struct history *h)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->runs[i] != h->own)
			results_free(h->runs[i]);
	free(h->runs);
	*h = (struct history){0};
}

/* ---- in the order of commits ---- */

static bool is_commit(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return n >= 7 && n <= 40 && !s[n];
}

static bool same_commit(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);

	return !strncmp(a, b, na < nb ? na : nb);
}

int history_order(struct history *h, FILE *in, const char *file, struct err *e)
{
	struct results **sorted = calloc(h->n, sizeof(struct results *));
	size_t room = 0, n = 0, before = h->n;
	char *text = NULL;
	unsigned line = 0;
	int rc = sorted ? 0 : err_set(e, -ENOMEM, "no memory");

	while (!rc && getline(&text, &room, in) > 0) {
		line++;
		text[strcspn(text, " \t\n")] = 0;
		if (!is_commit(text))
			rc = err_set(
				e, -EINVAL, "%s:%u: '%s' is not a commit's hash", file, line, text);
		for (size_t i = 0; !rc && i < h->n; i++)
			if (h->runs[i] && same_commit(h->runs[i]->commit, text)) {
				sorted[n++] = h->runs[i];
				h->runs[i] = NULL;
			}
	}
	free(text);
	if (!rc && !n)
		rc = err_set(e, -EINVAL, "%s: no run is of one of these %u commits", file, line);
	/* Who frees what: the caller's own run, wherever it is now, is not the history's. */
	for (size_t i = 0; i < h->n; i++)
		if (h->runs[i] && h->runs[i] != h->own)
			results_free(h->runs[i]);
	h->others += before - n;
	free(h->runs);
	h->runs = sorted;
	h->n = sorted ? n : 0;
	return rc;
}

/* ---- a figure ---- */

static bool comparable(const struct results_figure *a, const struct results_figure *b)
{
	return a && !strcmp(a->unit, b->unit) && a->direction == b->direction &&
	       json_equal(a->params, b->params);
}

int history_series(const struct history *h, const char *name, const struct change_rule *rule,
	struct series *s, struct err *e)
{
	long n;

	*s = (struct series){0};
	for (size_t i = h->n; i-- > 0 && !s->figure;)
		s->figure = results_find(h->runs[i], name);
	if (!s->figure)
		return err_set(e, -ENOENT, "no run has a figure '%s'", name);
	s->run = calloc(h->n, sizeof(*s->run));
	s->median = calloc(h->n, sizeof(*s->median));
	s->changes = calloc(h->n, sizeof(*s->changes));
	if (!s->run || !s->median || !s->changes)
		return err_set(e, -ENOMEM, "no memory");
	for (size_t i = 0; i < h->n; i++) {
		const struct results_figure *f = results_find(h->runs[i], name);

		if (!comparable(f, s->figure))
			continue;
		s->run[s->n] = i;
		s->median[s->n++] = f->sum.median;
	}
	n = changes_find(s->median, s->n, results_exact(s->figure), rule, s->changes);
	if (n < 0)
		return err_set(e, (int)n, "%s: %zu runs are too many to search", name, s->n);
	s->nchanges = (size_t)n;
	return 0;
}

void series_free(struct series *s)
{
	free(s->run);
	free(s->median);
	free(s->changes);
	*s = (struct series){0};
}

const char *change_verdict(const struct results_figure *f, const struct change *c)
{
	if (f->direction == RESULTS_NONE)
		return "changed";
	return (c->effect > 0) == (f->direction == RESULTS_HIGHER) ? "better" : "worse";
}

const char *run_label(const struct results *r)
{
	static char ring[8][16];
	static unsigned at;
	char *buf = ring[at++ % 8];

	snprintf(buf, sizeof(ring[0]), "%.7s%s", r->commit, r->dirty ? "+" : "");
	return buf;
}
