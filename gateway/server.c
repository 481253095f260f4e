/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/server.h"
#include "gateway/client.h"
#include "gateway/url.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGS = 2 * CLI_OPEN_OPTIONS + 24, LOG_TAIL = 4096, LOOK_MS = 10, NONE = -1 };

static void in_dir(const struct server *s, const char *name, char out[STATE_PATH])
{
	snprintf(out, STATE_PATH, "%.120s/%s", s->dir, name);
}

void server_socket(const struct server *s, char out[STATE_PATH])
{
	in_dir(s, "nbd", out);
}

void server_control(const struct server *s, char out[STATE_PATH])
{
	in_dir(s, "control", out);
}

void server_complaint(const struct server *s, char *out, size_t len)
{
	char path[STATE_PATH], text[LOG_TAIL + 1], *line, *save = NULL;
	const char *tag = "error: ";
	size_t n;
	FILE *f;

	out[0] = 0;
	in_dir(s, "log", path);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fseek(f, -LOG_TAIL, SEEK_END) < 0)
		rewind(f);
	n = fread(text, 1, LOG_TAIL, f);
	text[n] = 0;
	fclose(f);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strstr(line, tag))
			snprintf(out, len, "%s", strstr(line, tag) + strlen(tag));
}

/* ---- what it is called with ---- */

/* Beside this program (a build folder), or in ../lib/lsvd (an installation), or nbdkit's own. */
static const char *find_plugin(char out[PATH_MAX])
{
	static const char *const places[] = {
		"nbdkit-lsvd-plugin.so", "../lib/lsvd/nbdkit-lsvd-plugin.so"};
	const char *env = getenv("LSVD_NBDKIT_PLUGIN");
	char exe[PATH_MAX - 64];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (env && env[0])
		return env;
	exe[n > 0 ? n : 0] = 0;
	slash = strrchr(exe, '/');
	if (slash)
		*slash = 0;
	for (unsigned i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(out, PATH_MAX, "%s/%s", exe, places[i]);
		if (access(out, R_OK) == 0)
			return out;
	}
	return "lsvd";
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
	char *out;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&out, fmt, ap) < 0)
		out = NULL;
	va_end(ap);
	return out;
}

/* The settings as the plugin takes them; they are the gateway's identity, too. */
static unsigned option_args(const struct cli_open *o, char **out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < o->n; i++) {
		const char *arg = o->opts[i].arg;
		char *path;

		switch (o->opts[i].kind) {
		case 'c':
			path = realpath(arg, NULL);
			out[n++] = text("config=%s", path ? path : arg);
			free(path);
			break;
		case 'p':
			out[n++] = text("pool=%s", arg);
			break;
		default:
			out[n++] = text("set=%s", arg);
			break;
		}
	}
	return n;
}

static void free_args(char **args, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(args[i]);
}

static json_t *args_json(char **args, unsigned n)
{
	json_t *j = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(j, json_string(args[i]));
	return j;
}

/* ---- finding ---- */

static json_t *read_json(const struct server *s)
{
	char path[STATE_PATH];

	in_dir(s, "server.json", path);
	return json_load_file(path, 0, NULL);
}

static struct server numbered(const char *run, unsigned n)
{
	struct server s = {.n = n};

	snprintf(s.dir, sizeof(s.dir), "%.80s/server-%u", run, n);
	return s;
}

bool server_load(const char *run, unsigned n, struct server *s)
{
	json_t *j;

	*s = numbered(run, n);
	j = read_json(s);
	s->proc.pid = (pid_t)json_integer_value(json_object_get(j, "pid"));
	s->proc.started = (uint64_t)json_integer_value(json_object_get(j, "started"));
	json_decref(j);
	return j != NULL;
}

static void forget(const struct server *s)
{
	static const char *const names[] = {"nbd", "control", "log", "server.json"};
	char path[STATE_PATH];

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		in_dir(s, names[i], path);
		unlink(path);
	}
	rmdir(s->dir);
}

bool server_unused(const char *run, unsigned server)
{
	struct mapping *m = calloc(STATE_MAX, sizeof(*m));
	unsigned n = m ? mapping_list(run, m, STATE_MAX) : 0;
	bool unused = true;

	for (unsigned i = 0; i < n; i++)
		unused &= m[i].server != server;
	free(m);
	return unused;
}

/* NONE: there is none. */
static int find(const char *run, const char *pool, const json_t *args, struct server *s)
{
	for (unsigned n = 1; n < STATE_MAX; n++) {
		const char *its;
		bool same_pool, same_args;
		json_t *j;

		if (!server_load(run, n, s)) {
			if (access(s->dir, F_OK) == 0)
				forget(s); /* a start that was interrupted before there was a process */
			continue;
		}
		if (!proc_alive(&s->proc)) {
			if (server_unused(run, n))
				forget(s);
			continue;
		}
		j = read_json(s);
		its = json_string_value(json_object_get(j, "pool"));
		same_pool = its && !strcmp(its, pool);
		same_args = json_equal(json_object_get(j, "options"), args);
		json_decref(j);
		if (same_pool && same_args)
			return CLI_OK;
		if (same_pool)
			return cli_fail("the gateway of the pool '%s' runs with other settings; unmap "
					"its images first, or give the same",
				pool);
	}
	return NONE;
}

/* ---- starting ---- */

/* What is known of it is written by itself, so that there is none that nobody knows of. */
static void exec_server(const struct server *s, const json_t *known, char **args, unsigned n)
{
	char nbd[STATE_PATH], log[STATE_PATH], control[STATE_PATH + 16], plugin[PATH_MAX];
	char *argv[ARGS];
	unsigned k = 0;
	struct proc me = proc_of(getpid());
	json_t *j = json_deep_copy(known);
	int fd;

	json_object_set_new(j, "pid", json_integer(me.pid));
	json_object_set_new(j, "started", json_integer((json_int_t)me.started));
	in_dir(s, "server.json", log);
	if (state_write(log, j))
		_exit(127);
	server_socket(s, nbd);
	in_dir(s, "log", log);
	snprintf(control, sizeof(control), "control=%.120s/control", s->dir);
	argv[k++] = (char *)(uintptr_t)"nbdkit";
	argv[k++] = (char *)(uintptr_t)"--foreground";
	argv[k++] = (char *)(uintptr_t)"--unix";
	argv[k++] = nbd;
	argv[k++] = (char *)(uintptr_t)find_plugin(plugin);
	argv[k++] = control;
	for (unsigned i = 0; i < n; i++)
		argv[k++] = args[i];
	argv[k] = NULL;
	setsid();
	fd = open("/dev/null", O_RDONLY);
	dup2(fd, 0);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	execvp("nbdkit", argv);
	fprintf(stderr, "error: nbdkit: %s (package nbdkit)\n", strerror(errno));
	_exit(127);
}

static void nap(void)
{
	struct timespec ts = {.tv_nsec = LOOK_MS * 1000000L};

	nanosleep(&ts, NULL);
}

/* As nobody's child: nbdkit asks the kernel to be ended with its parent, whatever its options say (1.32). */
static pid_t spawn(const struct server *s, const json_t *known, char **args, unsigned n)
{
	int ends[2];
	pid_t child, pid = -1;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		child = getpid();
		pid = fork();
		if (pid == 0) {
			while (getppid() == child)
				nap();
			exec_server(s, known, args, n);
		}
		_exit(write(ends[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	close(ends[1]);
	if (child > 0 && read(ends[0], &pid, sizeof(pid)) != sizeof(pid))
		pid = -1;
	close(ends[0]);
	if (child > 0)
		waitpid(child, NULL, 0);
	return pid;
}

/* Until it answers, or is dead. */
static int wait_for(const struct server *s)
{
	char control[STATE_PATH], why[CLIENT_WHY];
	json_t *j;

	server_control(s, control);
	do {
		if (access(control, F_OK) == 0) {
			j = client_ask(control, json_pack("{s:s}", "do", "status"), why);
			json_decref(j);
			if (j)
				return CLI_OK;
		}
		nap();
	} while (proc_alive(&s->proc));
	server_complaint(s, why, sizeof(why));
	return cli_fail("the gateway does not start: %s",
		why[0] ? why : "nbdkit ended without a word");
}

static int start(const struct server *at, const json_t *known, char **args, unsigned n,
	struct server *out)
{
	struct server s = *at;
	int rc;

	if (mkdir(s.dir, 0700) < 0)
		return cli_fail("make directory '%s': %s", s.dir, strerror(errno));
	s.proc.pid = spawn(&s, known, args, n);
	if (s.proc.pid < 0) {
		rc = cli_fail("fork: %s", strerror(errno));
	} else {
		s.proc = proc_of(s.proc.pid);
		rc = wait_for(&s);
	}
	if (rc)
		forget(&s);
	*out = s;
	return rc;
}

int server_get(const char *run, const struct cli_open *o, struct server *s)
{
	char *args[CLI_OPEN_OPTIONS], *pool;
	struct lsvd_config *cfg;
	struct server at;
	json_t *known;
	unsigned n;
	int rc = cli_open_config(o, &cfg);

	if (rc)
		return rc;
	pool = url_absolute(lsvd_config_get(cfg, NULL, "pool.path", NULL));
	lsvd_config_free(cfg);
	n = option_args(o, args);
	known = json_pack("{s:s,s:o}", "pool", pool ? pool : "", "options", args_json(args, n));
	rc = known ? find(run, pool, json_object_get(known, "options"), s)
		   : cli_fail("out of memory");
	if (rc == CLI_OK) { /* an interrupted command may have left it while it started */
		rc = wait_for(s);
	} else if (rc == NONE) {
		at = numbered(run, state_free_number(run, "server-%u"));
		rc = start(&at, known, args, n, s);
	}
	json_decref(known);
	free_args(args, n);
	free(pool);
	return rc;
}

void server_stop(const struct server *s)
{
	if (proc_alive(&s->proc)) {
		kill(s->proc.pid, SIGTERM);
		proc_wait(&s->proc, -1);
	}
	forget(s);
}
