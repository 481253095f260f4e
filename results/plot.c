/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plot.c - pictures as data, and their way through gnuplot; plotscript.c says it in its language. */
#include "results/plot.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct plot *plot_new(
	const char *name, const char *title, unsigned width, unsigned height, unsigned cols)
{
	struct plot *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->title, sizeof(p->title), "%s", title);
	p->width = width;
	p->height = height;
	p->cols = cols;
	return p;
}

struct plot_panel *plot_panel(struct plot *p, const char *title)
{
	struct plot_panel *panel = &p->panels[p->npanels++];

	snprintf(panel->title, sizeof(panel->title), "%s", title);
	return panel;
}

struct plot_series *plot_series(struct plot_panel *p, const char *name, enum plot_colour colour)
{
	struct plot_series *s = &p->series[p->nseries++];

	snprintf(s->name, sizeof(s->name), "%s", name);
	s->colour = colour;
	return s;
}

void plot_curve(struct plot_panel *p, const char *name, enum plot_colour colour, const double *x,
	const double *y, size_t n)
{
	struct plot_curve *c = &p->curves[p->ncurves++];

	snprintf(c->name, sizeof(c->name), "%s", name);
	c->colour = colour;
	c->x = x;
	c->y = y;
	c->n = n;
}

void plot_guide(struct plot_panel *p, double y, const char *label)
{
	struct plot_guide *g = &p->guides[p->nguides++];

	g->y = y;
	snprintf(g->label, sizeof(g->label), "%s", label);
}

bool plot_panel_has_points(const struct plot_panel *p)
{
	for (size_t s = 0; s < p->nseries; s++)
		for (size_t g = 0; g < p->ngroups; g++)
			if (p->series[s].points[g].there)
				return true;
	return p->ncurves > 0;
}

bool plot_has_points(const struct plot *p)
{
	for (size_t i = 0; i < p->npanels; i++)
		if (plot_panel_has_points(&p->panels[i]))
			return true;
	return false;
}
static int run_gnuplot(const char *dir, const char *script, struct err *e)
{
	char *argv[] = {"gnuplot", (char *)script, NULL};
	posix_spawn_file_actions_t fa;
	int rc, status;
	pid_t pid;

	if (posix_spawn_file_actions_init(&fa))
		return err_set(e, -ENOMEM, "gnuplot: no memory");
	rc = posix_spawn_file_actions_addchdir_np(&fa, dir);
	if (!rc)
		rc = posix_spawnp(&pid, "gnuplot", &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (rc == ENOENT)
		return err_set(e, -ENOENT,
			"gnuplot is not installed, so there are no plots; apt-get install "
			"gnuplot-nox");
	if (rc)
		return err_set(e, -rc, "run gnuplot: %s", strerror(rc));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(e, -errno, "wait for gnuplot: %s", strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(
			e, -EIO, "gnuplot failed on %s/%s; its message is above", dir, script);
	return 0;
}

int plot_draw(const struct plot *p, const char *dir, struct err *e)
{
	char path[4096], script[80];
	FILE *f;

	snprintf(script, sizeof(script), "%s.gp", p->name);
	snprintf(path, sizeof(path), "%s/%s", dir, script);
	f = fopen(path, "we");
	if (!f)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	plot_script(p, f);
	if (ferror(f) | fclose(f))
		return err_set(e, -EIO, "%s: cannot write", path);
	return run_gnuplot(dir, script, e);
}
