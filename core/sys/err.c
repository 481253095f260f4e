/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sys/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char tail[sizeof(e->msg)], head[sizeof(e->msg)];
	va_list ap;

	if (!e)
		return code;
	snprintf(tail, sizeof(tail), "%s", err_text(e, code));
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	if (snprintf(e->msg, sizeof(e->msg), "%.250s: %s", head, tail) >= (int)sizeof(e->msg))
		memcpy(e->msg + sizeof(e->msg) - 4, "...", 4);
	return code;
}

const char *err_text(const struct err *e, int code)
{
	return e && e->msg[0] ? e->msg : strerror(-code);
}
