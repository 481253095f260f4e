/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* recording.c - see recording.h. */
#include "trace/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int recording_check(const char *path, struct err *e)
{
	int fd;

	if (!strcmp(path, "-"))
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_set(e, -errno, "'%s': %s", path, strerror(errno));
	close(fd);
	return 0;
}

static uint64_t since(uint64_t base_ns, uint64_t t)
{
	return t > base_ns ? t - base_ns : 0;
}

int recording_add(struct recording *rec, const struct trace_record *r, struct err *e)
{
	struct trace_record copy = *r;

	if (recording_full(rec))
		return 0;
	if (!rec->w) {
		int rc = trace_writer_open(rec->path, &rec->header, &rec->w, e);

		if (rc < 0)
			return rc;
	}
	copy.submit_ns = since(rec->base_ns, r->submit_ns);
	if (r->complete_ns) {
		copy.complete_ns = since(rec->base_ns, r->complete_ns);
		copy.complete_ns += copy.complete_ns == 0; /* 0 is unknown */
	}
	rec->n++;
	return trace_writer_add(rec->w, &copy, e);
}

int recording_close(struct recording *rec, uint64_t dropped, struct err *e)
{
	struct trace_writer *w = rec->w;
	int rc = w ? 0 : trace_writer_open(rec->path, &rec->header, &w, e);

	rec->w = NULL;
	return rc < 0 ? rc : trace_writer_close(w, dropped, e);
}
