/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* blktracefs.c - see blktracefs.h. */
#include "trace/blktracefs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 1 << 16, SECTOR = 512 };

/* Files of tracefs that are changed; what was in them is put back, the last first. */
static const struct setting {
	const char *file, *value;
} settings[] = {{"buffer_size_kb", "8192"}, {"current_tracer", "blk"}, {"options/bin", "1"},
	{"options/context-info", "0"}, {"tracing_on", "1"}};
enum { SETTINGS = sizeof(settings) / sizeof(settings[0]) };

struct blktracefs {
	const char *root;
	char enable[160]; /* the device's switch */
	char before[SETTINGS][64];
	unsigned changed; /* how many of the settings */
	bool enabled;
	int pipe;
	uint64_t first_sector, sectors, lost;
	uint8_t buf[BUFFER];
	size_t have;
};

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* The first word. */
static int read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	int rc = n < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	text[strcspn(text, " \n")] = 0;
	return rc;
}

static uint64_t read_number(const char *dir, const char *file)
{
	char path[256], text[32];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return read_file(path, text, sizeof(text)) < 0 ? 0 : strtoull(text, NULL, 10);
}

/* ---- the tracer ---- */

static int find_root(struct blktracefs *t, struct err *e)
{
	static const char *const roots[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
	char path[80];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/current_tracer", roots[i]);
		t->root = roots[i];
		if (access(path, W_OK) == 0)
			return 0;
		if (errno == EACCES)
			return err_set(e, -EACCES,
				"%s: no permission; the kernel's tracer is for root", path);
	}
	return err_set(e, -ENOENT, "no tracefs at %s; as root: mount -t tracefs tracefs %s",
		roots[0], roots[0]);
}

static int change(struct blktracefs *t, const struct setting *s, char *before, struct err *e)
{
	char path[128];
	int rc;

	snprintf(path, sizeof(path), "%s/%s", t->root, s->file);
	rc = read_file(path, before, sizeof(t->before[0]));
	if (rc == 0 && !strcmp(s->file, "current_tracer") && strcmp(before, "nop"))
		return err_set(e, -EBUSY,
			"the kernel's tracer '%s' is in use; end it: echo nop > %s", before, path);
	if (rc == 0)
		rc = write_file(path, s->value);
	if (rc == -EINVAL || rc == -ENOENT)
		return err_set(e, -ENOTSUP,
			"%s: the kernel has no blk tracer (CONFIG_BLK_DEV_IO_TRACE)", path);
	return rc < 0 ? err_set(e, rc, "%s: %s", path, strerror(-rc)) : 0;
}

static int change_settings(struct blktracefs *t, struct err *e)
{
	int rc = find_root(t, e);

	for (; rc == 0 && t->changed < SETTINGS; t->changed++) {
		rc = change(t, &settings[t->changed], t->before[t->changed], e);
		if (rc < 0)
			break;
	}
	return rc;
}

static void restore_settings(struct blktracefs *t)
{
	char path[128];

	while (t->changed) {
		t->changed--;
		snprintf(path, sizeof(path), "%s/%s", t->root, settings[t->changed].file);
		write_file(path, t->before[t->changed]);
	}
}

/* ---- the device ---- */

static int find_device(struct blktracefs *t, const char *device, struct err *e)
{
	const char *name = strrchr(device, '/') ? strrchr(device, '/') + 1 : device;
	char *real = strchr(device, '/') ? realpath(device, NULL)
					 : NULL; /* /dev/disk/by-*, /dev/mapper */
	char dir[128];
	int rc = 0;

	if (real)
		name = strrchr(real, '/') + 1;
	snprintf(dir, sizeof(dir), "/sys/class/block/%s", name);
	snprintf(t->enable, sizeof(t->enable), "%s/trace/enable", dir);
	if (access(dir, F_OK) < 0)
		rc = err_set(e, -ENOENT, "'%s' is no block device", device);
	else if (access(t->enable, F_OK) < 0)
		rc = err_set(
			e, -ENOTSUP, "'%s' cannot be traced: there is no %s", device, t->enable);
	t->first_sector = read_number(dir, "start");
	t->sectors = read_number(dir, "size");
	free(real);
	return rc;
}

static int enable(struct blktracefs *t, struct err *e)
{
	char path[128];
	int rc;

	snprintf(path, sizeof(path), "%s/trace", t->root);
	write_file(path, ""); /* forget what is there */
	snprintf(path, sizeof(path), "%s/trace_pipe", t->root);
	t->pipe = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (t->pipe < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	rc = write_file(t->enable, "1");
	t->enabled = rc == 0;
	return rc < 0 ? err_set(e, rc, "%s: %s", t->enable, strerror(-rc)) : 0;
}

int blktracefs_open(const char *device, struct blktracefs **out, struct err *e)
{
	struct blktracefs *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->pipe = -1;
	rc = find_device(t, device, e);
	if (rc == 0)
		rc = change_settings(t, e);
	if (rc == 0)
		rc = enable(t, e);
	if (rc < 0)
		blktracefs_close(t);
	else
		*out = t;
	return rc;
}

/* ---- events ---- */

/* The kernel says between two events how many it had to drop, in text.  Bytes of it, 0 if it is
 * none, -EAGAIN when it is not all there. */
static ssize_t lost_line(struct blktracefs *t, const uint8_t *p, size_t n)
{
	const uint8_t *end = memchr(p, '\n', n < 80 ? n : 80);
	unsigned long lost = 0;
	char line[81] = "";

	if (n < 4 ? !memcmp(p, "CPU:", n) : !end && n < 80 && !memcmp(p, "CPU:", 4))
		return -EAGAIN;
	if (!end || memcmp(p, "CPU:", 4))
		return 0;
	memcpy(line, p, (size_t)(end - p));
	if (sscanf(line, "CPU:%*d [LOST %lu EVENTS]", &lost) == 1)
		t->lost += lost;
	return end + 1 - p;
}

static void of_partition(const struct blktracefs *t, struct blk_event *ev)
{
	if (ev->bytes || ev->discard)
		ev->sector -= ev->sector >= t->first_sector ? t->first_sector : 0;
}

/* Takes the first event out of p[n]: its bytes, or 0 when it is not all there. */
static size_t next_event(struct blktracefs *t, const uint8_t *p, size_t n, struct blk_event *ev)
{
	ssize_t text = lost_line(t, p, n);
	int more;

	ev->action = BLK_OTHER;
	if (text)
		return text > 0 ? (size_t)text : 0;
	if (n < BLK_EVENT_BYTES)
		return 0;
	more = blk_event_decode(p, ev);
	if (more < 0)
		return 1; /* look on */
	if (n < BLK_EVENT_BYTES + (size_t)more) {
		ev->action = BLK_OTHER;
		return 0;
	}
	of_partition(t, ev);
	return BLK_EVENT_BYTES + (size_t)more;
}

int blktracefs_read(struct blktracefs *t, int wait_ms, blktracefs_fn *fn, void *arg, struct err *e)
{
	struct pollfd fd = {.fd = t->pipe, .events = POLLIN};
	struct blk_event ev;
	int events = 0, rc = 0;
	size_t at = 0, n;
	ssize_t got = read(t->pipe, t->buf + t->have, BUFFER - t->have);

	if (got < 0 && errno == EAGAIN && wait_ms) {
		poll(&fd, 1, wait_ms);
		got = read(t->pipe, t->buf + t->have, BUFFER - t->have);
	}
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		return err_set(e, -EIO, "%s/trace_pipe: %s", t->root, strerror(errno));
	t->have += got > 0 ? (size_t)got : 0;
	while (rc >= 0 && (n = next_event(t, t->buf + at, t->have - at, &ev)) > 0) {
		at += n;
		events++;
		rc = fn(arg, &ev);
	}
	t->have -= at;
	memmove(t->buf, t->buf + at, t->have);
	return rc < 0 ? rc : events;
}

void blktracefs_stop(struct blktracefs *t)
{
	if (t->enabled)
		write_file(t->enable, "0");
	t->enabled = false;
}

uint64_t blktracefs_size(const struct blktracefs *t)
{
	return t->sectors * SECTOR;
}

uint64_t blktracefs_lost(const struct blktracefs *t)
{
	return t->lost;
}

void blktracefs_close(struct blktracefs *t)
{
	if (!t)
		return;
	blktracefs_stop(t);
	if (t->pipe >= 0)
		close(t->pipe);
	restore_settings(t);
	free(t);
}
