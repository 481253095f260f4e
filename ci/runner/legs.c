/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * legs.c - what each kind of journal costs: 4 KiB random writes, depth 1 and 32, on five sets of
 * legs.
 *
 * One local SSD, memory, two SSDs, another process's memory and two remote files (both nbdkit's, on
 * unix sockets): the same image, store and processor otherwise, in turns, a new image each time.
 * Both SSD legs are files of one disk, and the servers run on this machine, so what is measured is
 * what the software adds, not a network.
 */
#include "ci/runner/child.h"
#include "ci/runner/fiorun.h"
#include "ci/runner/workdir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REGION_MIB = 512, POOL_MIB = 512, SERVERS = 3, STARTS_WAITED = 500 };

static const struct set {
	const char *name, *label;
	const char *pool, *mirror; /* %s: the servers' directory */
} sets[] = {{"ssd", "one SSD", "file:legs-a", ""}, {"mem", "memory", "mem:512M", ""},
	{"two_ssd", "two SSDs", "file:legs-a", "file:legs-b"},
	{"remote_mem", "remote memory", "nbd+unix:///?socket=%s/0", ""},
	{"two_remote", "two remote disks", "nbd+unix:///?socket=%s/1", "nbd+unix:///?socket=%s/2"}};
enum { SETS = sizeof(sets) / sizeof(sets[0]) };

static const struct cell cells[] = {
	{.rw = "randwrite", .bs_kib = 4, .qd = 1}, {.rw = "randwrite", .bs_kib = 4, .qd = 32}};
enum { CELLS = sizeof(cells) / sizeof(cells[0]) };

/* ---- servers ---- */

struct servers {
	char dir[64];
	pid_t pid[SERVERS];
};

static void exec_server(const struct bench *b, const char *socket, unsigned i)
{
	char file[BENCH_PATH + 32];
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	snprintf(file, sizeof(file), "%s/legs-%u.disk", b->dir, i);
	if (i)
		execlp("nbdkit", "nbdkit", "-f", "-U", socket, "file", file, "cache=none", NULL);
	else
		execlp("nbdkit", "nbdkit", "-f", "-U", socket, "memory", "512M", NULL);
	_exit(127);
}

/* A disk that was written before, like that of a pool. */
static int make_disk(const struct bench *b, unsigned i, struct err *e)
{
	char path[BENCH_PATH + 32];
	char *zeroes = calloc(1, MIB);
	int fd, rc = zeroes ? 0 : -ENOMEM;

	snprintf(path, sizeof(path), "%s/legs-%u.disk", b->dir, i);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	for (unsigned k = 0; rc == 0 && fd >= 0 && k < POOL_MIB; k++)
		if (write(fd, zeroes, MIB) != (ssize_t)MIB)
			rc = -EIO;
	if (fd < 0 || (rc == 0 && fsync(fd)))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(zeroes);
	return rc ? err_set(e, rc, "%s: %s", path, strerror(-rc)) : 0;
}

static int start_server(const struct bench *b, struct servers *s, unsigned i, struct err *e)
{
	struct timespec ts = {.tv_nsec = 10000000};
	char socket[80];

	snprintf(socket, sizeof(socket), "%s/%u", s->dir, i);
	s->pid[i] = fork();
	if (s->pid[i] < 0)
		return err_set(e, -errno, "fork: %s", strerror(errno));
	if (!s->pid[i])
		exec_server(b, socket, i);
	for (unsigned k = 0; k < STARTS_WAITED; k++) {
		if (!access(socket, F_OK))
			return 0;
		nanosleep(&ts, NULL);
	}
	return err_set(e, -ENOENT, "nbdkit does not start (package nbdkit)");
}

static void stop_servers(struct servers *s)
{
	char socket[80];

	for (unsigned i = 0; i < SERVERS; i++) {
		if (s->pid[i] > 0) {
			kill(s->pid[i], SIGKILL);
			waitpid(s->pid[i], NULL, 0);
		}
		snprintf(socket, sizeof(socket), "%s/%u", s->dir, i);
		unlink(socket);
	}
	rmdir(s->dir);
}

static int start_servers(const struct bench *b, struct servers *s, struct err *e)
{
	int rc = 0;

	/* A socket's path is short. */
	snprintf(s->dir, sizeof(s->dir), "/tmp/lsvd-legs-XXXXXX");
	if (!mkdtemp(s->dir))
		return err_set(e, -errno, "%s: %s", s->dir, strerror(errno));
	for (unsigned i = 0; rc == 0 && i < SERVERS; i++) {
		if (i)
			rc = make_disk(b, i, e);
		if (rc == 0)
			rc = start_server(b, s, i, e);
	}
	return rc;
}

/* ---- measuring ---- */

static void forget_files(const struct bench *b)
{
	static const char *const names[] = {"legs-a", "legs-b", "legs-1.disk", "legs-2.disk"};
	char path[BENCH_PATH + 32];

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", b->dir, names[i]);
		unlink(path);
	}
}

static void record(struct bench *b, const struct set *set, const struct cell *c,
	const struct fio_figures *f, double runtime_s)
{
	const struct {
		const char *name;
		double value;
	} figures[] = {{"iops", f->iops}, {"p50_us", f->p50_us}, {"p99_us", f->p99_us}};
	char name[RESULTS_NAME_MAX + 1];

	for (unsigned i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		snprintf(name, sizeof(name), "legs.%s.4k.qd%u.%s", set->name, c->qd,
			figures[i].name);
		sample(b, name, figures[i].value,
			json_pack("{s:i, s:i, s:f}", "region_mib", REGION_MIB, "pool_mib", POOL_MIB,
				"runtime_s", runtime_s));
	}
}

static int run_set(struct bench *b, const struct servers *s, const struct set *set, unsigned round,
	struct err *e)
{
	char pool[160], mirror[160], image[40];
	struct fio_figures out[CELLS];
	struct fio_run r = {.side = SIDE_LSVD,
		.image = image,
		.region_bytes = REGION_MIB * MIB,
		.pool_bytes = POOL_MIB * MIB,
		.runtime_s = 4,
		.ramp_s = 1,
		.seed = round + 1,
		.pool = pool,
		.mirror = mirror,
		.cells = cells,
		.n = CELLS};
	int rc;

/* The table's own formats. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(pool, sizeof(pool), set->pool, s->dir);
	snprintf(mirror, sizeof(mirror), set->mirror, s->dir);
#pragma GCC diagnostic pop
	snprintf(image, sizeof(image), "legs-%s-%u", set->name, round);
	say_now(b, "legs, %s", set->label);
	rc = fio_run(b, &r, out, e);
	for (unsigned i = 0; i < CELLS && !rc; i++)
		record(b, set, &cells[i], &out[i], r.runtime_s);
	if (!rc)
		say(b,
			"journal on %-18s qd1 %7.0f IOPS, p50 %5.0f us   qd32 %7.0f IOPS, p99 "
			"%5.0f us",
			set->label, out[0].iops, out[0].p50_us, out[1].iops, out[1].p99_us);
	return rc;
}

static int run_legs(struct bench *b, const struct part *p, struct err *e)
{
	struct servers s = {.dir = ""};
	int rc = start_servers(b, &s, e);

	(void)p;
	for (unsigned round = 0; round < b->rounds && !rc; round++)
		for (unsigned i = 0; i < SETS && !rc; i++)
			rc = run_set(b, &s, &sets[i], round, e);
	stop_servers(&s);
	forget_files(b);
	return rc;
}

void legs_parts(struct bench *b)
{
	struct fio_run r = {.runtime_s = 4, .ramp_s = 1, .n = CELLS};

	if (!b->quick)
		plan_add(b, b->rounds * SETS * fio_run_seconds(&r) + 5, run_legs, "legs");
}
