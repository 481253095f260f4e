/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * report.c - the page: reads the history, draws the charts, writes the HTML.
 *
 * The page is written beside its place and renamed, after the plots, so that a page that is there
 * always shows pictures that are there.
 */
#include "results/report.h"
#include "results/charts.h"
#include "results/compare.h"
#include "results/find.h"
#include "results/page.h"
#include "results/vmboot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool same_bench(const struct results *a, const struct results *b)
{
	return a->profile == b->profile && !strcmp(a->machine.cpu, b->machine.cpu) &&
	       a->machine.cores == b->machine.cores && !strcmp(a->machine.disk, b->machine.disk);
}

/* Takes the readable files of `dir` up to the run itself; page->runs ends with the run. */
static int load_history(struct page *page, const char *dir, struct err *e)
{
	struct results_files f;
	int rc = results_files(dir, &f, e);

	if (rc == -ENOENT)
		rc = 0;
	page->runs = calloc(f.n + 1, sizeof(struct results *));
	if (!page->runs)
		rc = err_set(e, -ENOMEM, "no memory");
	for (size_t i = 0; !rc && i < f.n; i++) {
		struct err why = {0};
		struct results *r;

		if (results_read(f.paths[i], &r, &why)) {
			fprintf(stderr, "left out: %s\n", why.msg);
			continue;
		}
		if (r->time_s < page->run->time_s && same_bench(r, page->run)) {
			page->runs[page->nruns++] = r;
			continue;
		}
		page->others += r->time_s < page->run->time_s;
		results_free(r);
	}
	results_files_free(&f);
	if (!rc)
		page->runs[page->nruns++] = page->run;
	return rc;
}

/* Draws and frees a chart, and remembers it for the page; nothing to draw is no error. */
static int draw(struct page *page, enum page_section section, struct plot *p, const char *dir,
	struct err *e)
{
	int rc = p ? 0 : err_set(e, -ENOMEM, "no memory");

	if (!rc && plot_has_points(p)) {
		rc = plot_draw(p, dir, e);
		if (!rc)
			page_add_plot(page, section, p->name, p->title, p->width, p->height);
	}
	free(p);
	return rc;
}

static int draw_all(struct page *page, const char *dir, struct err *e)
{
	int rc = draw(page, PAGE_FIO, chart_fio_special(page->run), dir, e);

	for (size_t i = 0; !rc && chart_fio_rws[i]; i++)
		rc = draw(page, PAGE_FIO, chart_fio(page->run, chart_fio_rws[i]), dir, e);
	if (!rc)
		rc = draw(page, PAGE_FIO, chart_legs(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_MEM, chart_mem(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_BOOT, chart_boot(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_BOOT, vmboot_chart(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_BOOT, vmboot_chart_fleet(page->run), dir, e);
	if (!rc && page->nruns > 1 && !vmboot_is(page->run))
		rc = draw(page, PAGE_HISTORY, chart_history(page->runs, page->nruns), dir, e);
	return rc;
}

static int write_page(const struct page *page, const char *out, struct err *e)
{
	char tmp[4096], path[4096];
	FILE *f;
	bool bad;

	snprintf(tmp, sizeof(tmp), "%s/.index.html.tmp", out);
	snprintf(path, sizeof(path), "%s/index.html", out);
	f = fopen(tmp, "we");
	if (!f)
		return err_set(e, -errno, "%s: %s", tmp, strerror(errno));
	page_write(page, f);
	bad = ferror(f);
	if (fclose(f) || bad || rename(tmp, path)) {
		int rc = err_set(e, -EIO, "%s: cannot write", path);

		remove(tmp);
		return rc;
	}
	return 0;
}

int results_report(const char *file, const char *dir, const char *out, struct err *e)
{
	struct page page = {0};
	char plots[4096];
	int rc, drawn = 0;

	snprintf(plots, sizeof(plots), "%s/plots", out);
	rc = results_read(file, &page.run, e);
	if (rc)
		return rc;
	rc = load_history(&page, dir, e);
	if (!rc && (rc = results_make_dirs(plots)))
		err_set(e, rc, "%s: %s", plots, strerror(-rc));
	if (!rc)
		drawn = draw_all(&page, plots, e);
	if (!rc)
		rc = write_page(&page, out, drawn ? NULL : e);
	for (size_t i = 0; i + 1 < page.nruns; i++)
		results_free(page.runs[i]);
	free(page.runs);
	results_free(page.run);
	return rc ? rc : drawn;
}
