/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* export.c - see export.h. */
#include "trace/export.h"
#include "trace/formats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct trace_export {
	struct trace_out out;
	const struct trace_format *format;
	char *path;
};

/* Only what is a file by its own name: never a device, a pipe, or the link /dev/stdout. */
static void unlink_file(const struct trace_export *x)
{
	struct stat st, named;

	if (x->out.f && x->out.f != stdout && fstat(fileno(x->out.f), &st) == 0 &&
		S_ISREG(st.st_mode) && lstat(x->path, &named) == 0 && named.st_ino == st.st_ino &&
		named.st_dev == st.st_dev)
		unlink(x->path);
}

static void export_free(struct trace_export *x)
{
	if (x->out.f && x->out.f != stdout)
		fclose(x->out.f);
	free(x->out.state);
	free(x->path);
	free(x);
}

void trace_export_cancel(struct trace_export *x)
{
	if (!x)
		return;
	x->out.failed = true;
	if (x->format && x->format->end && (x->out.state || !x->format->out_bytes)) {
		unlink_file(x);
		if (x->format->end(&x->out, NULL) < 0)
			errno = 0; /* the first error is the one to tell */
	} else {
		unlink_file(x);
	}
	export_free(x);
}

static int start(struct trace_export *x, const struct trace_export_options *opt, struct err *e)
{
	const struct trace_format *f = trace_format_find(opt->format, true, e);
	bool std = !strcmp(x->path, "-");

	if (!f)
		return -EINVAL;
	x->out.f = std ? stdout : fopen(x->path, "w+be");
	if (!x->out.f)
		return err_set(e, -errno, "'%s': %s", x->path, strerror(errno));
	if (f->out_bytes && !(x->out.state = calloc(1, f->out_bytes)))
		return err_set(e, -ENOMEM, "out of memory");
	x->format = f;
	return f->begin ? f->begin(&x->out, e) : 0;
}

int trace_export_open(const char *path, const struct trace_export_options *opt,
	const struct trace_header *h, struct trace_export **out, struct err *e)
{
	struct trace_export *x = calloc(1, sizeof(*x));
	int rc;

	if (!x || !(x->path = strdup(path))) {
		free(x);
		return err_set(e, -ENOMEM, "out of memory");
	}
	x->out.path = x->path;
	x->out.header = *h;
	x->out.device = opt->device ? opt->device : "image";
	x->out.block_bytes = opt->block_bytes;
	x->out.memory_bytes = opt->memory_bytes ? opt->memory_bytes : 1ull << 30;
	rc = start(x, opt, e);
	if (rc < 0) {
		trace_export_cancel(x);
		return rc;
	}
	*out = x;
	return 0;
}

int trace_export_add(struct trace_export *x, const struct trace_record *r, struct err *e)
{
	int rc = x->format->add(&x->out, r, e);

	x->out.last_ns = r->submit_ns;
	if (rc < 0)
		trace_export_cancel(x);
	return rc;
}

int trace_export_close(struct trace_export *x, uint64_t dropped, struct err *e)
{
	int rc;

	x->out.dropped = dropped;
	rc = x->format->end ? x->format->end(&x->out, e) : 0;
	errno = 0;
	if (rc == 0 && (fflush(x->out.f) != 0 || ferror(x->out.f)))
		rc = trace_out_failed(&x->out, e);
	if (rc < 0)
		unlink_file(x);
	export_free(x);
	return rc;
}
