/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* workdir.c - make and remove the directory a run measures in. */
#include "ci/runner/workdir.h"
#include "ci/runner/bench.h"
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

static char base_path[BENCH_PATH - 64], run_path[BENCH_PATH];
static int lock_fd = -1;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path), 0;
}

void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_stale(void)
{
	DIR *d = opendir(base_path);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char path[BENCH_PATH + 256];

		if (strncmp(e->d_name, "run-", 4))
			continue;
		snprintf(path, sizeof(path), "%s/%s", base_path, e->d_name);
		remove_tree(path);
	}
	if (d)
		closedir(d);
}

static int check_disk(uint64_t need_bytes, struct err *e)
{
	struct statvfs vfs;
	struct statfs fs;
	uint64_t room;

	if (statfs(base_path, &fs) || statvfs(base_path, &vfs))
		return err_set(e, -errno, "%s: %s", base_path, strerror(errno));
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		return err_set(e, -EINVAL,
			"%s is in memory (tmpfs), which is no disk to measure; set LSVD_BENCH_DIR "
			"to a "
			"directory on a disk",
			base_path);
	room = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (room < need_bytes)
		return err_set(e, -ENOSPC,
			"%s has %s free, and %s are needed; set LSVD_BENCH_DIR to a directory on "
			"another "
			"disk",
			base_path, cli_size(room), cli_size(need_bytes));
	return 0;
}

/* The lock's owner removes its name before giving it up, so what was locked may be nameless. */
static bool still_named(const char *path)
{
	struct stat a, b;

	return !fstat(lock_fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static int lock_base(struct err *e)
{
	char path[BENCH_PATH];

	snprintf(path, sizeof(path), "%s/lock", base_path);
	for (;;) {
		lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (lock_fd < 0)
			return err_set(e, -errno, "%s: %s", path, strerror(errno));
		if (flock(lock_fd, LOCK_EX | LOCK_NB)) {
			close(lock_fd);
			lock_fd = -1;
			return err_set(e, -EBUSY,
				"another benchmark runs in %s; wait for it, or set LSVD_BENCH_DIR",
				base_path);
		}
		if (still_named(path))
			return 0;
		close(lock_fd);
	}
}

int workdir_make(const char *base, uint64_t need_bytes, char *dir, size_t size, struct err *e)
{
	char real[PATH_MAX];
	int rc = results_make_dirs(base);

	if (rc || !realpath(base, real))
		return err_set(e, rc ? rc : -errno, "%s: %s", base, strerror(rc ? -rc : errno));
	if (strlen(real) >= sizeof(base_path))
		return err_set(e, -ENAMETOOLONG, "%s: the path is too long", real);
	memcpy(base_path, real, strlen(real) + 1);
	rc = lock_base(e);
	if (rc)
		return rc;
	remove_stale();
	rc = check_disk(need_bytes, e);
	if (rc)
		return rc;
	snprintf(run_path, sizeof(run_path), "%s/run-XXXXXX", base_path);
	if (!mkdtemp(run_path)) {
		rc = err_set(e, -errno, "%s: %s", run_path, strerror(errno));
		run_path[0] = 0;
		return rc;
	}
	snprintf(dir, size, "%s", run_path);
	return 0;
}

void workdir_remove(void)
{
	char path[BENCH_PATH];

	if (run_path[0])
		remove_tree(run_path);
	run_path[0] = 0;
	if (lock_fd < 0)
		return;
	snprintf(path, sizeof(path), "%s/lock", base_path);
	unlink(path);
	close(lock_fd);
	lock_fd = -1;
	rmdir(base_path); /* stays when it has anything else */
}
