/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* input.c - see input.h.
 *
 * One buffer, read in large pieces; what is left of it is moved to its front when a line or a piece
 * does not fit.  A decompressor has the file itself as its stdin, so that the file's offset, which
 * both share, tells how far it is.
 */
#include "trace/input.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { BUFFER = 1 << 18 };

struct trace_input {
	char *name;
	int file, fd; /* the file; where bytes come from: the file, a decompressor's pipe, or -1 */
	const char *tool;
	pid_t pid;
	uint64_t size, taken; /* of the file; read, of a pipe */
	size_t at, end; /* of buf: the bytes not taken yet */
	bool eof;
	int failed; /* -errno, once the bytes before it are taken */
	struct err why;
	char buf[BUFFER + 1];
};

static const struct {
	const char *magic, *tool, *package;
	size_t len;
} tools[] = {
	{"\x1f\x8b", "gzip", "gzip", 2},
	{"\x28\xb5\x2f\xfd", "zstd", "zstd", 4},
	{"\xfd\x37\x7a\x58\x5a", "xz", "xz-utils", 5},
	{"BZh", "bzip2", "bzip2", 3},
};

static void fail(struct trace_input *in, int rc, const char *what)
{
	in->failed = err_set(&in->why, rc, "'%s': %s", in->name, what);
}

/* The decompressor's verdict; it has said on stderr what it found. */
static void finish(struct trace_input *in)
{
	int status = 0;
	char what[80];

	in->eof = true;
	if (in->pid <= 0)
		return;
	while (waitpid(in->pid, &status, 0) < 0 && errno == EINTR)
		;
	in->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	snprintf(what, sizeof(what), "%s cannot decompress it: it is damaged or cut off", in->tool);
	fail(in, -EIO, what);
}

/* More bytes behind those not taken yet; false when there are none, or no room. */
static bool fill(struct trace_input *in)
{
	ssize_t n;

	if (in->eof || in->end - in->at == BUFFER)
		return false;
	memmove(in->buf, in->buf + in->at, in->end - in->at);
	in->end -= in->at;
	in->at = 0;
	do
		n = read(in->fd, in->buf + in->end, BUFFER - in->end);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		fail(in, -EIO, strerror(errno));
		in->eof = true;
	} else if (n == 0) {
		finish(in);
	} else {
		in->end += (size_t)n;
		in->taken += (size_t)n;
	}
	return n > 0;
}

static int failure(struct trace_input *in, struct err *e)
{
	return in->failed ? err_set(e, in->failed, "%s", in->why.msg) : 0;
}

/* ---- opening ---- */

static int start_tool(struct trace_input *in, size_t i, struct err *e)
{
	char *argv[] = {(char *)tools[i].tool, "-dc", NULL};
	posix_spawn_file_actions_t acts;
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&acts);
	posix_spawn_file_actions_adddup2(&acts, in->file, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&acts, fds[1], STDOUT_FILENO);
	rc = posix_spawnp(&in->pid, tools[i].tool, &acts, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&acts);
	close(fds[1]);
	in->fd = fds[0];
	in->tool = tools[i].tool;
	if (rc == 0)
		return 0;
	in->pid = 0;
	return err_set(e, -rc, "'%s' is compressed and needs the program %s (package %s): %s",
		in->name, tools[i].tool, tools[i].package, strerror(rc));
}

static int find_tool(struct trace_input *in, struct err *e)
{
	const uint8_t *head;
	size_t n = trace_input_peek(in, 8, &head);

	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++) {
		if (n < tools[i].len || memcmp(head, tools[i].magic, tools[i].len))
			continue;
		if (lseek(in->file, 0, SEEK_SET) < 0)
			return err_set(e, -EINVAL,
				"'%s' is compressed and comes from a pipe: put %s -dc in front of "
				"it",
				in->name, tools[i].tool);
		in->at = in->end = 0;
		in->eof = false;
		return start_tool(in, i, e);
	}
	return failure(in, e);
}

static struct trace_input *input_new(const char *name)
{
	struct trace_input *in = malloc(sizeof(*in));

	if (!in)
		return NULL;
	memset(in, 0, offsetof(struct trace_input, buf));
	in->file = in->fd = -1;
	in->name = strdup(name);
	if (!in->name) {
		free(in);
		return NULL;
	}
	return in;
}

int trace_input_open(const char *path, struct trace_input **out, struct err *e)
{
	struct trace_input *in = input_new(path);
	struct stat st;
	int rc;

	if (!in)
		return err_set(e, -ENOMEM, "out of memory");
	in->file = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	in->fd = in->file;
	if (in->file < 0 || fstat(in->file, &st) < 0) {
		rc = err_set(e, -errno, "'%s': %s", path, strerror(errno));
	} else {
		in->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
		posix_fadvise(in->file, 0, 0, POSIX_FADV_SEQUENTIAL);
		rc = find_tool(in, e);
	}
	if (rc < 0) {
		trace_input_close(in);
		return rc;
	}
	*out = in;
	return 0;
}

int trace_input_memory(
	const void *bytes, size_t len, const char *name, struct trace_input **out, struct err *e)
{
	struct trace_input *in = input_new(name);

	if (!in)
		return err_set(e, -ENOMEM, "out of memory");
	/* a pipe would do, had it room; so a file without a name */
	in->file = in->fd = memfd_create("trace", MFD_CLOEXEC);
	if (in->file < 0 || write(in->file, bytes, len) != (ssize_t)len ||
		lseek(in->file, 0, SEEK_SET) != 0) {
		trace_input_close(in);
		return err_set(e, -EIO, "'%s': no memory for it: %s", name, strerror(errno));
	}
	in->size = len;
	*out = in;
	return 0;
}

/* ---- reading ---- */

size_t trace_input_peek(struct trace_input *in, size_t n, const uint8_t **bytes)
{
	while (in->end - in->at < n && fill(in))
		;
	*bytes = (const uint8_t *)in->buf + in->at;
	return in->end - in->at < n ? in->end - in->at : n;
}

int trace_input_line(struct trace_input *in, char **line, size_t *len, struct err *e)
{
	size_t seen = 0; /* bytes that hold no newline */
	char *nl;

	for (;;) {
		char *s = in->buf + in->at;

		nl = memchr(s + seen, '\n', in->end - in->at - seen);
		if (nl)
			break;
		seen = in->end - in->at;
		if (seen <= TRACE_INPUT_MAX && fill(in))
			continue;
		if (in->failed)
			return failure(in, e);
		if (seen == 0)
			return 0;
		nl = in->buf + in->end; /* the last line, without one; or too long */
		break;
	}
	*line = in->buf + in->at;
	*len = (size_t)(nl - *line);
	in->at += *len + (nl < in->buf + in->end);
	*nl = 0;
	if (*len > TRACE_INPUT_MAX || memchr(*line, 0, *len))
		return err_set(e, -EUCLEAN, "not text");
	return 1;
}

int trace_input_read(struct trace_input *in, void *to, size_t n, struct err *e)
{
	const uint8_t *bytes;
	size_t got = trace_input_peek(in, n, &bytes);

	if (got < n && in->failed)
		return failure(in, e);
	memcpy(to, bytes, got);
	in->at += got;
	return (int)got;
}

uint64_t trace_input_done(const struct trace_input *in)
{
	off_t at = in->size ? lseek(in->file, 0, SEEK_CUR) : -1;

	return at >= 0 ? (uint64_t)at : in->taken;
}

uint64_t trace_input_size(const struct trace_input *in)
{
	return in->size;
}

const char *trace_input_name(const struct trace_input *in)
{
	return in->name;
}

void trace_input_close(struct trace_input *in)
{
	if (!in)
		return;
	if (in->fd >= 0 && in->fd != in->file)
		close(in->fd); /* a decompressor that still writes ends by this */
	if (in->file > STDIN_FILENO)
		close(in->file);
	while (in->pid > 0 && waitpid(in->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(in->name);
	free(in);
}
