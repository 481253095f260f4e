/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/state.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_TRIES = 600, NAP_MS = 100, START_FIELD = 22 };

static void nap(int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

/* ---- processes ---- */

/* 0: there is none, or it has ended and only its parent does not know yet. */
static uint64_t start_of(pid_t pid)
{
	char path[64], text[1024], state = 'Z';
	unsigned long long started = 0;
	const char *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	/* The second field, a name in parentheses, may hold anything. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %c", &state) != 1 || state == 'Z' || state == 'X')
		return 0;
	for (int field = 2; p && field < START_FIELD; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, " %llu", &started) != 1)
		return 0;
	return started;
}

struct proc proc_of(pid_t pid)
{
	return (struct proc){.pid = pid, .started = start_of(pid)};
}

bool proc_alive(const struct proc *p)
{
	return p->pid > 0 && p->started && start_of(p->pid) == p->started;
}

bool proc_wait(const struct proc *p, int ms)
{
	for (int waited = 0; proc_alive(p); waited += NAP_MS / 5) {
		if (ms >= 0 && waited >= ms)
			return false;
		nap(NAP_MS / 5);
	}
	return true;
}

/* ---- the directory ---- */

int state_dir(char run[STATE_PATH])
{
	const char *env = getenv("LSVD_RUN_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (env && env[0])
		n = snprintf(run, STATE_PATH, "%s", env);
	else if (geteuid() == 0)
		n = snprintf(run, STATE_PATH, "/run/lsvd");
	else if (xdg && xdg[0])
		n = snprintf(run, STATE_PATH, "%s/lsvd", xdg);
	else
		n = -1;
	/* Sockets below it have paths of at most 107 bytes. */
	if (n >= 0 && n <= 80 && run[0] == '/')
		return 0;
	if (n < 0)
		cli_fail("XDG_RUNTIME_DIR is not set, so there is no place for sockets; set it, or "
			 "LSVD_RUN_DIR, to a directory of your own");
	else
		cli_fail("'%s' is no place for sockets: a whole path of at most 80 bytes is needed",
			run);
	return -1;
}

/* Ours alone, or somebody else could have put sockets there. */
static int check_dir(const char *run)
{
	struct stat st;

	if (mkdir(run, 0700) < 0 && errno != EEXIST) {
		cli_fail("make directory '%s': %s", run, strerror(errno));
		return -1;
	}
	if (lstat(run, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
		st.st_mode & (S_IWGRP | S_IWOTH)) {
		cli_fail("'%s' is not a directory that only this user can write to", run);
		return -1;
	}
	return 0;
}

int state_lock(char run[STATE_PATH])
{
	char path[STATE_PATH + 8];
	int fd, rc = -1;

	if (state_dir(run) < 0 || check_dir(run) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/lock", run);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		cli_fail("open '%s': %s", path, strerror(errno));
		return -1;
	}
	for (int i = 0; rc < 0 && i < LOCK_TRIES; i++) {
		rc = flock(fd, LOCK_EX | LOCK_NB);
		if (rc < 0)
			nap(NAP_MS);
	}
	if (rc < 0) {
		cli_fail("another command has held '%s' for a minute", path);
		close(fd);
		return -1;
	}
	return fd;
}

unsigned state_free_number(const char *run, const char *fmt)
{
	char name[64], path[STATE_PATH + 64];
	unsigned n = 1;

	for (; n < STATE_MAX; n++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* "map-%u.json", "server-%u" */
		snprintf(name, sizeof(name), fmt, n);
#pragma GCC diagnostic pop
		snprintf(path, sizeof(path), "%s/%s", run, name);
		if (access(path, F_OK) < 0)
			break;
	}
	return n;
}

int state_write(const char *path, const json_t *j)
{
	char tmp[STATE_PATH + 8];

	snprintf(tmp, sizeof(tmp), "%s.new", path);
	if (json_dump_file(j, tmp, JSON_INDENT(2)) < 0 || rename(tmp, path) < 0) {
		int rc = errno;

		unlink(tmp);
		return cli_fail("write '%s': %s", path, strerror(rc));
	}
	return CLI_OK;
}

/* ---- mappings ---- */

void mapping_path(const char *run, unsigned n, const char *suffix, char out[STATE_PATH])
{
	snprintf(out, STATE_PATH, "%.80s/map-%u.%s", run, n, suffix);
}

int mapping_save(const char *run, const struct mapping *m)
{
	char path[STATE_PATH];
	json_t *j = json_pack("{s:s,s:s,s:i,s:s,s:s,s:i,s:I,s:b}", "image", m->image, "export",
		m->export, "server", (int)m->server, "device", m->device, "method", m->method,
		"fuse_pid", (int)m->fuse.pid, "fuse_started", (json_int_t)m->fuse.started,
		"readonly", m->readonly);
	int rc;

	mapping_path(run, m->n, "json", path);
	rc = j ? state_write(path, j) : cli_fail("out of memory");
	json_decref(j);
	return rc;
}

void mapping_forget(const char *run, const struct mapping *m)
{
	/* The record last: what is left of an interrupted forgetting is known. */
	static const char *const suffixes[] = {"disk", "fuse.pid", "fuse.log", "nbd.log", "json"};
	char path[STATE_PATH];

	for (unsigned i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		mapping_path(run, m->n, suffixes[i], path);
		unlink(path);
	}
}

static int mapping_load(const char *run, unsigned n, struct mapping *m)
{
	const char *image, *export, *device, *method;
	char path[STATE_PATH];
	json_int_t started;
	json_t *j;
	int server, pid, readonly, rc;

	mapping_path(run, n, "json", path);
	if (access(path, F_OK) < 0)
		return -1;
	j = json_load_file(path, 0, NULL);
	rc = json_unpack(j, "{s:s,s:s,s:i,s:s,s:s,s:i,s:I,s:b}", "image", &image, "export", &export,
		"server", &server, "device", &device, "method", &method, "fuse_pid", &pid,
		"fuse_started", &started, "readonly", &readonly);
	if (rc == 0) {
		*m = (struct mapping){.n = n,
			.server = (unsigned)server,
			.fuse = {.pid = pid, .started = (uint64_t)started},
			.readonly = readonly};
		snprintf(m->image, sizeof(m->image), "%s", image);
		snprintf(m->export, sizeof(m->export), "%s", export);
		snprintf(m->device, sizeof(m->device), "%s", device);
		snprintf(m->method, sizeof(m->method), "%s", method);
	} else {
		cli_fail("'%s' cannot be read; if nothing is mapped, remove it", path);
	}
	json_decref(j);
	return rc;
}

unsigned mapping_list(const char *run, struct mapping *out, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 1; i < STATE_MAX && n < max; i++)
		if (mapping_load(run, i, &out[n]) == 0)
			n++;
	return n;
}
