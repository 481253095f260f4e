/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * input.h - the bytes of a trace: a file, a pipe or stdin, as lines or as pieces, in constant
 * memory.
 *
 * What begins as gzip, zstd, xz or bzip2 files do is read through that program, which runs beside
 * this one on a processor of its own; a damaged file is noticed at its end.  From a pipe only plain
 * bytes can be read, for their beginning cannot be given back: `zstd -dc x | lsvd ... -`.
 *
 * One thread.  What peek(), line() and take() hand out is valid until the next call.
 */
#ifndef LSVD_TRACE_INPUT_H
#define LSVD_TRACE_INPUT_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRACE_INPUT_MAX = 1 << 16 }; /* the longest line, the largest piece */

struct trace_input;

/* `path` "-" is stdin.  -ENOENT ...; -EINVAL: compressed bytes from a pipe. */
int trace_input_open(const char *path, struct trace_input **out, struct err *e) MUST_CHECK;

/* The same on bytes in memory, borrowed: for tests. */
int trace_input_memory(const void *bytes, size_t len, const char *name, struct trace_input **out,
	struct err *e) MUST_CHECK;

/* The next up to n bytes (at most TRACE_INPUT_MAX), which stay the next ones; fewer at the end. */
size_t trace_input_peek(struct trace_input *in, size_t n, const uint8_t **bytes);

/* 1: the next line, without its newline and ended by a 0, the caller's to cut up; 0: the end.
 * -EIO: it cannot be read; -EUCLEAN: longer than TRACE_INPUT_MAX, or with a 0 in it: not text. */
int trace_input_line(struct trace_input *in, char **line, size_t *len, struct err *e) MUST_CHECK;

/* Copies the next up to n bytes: how many (fewer only at the end), or -EIO. */
int trace_input_read(struct trace_input *in, void *to, size_t n, struct err *e) MUST_CHECK;

/* How far it is: bytes of the file (compressed ones of a compressed one) read, and its size; 0 when
 * it has none. */
uint64_t trace_input_done(const struct trace_input *in);
uint64_t trace_input_size(const struct trace_input *in);

const char *trace_input_name(const struct trace_input *in);

void trace_input_close(struct trace_input *in); /* in may be NULL */

#endif
