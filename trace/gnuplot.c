/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gnuplot.c - see gnuplot.h. */
#include "trace/gnuplot.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *gnuplot_size(uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	static char ring[4][24];
	static unsigned next;
	char *out = ring[next++ % 4];
	unsigned u = 0;

	while (bytes >= 1024 && u < 6) {
		bytes /= 1024;
		u++;
	}
	snprintf(out, sizeof(ring[0]), "%" PRIu64 " %s", bytes, units[u]);
	return out;
}

/* gnuplot's single quotes: doubled inside; no control characters. */
void gnuplot_quoted(FILE *f, const char *s)
{
	fputc('\'', f);
	for (; *s; s++) {
		if (*s == '\'')
			fputc('\'', f);
		fputc((unsigned char)*s < ' ' ? ' ' : *s, f);
	}
	fputc('\'', f);
}

static bool is_svg(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && !strcmp(path + n - 4, ".svg");
}

void gnuplot_begin(FILE *f, const char *output, const char *title, unsigned width, unsigned height)
{
	fprintf(f, "set terminal %s size %u,%u background rgb 'white' %s\nset output ",
		is_svg(output) ? "svg" : "pngcairo", width ? width : 1200, height ? height : 900,
		is_svg(output) ? "" : "font ',10'");
	gnuplot_quoted(f, output);
	fputs("\nset multiplot title ", f);
	gnuplot_quoted(f, title);
	fputs(" noenhanced font ',13'\n", f);
}

void gnuplot_nothing(FILE *f, const char *message)
{
	fputs("set title ", f);
	gnuplot_quoted(f, message);
	fputs("\nset xrange [0:1]\nset yrange [0:1]\nplot -1 notitle\n", f);
}

void gnuplot_size_axis(FILE *f, unsigned first, unsigned last)
{
	unsigned step = last - first > 18 ? 4 : last - first > 9 ? 2 : 1;

	fprintf(f, "set logscale x 2\nset xrange [%.0f:%.0f]\nset xtics rotate by -45 (",
		(double)(1ull << first), (double)(1ull << last));
	for (unsigned k = first; k <= last; k += step)
		fprintf(f, "%s'%s' %.0f", k > first ? ", " : "", gnuplot_size(1ull << k),
			(double)(1ull << k));
	fputs(")\n", f);
}

/* gnuplot with its stdin from a pipe. */
static int spawn(pid_t *pid, FILE **in, struct err *e)
{
	int fds[2];

	if (pipe(fds) < 0)
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	*pid = fork();
	if (*pid == 0) {
		dup2(fds[0], STDIN_FILENO);
		close(fds[0]);
		close(fds[1]);
		execlp("gnuplot", "gnuplot", "-", (char *)NULL);
		_exit(127);
	}
	close(fds[0]);
	*in = *pid > 0 ? fdopen(fds[1], "w") : NULL;
	if (*pid < 0)
		return err_set(e, -EAGAIN, "cannot start gnuplot: %s", strerror(errno));
	return *in ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int may_write(const char *path, struct err *e)
{
	FILE *f = fopen(path, "ab");

	if (!f)
		return err_set(e, -errno, "'%s': %s", path, strerror(errno));
	fclose(f);
	return 0;
}

int gnuplot_run(const char *output, void (*script)(FILE *f, void *arg), void *arg, struct err *e)
{
	size_t n = strlen(output);
	pid_t pid = -1;
	FILE *in;
	int rc, status;

	if (!is_svg(output) && (n < 5 || strcmp(output + n - 4, ".png")))
		return err_set(e, -EINVAL, "'%s': name it .png or .svg", output);
	rc = may_write(output, e); /* gnuplot would draw on its stdout instead */
	if (rc < 0)
		return rc;
	signal(SIGPIPE, SIG_IGN); /* a missing gnuplot is told by its exit code */
	rc = spawn(&pid, &in, e);
	if (rc < 0)
		return rc;
	script(in, arg);
	fclose(in);
	if (waitpid(pid, &status, 0) < 0)
		return err_set(e, -errno, "gnuplot: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(e, -ENOENT, "gnuplot is not installed (package gnuplot-nox)");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, -EIO, "gnuplot failed; what it said is above");
	return 0;
}
