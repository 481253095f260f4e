/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pagehistory.c - the part of the page that looks back: change points, and a trend for each figure.
 */
#include "results/page.h"

#include <math.h>
#include <string.h>

enum { TREND_WIDTH = 160, TREND_HEIGHT = 28, TREND_EDGE = 4 };

static const struct change_rule rule = CHANGE_RULE_DEFAULT;

static const char *verdict_class(const char *verdict)
{
	return !strcmp(verdict, "better") ? "good" : !strcmp(verdict, "worse") ? "bad" : "";
}

static void change_row(
	FILE *f, const struct history *h, const struct series *s, const struct change *c)
{
	const char *verdict = change_verdict(s->figure, c);

	fprintf(f, "<tr><td><code>%s</code></td><td><code>", run_label(h->runs[s->run[c->at]]));
	page_text(f, s->figure->name);
	fputs("</code></td><td class=\"n\">", f);
	page_value(f, c->from);
	fputs("</td><td class=\"n\">", f);
	page_value(f, c->to);
	fputs("</td><td class=\"n\">", f);
	if (isfinite(c->effect))
		fprintf(f, "%+.1f %%", 100 * c->effect);
	fprintf(f, "</td><td><span class=\"v %s\">%s</span></td></tr>\n", verdict_class(verdict),
		verdict);
}

static size_t change_rows(FILE *f, const struct history *h, bool print)
{
	const struct results *last = h->runs[h->n - 1];
	size_t count = 0;

	for (size_t i = 0; i < last->nfigures; i++) {
		struct series s;

		if (!history_series(h, last->figures[i].name, &rule, &s, NULL)) {
			count += s.nchanges;
			for (size_t c = 0; print && c < s.nchanges; c++)
				change_row(f, h, &s, &s.changes[c]);
		}
		series_free(&s);
	}
	return count;
}

void page_changes(FILE *f, const struct history *h)
{
	size_t count = h->n > 1 ? change_rows(f, h, false) : 0;

	if (h->n < 2)
		return;
	fprintf(f,
		"<p>Over %zu runs the figures changed their level %zu times (E-divisive, p &le; "
		"%g, %g %% or more; exact figures wherever they differ).</p>\n",
		h->n, count, rule.alpha, 100 * rule.min_effect);
	if (!count)
		return;
	fputs("<details><summary>when, and by how much</summary><div "
	      "class=\"scroll\"><table><thead><tr><th>commit</th><th>figure</th><th "
	      "class=\"n\">from</th><th class=\"n\">to</th><th class=\"n\">change</th>"
	      "<th>verdict</th></tr></thead><tbody>\n",
		f);
	change_rows(f, h, true);
	fputs("</tbody></table></div></details>\n", f);
}

/* ---- trends ---- */

struct scale {
	double least, most;
	size_t n;
};

static struct scale scale_of(const struct series *s)
{
	struct scale a = {s->median[0], s->median[0], s->n};

	for (size_t i = 1; i < s->n; i++) {
		a.least = fmin(a.least, s->median[i]);
		a.most = fmax(a.most, s->median[i]);
	}
	return a;
}

static double x_of(const struct scale *a, double i)
{
	return TREND_EDGE + (TREND_WIDTH - 2 * TREND_EDGE) * i / (double)(a->n - 1);
}

static double y_of(const struct scale *a, double v)
{
	double part = a->most > a->least ? (v - a->least) / (a->most - a->least) : 0.5;

	return TREND_HEIGHT - TREND_EDGE - (TREND_HEIGHT - 2 * TREND_EDGE) * part;
}

static void trend_mark(FILE *f, const struct history *h, const struct series *s,
	const struct scale *a, const struct change *c)
{
	double x = x_of(a, (double)c->at - 0.5);

	fprintf(f,
		"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"%d\"/><circle class=\"%s\" r=\"3\" "
		"cx=\"%.1f\" cy=\"%.1f\"><title>%s: %.4g to %.4g</title></circle>",
		x, x, TREND_HEIGHT, verdict_class(change_verdict(s->figure, c)),
		x_of(a, (double)c->at), y_of(a, s->median[c->at]),
		run_label(h->runs[s->run[c->at]]), c->from, c->to);
}

static void trend_picture(FILE *f, const struct history *h, const struct series *s)
{
	struct scale a = scale_of(s);

	fprintf(f, "<svg class=\"trend\" viewBox=\"0 0 %d %d\" role=\"img\"><title>", TREND_WIDTH,
		TREND_HEIGHT);
	for (size_t i = 0; i < s->n; i++)
		fprintf(f, "%s%s %.4g", i ? ", " : "", run_label(h->runs[s->run[i]]), s->median[i]);
	fputs("</title><polyline points=\"", f);
	for (size_t i = 0; i < s->n; i++)
		fprintf(f, "%s%.1f,%.1f", i ? " " : "", x_of(&a, (double)i),
			y_of(&a, s->median[i]));
	fputs("\"/>", f);
	for (size_t i = 0; i < s->nchanges; i++)
		trend_mark(f, h, s, &a, &s->changes[i]);
	fputs("</svg>", f);
}

void page_trend(FILE *f, const struct history *h, const char *figure)
{
	struct series s;

	if (!history_series(h, figure, &rule, &s, NULL) && s.n > 1)
		trend_picture(f, h, &s);
	series_free(&s);
}
