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
#include "results/page.h"
#include "results/vmboot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
		rc = draw(page, PAGE_FIO, chart_tails(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_FIO, chart_bytes(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_FIO, chart_legs(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_PRESSURE, chart_pressure(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_MEM, chart_mem(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_BOOT, chart_boot(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_BOOT, vmboot_chart(page->run), dir, e);
	if (!rc)
		rc = draw(page, PAGE_BOOT, vmboot_chart_fleet(page->run), dir, e);
	if (!rc && page->history.n > 1 && !vmboot_is(page->run))
		rc = draw(page, PAGE_HISTORY, chart_history(&page->history), dir, e);
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
	rc = history_load(dir, page.run, &page.history, e);
	if (!rc && (rc = results_make_dirs(plots)))
		err_set(e, rc, "%s: %s", plots, strerror(-rc));
	if (!rc)
		drawn = draw_all(&page, plots, e);
	if (!rc)
		rc = write_page(&page, out, drawn ? NULL : e);
	history_free(&page.history);
	results_free(page.run);
	return rc ? rc : drawn;
}
