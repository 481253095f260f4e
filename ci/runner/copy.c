/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * copy.c - import, export and reorg against cp of the same file on the same disk, in turns.
 *
 * The file has the size and the mapped ranges of the guest image whose boots are under
 * workloads/boot, and more data behind them, up to DATA bytes; the rest are holes.  Before each
 * command the page cache forgets what it will read, and what it wrote is made durable within its
 * time (syncfs), on both sides.
 */
#include "ci/runner/child.h"
#include "ci/runner/fio.h"
#include "ci/runner/workdir.h"
#include "cli/cli.h"
#include "reorg/extents.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };
static const uint64_t data_bytes = 1 * GIB;

/* ---- the file ---- */

static int write_run(int fd, uint64_t off, uint64_t len, uint64_t *buf, uint64_t *x)
{
	while (len) {
		size_t n = len < PIECE ? (size_t)len : PIECE;

		for (size_t i = 0; i < n / 8; i += 64) {
			*x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
			buf[i] = *x;
		}
		if (pwrite(fd, buf, n, (off_t)off) != (ssize_t)n)
			return -errno;
		off += n;
		len -= n;
	}
	return 0;
}

static int write_data(int fd, const struct extents *x)
{
	uint64_t *buf = aligned_alloc(4096, PIECE), seed = 88172645463325252ull;
	uint64_t size = x->size_sectors * 512, more = data_bytes - x->sectors * 512;
	uint64_t last = x->n ? (x->p[x->n - 1].lba + x->p[x->n - 1].len) * 512 : 0;
	int rc = buf ? 0 : -ENOMEM;

	for (size_t i = 0; rc == 0 && i < PIECE / 8; i++)
		buf[i] = seed += 0x9E3779B97F4A7C15ull;
	for (size_t i = 0; rc == 0 && i < x->n; i++)
		rc = write_run(fd, x->p[i].lba * 512, x->p[i].len * 512, buf, &seed);
	if (rc == 0 && x->sectors * 512 < data_bytes && last + more <= size)
		rc = write_run(fd, size - more, more, buf, &seed);
	free(buf);
	if (rc == 0 && (ftruncate(fd, (off_t)size) || fsync(fd)))
		rc = -errno;
	return rc;
}

static int make_file(const char *path, struct err *e)
{
	struct extents x = {0};
	int rc = extents_load("workloads/boot/srv.extents", &x, e), fd;

	if (rc)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	rc = fd < 0 ? -errno : write_data(fd, &x);
	extents_free(&x);
	if (fd >= 0)
		close(fd);
	return rc ? err_set(e, rc, "%s: %s", path, strerror(-rc)) : 0;
}

/* ---- one command ---- */

static int forget_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	int fd = flag == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	(void)st, (void)ftw;
	if (fd < 0)
		return 0;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	return 0;
}

static void sync_disk(const struct bench *b)
{
	int fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	syncfs(fd);
	close(fd);
}

/* Seconds of a command, on a cold cache and until its data is durable; < 0: it failed. */
static double timed(struct bench *b, const char *const *argv, struct err *e, int *rc)
{
	const char *env[] = {
		"LSVD_SYSTEM_CONFIG=lsvd.json", "XDG_CONFIG_HOME=.", "XDG_STATE_HOME=.", NULL};
	char log[BENCH_PATH + 16];
	struct child c = {
		.argv = argv, .env = env, .cwd = b->dir, .log = log, .cpu = -1, .limit_s = 600};
	double begun;

	snprintf(log, sizeof(log), "%s/copy.log", b->dir);
	sync_disk(b);
	nftw(b->dir, forget_one, 16, FTW_PHYS);
	begun = now_s();
	*rc = child_run(&c, e);
	sync_disk(b);
	return now_s() - begun;
}

struct job {
	const char *name, *what;
	const char *argv[10]; /* after the tool */
	const char *rm;	      /* file that it made, or NULL */
	const char *rm_image; /* image that it made, or NULL */
};

static const struct job jobs[] = {
	{"import", "import", {"import", "-q", "base.raw", "file:copy/base"}, NULL, NULL},
	{"export", "export", {"export", "-q", "file:copy/base", "out.raw"}, "out.raw", NULL},
	{"reorg", "reorg with its proof",
		{"reorg", "-q", "file:copy/base", "file:copy/new", "--trace", "srv-1.csv",
			"--trace", "srv-2.csv"},
		NULL, "file:copy/new"},
	{"reorg.unproved", "reorg without proof",
		{"reorg", "-q", "file:copy/base", "file:copy/new", "--no-verify", "--trace",
			"srv-1.csv", "--trace", "srv-2.csv"},
		NULL, "file:copy/new"},
};

static int tool(struct bench *b, const char *const *args, double *s, struct err *e)
{
	char path[BENCH_PATH + 8];
	const char *argv[12] = {path};
	int rc;

	snprintf(path, sizeof(path), "%s/lsvd", b->o);
	for (unsigned i = 0; i < 10 && args[i]; i++)
		argv[i + 1] = args[i];
	*s = timed(b, argv, e, &rc);
	return rc;
}

static int remove_made(struct bench *b, const char *file, const char *image, struct err *e)
{
	const char *const rm[] = {"rm", "--force", "-q", image, NULL};
	char path[BENCH_PATH + 16];
	double s;

	if (file) {
		snprintf(path, sizeof(path), "%s/%s", b->dir, file);
		remove_tree(path);
	}
	return image ? tool(b, rm, &s, e) : 0;
}

static void record(struct bench *b, const struct job *j, double lsvd_s, double cp_s)
{
	char name[RESULTS_NAME_MAX];
	json_t *params = json_pack("{s:I}", "data_mib", (json_int_t)(data_bytes / MIB));

	snprintf(name, sizeof(name), "%s.ratio_cp", j->name);
	if (strchr(j->name, '.'))
		sample_as(b, name, "ratio", RESULTS_HIGHER, cp_s / lsvd_s, json_incref(params));
	else
		sample(b, name, cp_s / lsvd_s, json_incref(params));
	snprintf(name, sizeof(name), "%s.lsvd.mib_s", j->name);
	sample_as(b, name, "MiB/s", RESULTS_HIGHER, (double)data_bytes / MIB / lsvd_s,
		json_incref(params));
	snprintf(name, sizeof(name), "%s.cp.mib_s", j->name);
	sample_as(b, name, "MiB/s", RESULTS_NONE, (double)data_bytes / MIB / cp_s, params);
}

/* The command, then cp. */
static int job_round(struct bench *b, const struct job *j, unsigned round, struct err *e)
{
	static const char *const cp[] = {"cp", "--reflink=never", "base.raw", "cp.raw", NULL};
	double lsvd_s, cp_s;
	int rc;

	say_now(b, "%s, round %u of %u", j->what, round + 1, b->rounds);
	rc = tool(b, j->argv, &lsvd_s, e);
	if (!rc)
		cp_s = timed(b, cp, e, &rc);
	if (!rc)
		rc = remove_made(b, "cp.raw", NULL, e);
	if (!rc && (j->rm || j->rm_image))
		rc = remove_made(b, j->rm, j->rm_image, e);
	if (!rc)
		record(b, j, lsvd_s, cp_s);
	return rc ? err_wrap(e, rc, "%s", j->what) : 0;
}

static int copy_in(struct bench *b, const char *name, struct err *e)
{
	char from[64], to[BENCH_PATH + 64], *text;
	size_t len = 0;
	FILE *f;
	int rc = 0;

	snprintf(from, sizeof(from), "workloads/boot/%s", name);
	snprintf(to, sizeof(to), "%s/%s", b->dir, name);
	text = file_text(from, &len);
	f = text ? fopen(to, "we") : NULL;
	if (!f || fwrite(text, 1, len, f) != len)
		rc = err_set(e, -EIO, "%s: %s", from, strerror(errno));
	if (f)
		fclose(f);
	free(text);
	return rc;
}

static int prepare(struct bench *b, struct err *e)
{
	char path[BENCH_PATH + 16];
	int rc;

	fio_clean_up(b);
	say_now(b, "writing a file of %s", cli_size(data_bytes));
	snprintf(path, sizeof(path), "%s/copy", b->dir);
	if (mkdir(path, 0700) && errno != EEXIST)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "%s/base.raw", b->dir);
	rc = make_file(path, e);
	if (!rc)
		rc = copy_in(b, "srv-1.csv", e);
	return rc ? rc : copy_in(b, "srv-2.csv", e);
}

static void say_job(struct bench *b, const struct job *j)
{
	char name[2][RESULTS_NAME_MAX];

	snprintf(name[0], sizeof(name[0]), "%s.ratio_cp", j->name);
	snprintf(name[1], sizeof(name[1]), "%s.lsvd.mib_s", j->name);
	say(b, "%-32s %5.2f x cp    %6.0f MiB/s", j->what, sample_median(b, name[0]),
		sample_median(b, name[1]));
}

static int run_copy(struct bench *b, const struct part *p, struct err *e)
{
	int rc = prepare(b, e);

	(void)p;
	for (size_t i = 0; i < (b->quick ? 3 : 4) && !rc; i++) {
		for (unsigned round = 0; round < b->rounds && !rc; round++) {
			if (i == 0 && round) /* all but the last import are removed again */
				rc = remove_made(b, NULL, "file:copy/base", e);
			if (!rc)
				rc = job_round(b, &jobs[i], round, e);
		}
		if (!rc)
			say_job(b, &jobs[i]);
	}
	return rc;
}

void copy_parts(struct bench *b)
{
	plan_add(b, b->rounds * (b->quick ? 14 : 20), run_copy, "copy");
}
