/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* child.c - fork, exec, wait with a time limit. */
#include "ci/runner/child.h"
#include "ci/runner/bench.h"
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

char *file_text(const char *path, size_t *len)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t n = 0, room = 0;

	if (!f)
		return NULL;
	for (;;) {
		if (n + 1 >= room) {
			char *more = realloc(text, room = room ? 2 * room : 65536);

			if (!more)
				break;
			text = more;
		}
		size_t got = fread(text + n, 1, room - n - 1, f);

		n += got;
		if (!got)
			break;
	}
	fclose(f);
	if (text)
		text[n] = 0;
	if (len)
		*len = n;
	return text;
}

static void redirect(const char *path, int to)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || dup2(fd, to) < 0)
		_exit(126);
}

static void __attribute__((noreturn)) become(const struct child *c, pid_t parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || null < 0)
		_exit(126);
	dup2(null, STDIN_FILENO);
	redirect(c->log ? c->log : "/dev/null", STDERR_FILENO);
	if (c->out)
		redirect(c->out, STDOUT_FILENO);
	else
		dup2(STDERR_FILENO, STDOUT_FILENO);
	if (c->cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET((size_t)c->cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	for (const char *const *v = c->env; v && *v; v++)
		putenv((char *)(uintptr_t)*v);
	if (c->cwd && chdir(c->cwd))
		_exit(126);
	execvp(c->argv[0], (char *const *)(uintptr_t)c->argv);
	dprintf(STDERR_FILENO, "%s: %s\n", c->argv[0], strerror(errno));
	_exit(127);
}

/* Waits up to limit_s or an interrupt.  True when it ended. */
static bool wait_for(
	pid_t pid, int pidfd, double limit_s, bool heed, int *status, struct rusage *ru)
{
	double end = now_s() + limit_s;

	for (;;) {
		double left = end - now_s();
		struct pollfd p = {.fd = pidfd, .events = POLLIN};

		if (wait4(pid, status, WNOHANG, ru) == pid)
			return true;
		if (left <= 0 || (heed && cli_interrupted))
			return false;
		poll(&p, pidfd >= 0, pidfd < 0 ? 5 : left < 0.2 ? (int)(left * 1e3) + 1 : 200);
	}
}

static void end_group(pid_t pid, int pidfd, int *status, struct rusage *ru)
{
	kill(-pid, SIGTERM);
	if (wait_for(pid, pidfd, 2, false, status, ru)) {
		kill(-pid, SIGKILL); /* what it left */
		return;
	}
	kill(-pid, SIGKILL);
	while (wait4(pid, status, 0, ru) < 0 && errno == EINTR)
		;
}

/* The last lines of a log, in one. */
static void tail(const char *path, char *out, size_t size)
{
	size_t n = 0;
	char *text = path ? file_text(path, &n) : NULL, *from;

	out[0] = 0;
	if (!text)
		return;
	while (n && text[n - 1] == '\n')
		text[--n] = 0;
	from = text + (n > 300 ? n - 300 : 0);
	snprintf(out, size, "%s", from);
	for (char *p = out; *p; p++)
		if (*p == '\n')
			*p = '|';
	free(text);
}

static int judge(const struct child *c, bool ended, int status, struct err *e)
{
	char last[320];

	if (cli_interrupted)
		return err_set(e, -EINTR, "interrupted");
	tail(c->log, last, sizeof(last));
	if (!ended)
		return err_set(e, -ETIMEDOUT, "%s: did not end in %.0f s: %s", c->argv[0],
			c->limit_s, last);
	if (WIFSIGNALED(status))
		return err_set(
			e, -EIO, "%s: ended by signal %d: %s", c->argv[0], WTERMSIG(status), last);
	if (WEXITSTATUS(status))
		return err_set(
			e, -EIO, "%s: exit code %d: %s", c->argv[0], WEXITSTATUS(status), last);
	return 0;
}

int child_run(struct child *c, struct err *e)
{
	pid_t parent = getpid(), pid;
	struct rusage ru = {0};
	double begun = now_s();
	int status = 0, pidfd;
	bool ended;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return err_set(e, -errno, "fork: %s", strerror(errno));
	if (!pid)
		become(c, parent);
	setpgid(pid, pid);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	ended = wait_for(pid, pidfd, c->limit_s, true, &status, &ru);
	if (!ended)
		end_group(pid, pidfd, &status, &ru);
	if (pidfd >= 0)
		close(pidfd);
	c->wall_s = now_s() - begun;
	c->cpu_s = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
		   1e-6 * (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
	return judge(c, ended, status, e);
}

int child_json(
	const char *dir, const char *const *argv, double limit_s, json_t **out, struct err *e)
{
	char file[BENCH_PATH + 16], log[BENCH_PATH + 16], *text;
	const char *env[] = {"LSVD_SYSTEM_CONFIG=lsvd.json", "XDG_CONFIG_HOME=.", NULL};
	struct child c = {.argv = argv,
		.env = env,
		.cwd = dir,
		.out = file,
		.log = log,
		.cpu = -1,
		.limit_s = limit_s};
	int rc;

	snprintf(file, sizeof(file), "%s/child.json", dir);
	snprintf(log, sizeof(log), "%s/child.log", dir);
	rc = child_run(&c, e);
	if (rc)
		return rc;
	text = file_text(file, NULL);
	*out = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	return *out ? 0 : err_set(e, -EUCLEAN, "%s: printed no JSON", argv[0]);
}
