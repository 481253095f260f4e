/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/device.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 20, SETTLE_MS = 10000, TRIES = 20, NBD_DEVICES = 64, LOOP_DEVICES = 1024 };

static void nap(void)
{
	struct timespec ts = {.tv_nsec = LOOK_MS * 1000000L};

	nanosleep(&ts, NULL);
}

static bool in_path(const char *program)
{
	const char *path = getenv("PATH");
	char *copy = strdup(path ? path : "/usr/sbin:/usr/bin:/sbin:/bin"), *save = NULL;
	bool found = false;

	for (char *d = copy ? strtok_r(copy, ":", &save) : NULL; d && !found;
		d = strtok_r(NULL, ":", &save)) {
		char file[PATH_MAX];

		snprintf(file, sizeof(file), "%s/%s", d, program);
		found = access(file, X_OK) == 0;
	}
	free(copy);
	return found;
}

const char *device_method(const char *wanted)
{
	bool any = !wanted || !strcmp(wanted, "auto");
	bool nbd = access("/dev/nbd0", F_OK) == 0;

	if (any ? nbd && in_path("nbd-client") : !strcmp(wanted, "nbd")) {
		if (nbd && in_path("nbd-client"))
			return "nbd";
		cli_fail(nbd ? "nbd-client is missing (package nbd-client)"
			     : "this kernel has no nbd devices (modprobe nbd)");
		return NULL;
	}
	if (!any && strcmp(wanted, "loop")) {
		cli_fail("'%s' is no method; auto, nbd or loop", wanted);
		return NULL;
	}
	if (access("/dev/fuse", F_OK) < 0 || access("/dev/loop-control", F_OK) < 0) {
		cli_fail("this kernel has neither nbd devices with nbd-client nor both fuse and loop "
			 "(modprobe fuse loop)");
		return NULL;
	}
	if (!in_path("nbdfuse")) {
		cli_fail("nbdfuse is missing (package libnbd-bin)");
		return NULL;
	}
	return "loop";
}

/* ---- processes ---- */

/* Run argv; its output goes to `log`.  The child's number, or -1. */
static pid_t run(const char *const *argv, const char *log, bool background)
{
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	if (background)
		setsid();
	fd = open("/dev/null", O_RDONLY);
	dup2(fd, 0);
	fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Its last line, and away with it. */
static void last_line(const char *log, char *out, size_t len)
{
	char line[400];
	FILE *f = fopen(log, "re");

	snprintf(out, len, "it ended without a word");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (line[0])
			snprintf(out, len, "%s", line);
	}
	if (f)
		fclose(f);
	unlink(log);
}

/* ---- loop devices ---- */

/* Takes a free one for the open file. */
static int configure(int control, int file, const struct mapping *m, char device[32])
{
	struct loop_config c = {.fd = (unsigned)file,
		.info = {.lo_flags =
				 LO_FLAGS_DIRECT_IO | (m->readonly ? LO_FLAGS_READ_ONLY : 0u)}};

	snprintf((char *)c.info.lo_file_name, sizeof(c.info.lo_file_name), "%.60s", m->image);
	for (int i = 0; i < TRIES; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE), fd, rc;

		if (n < 0)
			return -errno;
		snprintf(device, 32, "/dev/loop%d", n);
		fd = open(device, (m->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		rc = ioctl(fd, LOOP_CONFIGURE, &c) < 0 ? -errno : 0;
		close(fd);
		if (rc != -EBUSY) /* else somebody else was faster */
			return rc;
	}
	return -EBUSY;
}

static int attach_loop(const char *file, struct mapping *m)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), rc = 0;
	int fd = open(file, (m->readonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);

	if (control < 0 || fd < 0)
		rc = -errno;
	else
		rc = configure(control, fd, m, m->device);
	if (control >= 0)
		close(control);
	if (fd >= 0)
		close(fd);
	if (rc < 0)
		m->device[0] = 0;
	return rc < 0 ? cli_fail("set up a loop device for '%s': %s", file, strerror(-rc)) : CLI_OK;
}

static int start_fuse(const char *run_dir, const char *file, const char *uri, struct mapping *m)
{
	char pidfile[STATE_PATH], log[STATE_PATH], why[400];
	const char *argv[8] = {"nbdfuse", "--pidfile", pidfile};
	unsigned n = 3;
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), status;
	pid_t pid;

	if (fd < 0)
		return cli_fail("create '%s': %s", file, strerror(errno));
	close(fd);
	mapping_path(run_dir, m->n, "fuse.pid", pidfile);
	mapping_path(run_dir, m->n, "fuse.log", log);
	unlink(pidfile);
	if (m->readonly)
		argv[n++] = "-r";
	argv[n++] = file;
	argv[n] = uri;
	pid = run(argv, log, true);
	if (pid < 0)
		return cli_fail("fork: %s", strerror(errno));
	m->fuse = proc_of(pid);
	while (access(pidfile, F_OK) < 0) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			last_line(log, why, sizeof(why));
			m->fuse = (struct proc){0};
			return cli_fail("nbdfuse: %s", why);
		}
		nap();
	}
	unlink(log);
	return CLI_OK;
}

static int stop_fuse(const char *run_dir, const struct mapping *m, bool dead)
{
	char file[STATE_PATH];

	mapping_path(run_dir, m->n, "disk", file);
	for (int i = 0; umount2(file, dead ? MNT_DETACH : 0) < 0 && errno == EBUSY; i++) {
		if (i * LOOK_MS > SETTLE_MS)
			return cli_fail("'%s' is in use; close what has it open", file);
		nap();
	}
	if (!proc_wait(&m->fuse, SETTLE_MS))
		return cli_fail("nbdfuse (pid %d) does not end", (int)m->fuse.pid);
	waitpid(m->fuse.pid, NULL, WNOHANG);
	return CLI_OK;
}

static int attach_fuse_and_loop(const char *run_dir, const char *uri, struct mapping *m)
{
	char file[STATE_PATH];
	int rc;

	mapping_path(run_dir, m->n, "disk", file);
	rc = start_fuse(run_dir, file, uri, m);
	if (rc == CLI_OK) {
		rc = attach_loop(file, m);
		if (rc)
			(void)stop_fuse(run_dir, m, true);
	}
	return rc;
}

/* ---- the kernel's nbd ---- */

static bool nbd_is_free(unsigned i, char device[32])
{
	char path[64];

	snprintf(device, 32, "/dev/nbd%u", i);
	snprintf(path, sizeof(path), "/sys/block/nbd%u/pid", i);
	return access(device, F_OK) == 0 && access(path, F_OK) < 0;
}

static int attach_nbd(const char *run_dir, const char *socket, struct mapping *m)
{
	char log[STATE_PATH], why[400];
	const char *argv[] = {"nbd-client", "-unix", socket, m->device, "-N", m->export,
		"-connections", "2", "-b", "512", m->readonly ? "-R" : NULL, NULL};
	int status = -1;
	pid_t pid;
	unsigned i = 0;

	while (i < NBD_DEVICES && !nbd_is_free(i, m->device))
		i++;
	if (i == NBD_DEVICES) {
		m->device[0] = 0;
		return cli_fail("no nbd device is free (modprobe nbd nbds_max=64)");
	}
	mapping_path(run_dir, m->n, "nbd.log", log);
	pid = run(argv, log, false);
	if (pid > 0)
		waitpid(pid, &status, 0);
	last_line(log, why, sizeof(why));
	if (status) {
		m->device[0] = 0;
		return cli_fail("nbd-client: %s", why);
	}
	return CLI_OK;
}

static int detach_nbd(const char *run_dir, const struct mapping *m)
{
	const char *argv[] = {"nbd-client", "-d", m->device, NULL};
	char log[STATE_PATH], why[400];
	int status = -1;
	pid_t pid;

	mapping_path(run_dir, m->n, "nbd.log", log);
	pid = run(argv, log, false);
	if (pid > 0)
		waitpid(pid, &status, 0);
	last_line(log, why, sizeof(why));
	return status ? cli_fail("nbd-client -d: %s", why) : CLI_OK;
}

int device_attach(const char *run_dir, const char *socket, struct mapping *m)
{
	char uri[2 * STATE_PATH];

	if (!strcmp(m->method, "nbd"))
		return attach_nbd(run_dir, socket, m);
	snprintf(uri, sizeof(uri), "nbd+unix:///%s?socket=%s", m->export, socket);
	return attach_fuse_and_loop(run_dir, uri, m);
}

/* ---- looking ---- */

static bool sys_path(const struct mapping *m, const char *name, char out[128])
{
	const char *slash = strrchr(m->device, '/');

	snprintf(out, 128, "/sys/block/%.20s/%s", slash ? slash + 1 : "-", name);
	return access(out, F_OK) == 0;
}

/* A loop device's file is the mapping's. */
static bool has_our_file(const char *run_dir, const struct mapping *m)
{
	char file[STATE_PATH], path[128], text[STATE_PATH + 2] = "";
	FILE *f;

	if (!sys_path(m, "loop/backing_file", path))
		return false;
	f = fopen(path, "re");
	if (f) {
		if (!fgets(text, sizeof(text), f))
			text[0] = 0;
		fclose(f);
	}
	text[strcspn(text, "\n")] = 0;
	mapping_path(run_dir, m->n, "disk", file);
	/* The kernel puts " (deleted)" or the like behind it. */
	return strncmp(text, file, strlen(file)) == 0;
}

/* The image's device is the one that it was. */
static bool is_ours(const char *run_dir, const struct mapping *m)
{
	char path[128];

	return strcmp(m->method, "nbd") ? has_our_file(run_dir, m) : sys_path(m, "pid", path);
}

/* What an interrupted `lsvd map` had not written down yet: the loop device, nbdfuse. */
static struct mapping completed(const char *run_dir, const struct mapping *m)
{
	struct mapping found = *m;
	char path[STATE_PATH];
	int pid = 0;
	FILE *f;

	if (m->device[0] || strcmp(m->method, "loop") != 0)
		return found;
	for (unsigned i = 0; i < LOOP_DEVICES; i++) {
		snprintf(found.device, sizeof(found.device), "/dev/loop%u", i);
		if (has_our_file(run_dir, &found))
			break;
		found.device[0] = 0;
	}
	mapping_path(run_dir, m->n, "fuse.pid", path);
	f = fopen(path, "re");
	if (f && fscanf(f, "%d", &pid) == 1)
		found.fuse = proc_of(pid);
	if (f)
		fclose(f);
	return found;
}

static void mounted_at(const struct stat *st, char *where, size_t len)
{
	char line[2048], point[256];
	unsigned ma, mi;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	where[0] = 0;
	while (f && !where[0] && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %u:%u %*s %255s", &ma, &mi, point) == 3 &&
			ma == major(st->st_rdev) && mi == minor(st->st_rdev))
			snprintf(where, len, "%s", point);
	if (f)
		fclose(f);
}

bool device_in_use(const struct mapping *m, char *how, size_t len)
{
	char where[260];
	struct stat st;
	int fd;

	if (!m->device[0] || stat(m->device, &st) < 0)
		return false;
	mounted_at(&st, where, sizeof(where));
	if (where[0]) {
		snprintf(how, len, "mounted at %s; umount %s first", where, where);
		return true;
	}
	/* A holder in another mount namespace, swap, LVM, RAID ... */
	fd = open(m->device, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY) {
		snprintf(how, len,
			"in use (a mount elsewhere, swap, LVM or RAID); `lsblk %s` may tell", m->device);
		return true;
	}
	if (fd >= 0)
		close(fd);
	return false;
}

const char *device_trouble(const char *run_dir, const struct mapping *m)
{
	if (!m->device[0])
		return strcmp(m->method, "none") ? "attaching it was interrupted" : "";
	if (!is_ours(run_dir, m))
		return "the device is gone";
	if (m->fuse.pid && !proc_alive(&m->fuse))
		return "nbdfuse died";
	return "";
}

/* ---- detaching ---- */

static int detach_loop(const char *run_dir, const struct mapping *m, bool dead)
{
	int fd = open(m->device, O_RDONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return cli_fail("open %s: %s", m->device, strerror(errno));
	if (!dead && !m->readonly && fsync(fd) < 0)
		rc = cli_fail("write what is cached of %s: %s", m->device, strerror(errno));
	if (rc == 0 && ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO)
		rc = cli_fail("detach %s: %s", m->device, strerror(errno));
	close(fd);
	/* Who has it open keeps it a little longer: udev, a program that ends. */
	for (int i = 0; rc == 0 && is_ours(run_dir, m); i++) {
		if (i * LOOK_MS > SETTLE_MS)
			return cli_fail("%s is still open; it goes when that is closed, then "
					"unmap again",
				m->device);
		nap();
	}
	return rc;
}

int device_detach(const char *run_dir, const struct mapping *known, bool dead)
{
	struct mapping m = completed(run_dir, known);
	int rc = CLI_OK;

	if (!strcmp(m.method, "none"))
		return CLI_OK;
	if (!strcmp(m.method, "nbd"))
		return is_ours(run_dir, &m) ? detach_nbd(run_dir, &m) : CLI_OK;
	dead |= !proc_alive(&m.fuse);
	if (is_ours(run_dir, &m))
		rc = detach_loop(run_dir, &m, dead);
	return rc ? rc : stop_fuse(run_dir, &m, dead);
}
