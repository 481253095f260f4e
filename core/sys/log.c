/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* log.c - see log.h. */
#include "sys/log.h"

#include "lsvd.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void to_stderr(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "lsvd: %s\n", text);
}

static void (*hear)(void *arg, const char *text) = to_stderr;
static void *hear_arg;

void lsvd_set_log(void (*fn)(void *arg, const char *text), void *arg)
{
	pthread_mutex_lock(&lock);
	hear = fn ? fn : to_stderr;
	hear_arg = arg;
	pthread_mutex_unlock(&lock);
}

void log_say(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lock);
	hear(hear_arg, text);
	pthread_mutex_unlock(&lock);
}
