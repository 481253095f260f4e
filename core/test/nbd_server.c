/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/nbd_server.h"

#include "test/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 30, TRIES = 1000 };

bool nbd_server_possible(const char **why)
{
#ifndef HAVE_NBD
	*why = "built without libnbd (package libnbd-dev)";
	return false;
#endif
	*why = "no nbdkit (package nbdkit)";
	return access("/usr/bin/nbdkit", X_OK) == 0 || access("/usr/sbin/nbdkit", X_OK) == 0;
}

static void run(const struct nbd_server *s, char *args)
{
	char *argv[WORDS_MAX] = {"nbdkit", "-f", "-U", (char *)(uintptr_t)s->socket}, *rest = NULL;
	int n = 4, null = open("/dev/null", O_RDWR);

	for (char *w = strtok_r(args, " ", &rest); w && n < WORDS_MAX - 1;
		w = strtok_r(NULL, " ", &rest))
		argv[n++] = w;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	execvp("nbdkit", argv);
	_exit(127);
}

static bool listens(const struct nbd_server *s)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	snprintf(a.sun_path, sizeof(a.sun_path), "%.100s", s->socket);
	ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	return ok;
}

void nbd_server_start(struct nbd_server *s, const char *name, const char *args)
{
	struct timespec ts = {.tv_nsec = 10000000};
	char copy[512];

	snprintf(s->socket, sizeof(s->socket), "%s/%s", test_dir(), name);
	snprintf(s->url, sizeof(s->url), "nbd+unix:///?socket=%s", s->socket);
	snprintf(copy, sizeof(copy), "%s", args);
	unlink(s->socket);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0)
		run(s, copy);
	for (int i = 0; i < TRIES && !listens(s); i++)
		nanosleep(&ts, NULL);
	assert_true(listens(s));
}

void nbd_server_kill(struct nbd_server *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	s->pid = 0;
	unlink(s->socket);
}
