/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cluster.c - starts ci/ceph, sees to its end, asks its OSD. */
#include "ci/runner/cluster.h"
#include "ci/runner/child.h"
#include "cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OSD_GIB = 24, IDLE_MS = 250, IDLE_PERCENT = 8, IDLE_TURNS = 60, ANSWER_MAX = 4 << 20 };

static struct {
	char dir[BENCH_PATH + 8];
	bool up;
	pid_t guardian, osd;
	int lifeline; /* the guardian acts when it is closed */
} lab = {.lifeline = -1};

/* ---- is it there? ---- */

static bool in_path(const char *program)
{
	const char *path = getenv("PATH");
	char file[4096];

	while (path && *path) {
		size_t n = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, program);
		if (!access(file, X_OK))
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

const char *cluster_missing(void)
{
	static const char *const programs[] = {
		"ceph-mon", "ceph-osd", "ceph", "rbd", "radosgw", "radosgw-admin", "curl"};
	static char why[160];

#if !defined(HAVE_RADOS) || !defined(HAVE_S3)
	return "built without RADOS or S3 (ci/setup build names the packages)";
#endif
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!in_path(programs[i])) {
			snprintf(why, sizeof(why),
				"no %s here (packages ceph-mon ceph-osd ceph-common radosgw curl: "
				"ci/setup ceph)",
				programs[i]);
			return why;
		}
	return NULL;
}

/* ---- its end ---- */

static void __attribute__((noreturn)) guard(int lifeline)
{
	int null = open("/dev/null", O_RDWR);
	char c;

	setsid(); /* a Ctrl-C is not for it */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	while (read(lifeline, &c, 1) < 0 && errno == EINTR)
		;
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	execl("ci/ceph", "ci/ceph", "down", lab.dir, NULL);
	_exit(127);
}

static int start_guardian(struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	fflush(NULL);
	lab.guardian = fork();
	if (!lab.guardian) {
		close(fds[1]);
		guard(fds[0]);
	}
	close(fds[0]);
	if (lab.guardian < 0) {
		close(fds[1]);
		return err_set(e, -errno, "fork: %s", strerror(errno));
	}
	lab.lifeline = fds[1];
	return 0;
}

void cluster_stop(void)
{
	if (lab.lifeline < 0)
		return;
	close(lab.lifeline);
	lab.lifeline = -1;
	while (waitpid(lab.guardian, NULL, 0) < 0 && errno == EINTR)
		;
	lab.up = false;
}

/* ---- its start ---- */

/* Lines of `export NAME=VALUE`. */
static int take_environment(const struct bench *b, struct err *e)
{
	char out[BENCH_PATH + 16], log[BENCH_PATH + 16], *text, *save = NULL;
	const char *argv[] = {"ci/ceph", "env", lab.dir, NULL};
	struct child c = {.argv = argv, .out = out, .log = log, .cpu = -1, .limit_s = 10};
	int rc;

	snprintf(out, sizeof(out), "%s/ceph.env", b->dir);
	snprintf(log, sizeof(log), "%s/ceph.log", b->dir);
	rc = child_run(&c, e);
	text = rc ? NULL : file_text(out, NULL);
	unlink(out); /* a key is in it */
	for (char *l = text ? strtok_r(text, "\n", &save) : NULL; l;
		l = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(l, '=');

		if (strncmp(l, "export ", 7) || !value)
			continue;
		*value = 0;
		setenv(l + 7, value + 1, 1);
	}
	if (!rc && !text)
		rc = err_set(e, -EIO, "%s: %s", out, strerror(errno));
	free(text);
	return rc;
}

/* RBD acknowledges from the cluster, as LSVD does from its journal: not from memory. */
static int no_rbd_cache(struct err *e)
{
	char path[BENCH_PATH + 32];
	FILE *f;

	snprintf(path, sizeof(path), "%s/ceph.conf", lab.dir);
	f = fopen(path, "ae");
	if (!f || fputs("[client.admin]\nrbd_cache = false\n", f) < 0 || fclose(f))
		return err_set(e, -EIO, "%s: %s", path, strerror(errno));
	return 0;
}

static int find_osd(struct err *e)
{
	char path[BENCH_PATH + 32], *text;

	snprintf(path, sizeof(path), "%s/run/osd.0.pid", lab.dir);
	text = file_text(path, NULL);
	lab.osd = text ? (pid_t)atoi(text) : 0;
	free(text);
	return lab.osd > 0 ? 0 : err_set(e, -ENOENT, "%s: no process", path);
}

static int make_bucket(const struct bench *b, struct err *e)
{
	char user[200], sigv4[80], url[160], log[BENCH_PATH + 16];
	/* the hash of an empty body */
	const char *argv[] = {"curl", "-sSf", "-X", "PUT", "--aws-sigv4", sigv4, "-u", user, "-H",
		"x-amz-content-sha256: "
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		url, NULL};
	struct child c = {.argv = argv, .log = log, .cpu = -1, .limit_s = 30};

	snprintf(user, sizeof(user), "%s:%s", getenv("AWS_ACCESS_KEY_ID"),
		getenv("AWS_SECRET_ACCESS_KEY"));
	snprintf(sigv4, sizeof(sigv4), "aws:amz:%s:s3", getenv("AWS_REGION"));
	snprintf(url, sizeof(url), "%s/bench", getenv("AWS_ENDPOINT_URL"));
	snprintf(log, sizeof(log), "%s/curl.log", b->dir);
	return child_run(&c, e);
}

int cluster_start(const struct bench *b, struct err *e)
{
	char gib[16], log[BENCH_PATH + 16];
	const char *argv[] = {
		"ci/ceph", "up", lab.dir, "-n", "1", "-s", "bluestore", "-g", gib, "-r", NULL};
	struct child c = {.argv = argv, .log = log, .cpu = -1, .limit_s = 150};
	int rc;

	if (lab.up)
		return 0;
	cluster_stop(); /* one that did not start */
	snprintf(gib, sizeof(gib), "%d", OSD_GIB);
	snprintf(lab.dir, sizeof(lab.dir), "%s/ceph", b->dir);
	snprintf(log, sizeof(log), "%s/ceph.log", b->dir);
	rc = start_guardian(e);
	if (!rc)
		rc = child_run(&c, e);
	if (!rc)
		rc = take_environment(b, e);
	if (!rc)
		rc = no_rbd_cache(e);
	if (!rc)
		rc = find_osd(e);
	if (!rc)
		rc = make_bucket(b, e);
	if (rc)
		return err_wrap(e, rc, "a cluster");
	lab.up = true;
	return 0;
}

/* ---- its OSD ---- */

pid_t cluster_osd(void)
{
	return lab.osd;
}

static double osd_cpu_s(void)
{
	char path[64], *text, *p;
	unsigned long long user = 0, system = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)lab.osd);
	text = file_text(path, NULL);
	p = text ? strrchr(text, ')') : NULL; /* the name may have blanks */
	if (!p || sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
			  &system) != 2)
		user = system = 0;
	free(text);
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static bool all_of(int fd, void *buf, size_t len)
{
	for (size_t n = 0; n < len;) {
		ssize_t got = recv(fd, (char *)buf + n, len - n, 0);

		if (got <= 0)
			return false;
		n += (size_t)got;
	}
	return true;
}

/* An admin socket takes a line of JSON that ends with a zero byte, and answers with a length (32
 * bits, big-endian) and JSON. */
static json_t *ask(const char *command)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char path[BENCH_PATH + 32], *text = NULL;
	json_t *answer = NULL;
	uint32_t len = 0;

	snprintf(path, sizeof(path), "%s/run/osd.0.asok", lab.dir);
	if (fd >= 0 && strlen(path) < sizeof(to.sun_path)) {
		memcpy(to.sun_path, path, strlen(path) + 1);
		if (!connect(fd, (struct sockaddr *)&to, sizeof(to)) &&
			send(fd, command, strlen(command) + 1, MSG_NOSIGNAL) > 0 &&
			all_of(fd, &len, sizeof(len)) && (len = ntohl(len)) < ANSWER_MAX)
			text = calloc(1, len + 1);
		if (text && all_of(fd, text, len))
			/* counters of 64 bits without a sign may be too large for an integer */
			answer = json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
	}
	if (fd >= 0)
		close(fd);
	free(text);
	return answer;
}

int cluster_osd_work(struct osd_work *w, struct err *e)
{
	json_t *all = ask("{\"prefix\": \"perf dump\", \"logger\": \"osd\"}"),
	       *osd = json_object_get(all, "osd"), *op_w = json_object_get(osd, "op_w"),
	       *op_rw = json_object_get(osd, "op_rw");
	bool there = json_is_number(op_w) && json_is_number(op_rw);

	*w = (struct osd_work){.cpu_s = osd_cpu_s()};
	if (there)
		w->writes = (uint64_t)(json_number_value(op_w) + json_number_value(op_rw));
	json_decref(all);
	return there ? 0
		     : err_set(e, -EIO,
			       "the OSD's admin socket does not tell its counters "
			       "(perf dump: osd.op_w, osd.op_rw)");
}

void cluster_settle(void)
{
	const struct timespec ts = {.tv_nsec = IDLE_MS * 1000000};
	double most = IDLE_PERCENT * IDLE_MS / 1e5, last = osd_cpu_s();

	for (unsigned i = 0, quiet = 0; i < IDLE_TURNS && quiet < 2 && !cli_interrupted; i++) {
		double now;

		nanosleep(&ts, NULL);
		now = osd_cpu_s();
		quiet = now - last <= most ? quiet + 1 : 0;
		last = now;
	}
}
