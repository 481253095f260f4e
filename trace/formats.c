/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* formats.c - see formats.h. */
#include "trace/formats.h"
#include "trace/fields.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* In the order in which they are asked what a file is: the surest first, CSV takes the rest. */
static const struct trace_format *const formats[] = {
	&trace_format_lsvd,
	&trace_format_iolog,
	&trace_format_blktrace,
	&trace_format_blkparse,
	&trace_format_vscsi,
	&trace_format_msr,
	&trace_format_alibaba,
	&trace_format_tencent,
	&trace_format_spc,
	&trace_format_csv,
	&trace_format_oracle,
};
enum { FORMATS = sizeof(formats) / sizeof(formats[0]) };

const struct trace_format *trace_format_at(size_t i)
{
	return i < FORMATS ? formats[i] : NULL;
}

const struct trace_format *trace_format_find(const char *name, bool write, struct err *e)
{
	char names[256] = "";

	for (size_t i = 0; i < FORMATS; i++) {
		const struct trace_format *f = formats[i];

		if (write ? !f->add : !f->next)
			continue;
		if (!strcasecmp(name, f->name))
			return f;
		strcat(strcat(names, *names ? ", " : ""), f->name);
	}
	err_set(e, -EINVAL, "no format '%s' %s; there are %s", name, write ? "to write" : "to read",
		names);
	return NULL;
}

const struct trace_format *trace_format_guess(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < FORMATS; i++)
		if (formats[i]->guess && formats[i]->guess(head, len))
			return formats[i];
	return &trace_format_csv;
}

int trace_in_bad(const struct trace_in *in, struct err *e, const char *what, const char *text)
{
	const char *name = trace_input_name(in->input), *sep = in->binary ? ": record " : ":";

	if (!text)
		return err_set(e, -EINVAL, "%s%s%" PRIu64 ": %s", name, sep, in->at, what);
	return err_set(e, -EINVAL, "%s%s%" PRIu64 ": %s '%.80s'", name, sep, in->at, what, text);
}

int trace_in_line(struct trace_in *in, char **line, size_t *len, struct err *e)
{
	for (;;) {
		int rc = trace_input_line(in->input, line, len, e);
		char *s;

		in->at += rc != 0;
		if (rc == -EUCLEAN) {
			rc = trace_in_bad(in, e, "not text, nor a binary format known here", NULL);
			return in->at == 1 ? -EUCLEAN : rc;
		}
		if (rc <= 0)
			return rc;
		for (s = *line; field_blank(*s); s++)
			;
		if (*s && *s != '#')
			return 1;
	}
}

int trace_in_number(
	struct trace_in *in, const char *what, const char *s, uint64_t *v, struct err *e)
{
	return field_number(s, v) == 0 ? 0 : trace_in_bad(in, e, what, s);
}

int trace_out_failed(struct trace_out *o, struct err *e)
{
	int code = errno ? -errno : -EIO;

	return err_set(e, code, "'%s': %s", o->path, strerror(-code));
}
