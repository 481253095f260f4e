/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gnuplot.h - what the pictures of traces share: how gnuplot is run, a page's beginning, labels. */
#ifndef LSVD_TRACE_GNUPLOT_H
#define LSVD_TRACE_GNUPLOT_H

#include "sys/err.h"

#include <stdint.h>
#include <stdio.h>

/* Runs gnuplot on what script() writes.  -EINVAL: `output` is neither .png nor .svg; -ENOENT:
 * gnuplot is not installed; -EIO: it failed; or why `output` cannot be written. */
int gnuplot_run(const char *output, void (*script)(FILE *f, void *arg), void *arg,
	struct err *e) MUST_CHECK;

/* Terminal, output and title of a page of several panels; 0 = 1200 x 900 pixels. */
void gnuplot_begin(FILE *f, const char *output, const char *title, unsigned width, unsigned height);

/* A panel with a message and no data. */
void gnuplot_nothing(FILE *f, const char *message);

/* 'text', for gnuplot. */
void gnuplot_quoted(FILE *f, const char *text);

/* "4 KiB" for an axis: one of four static buffers. */
const char *gnuplot_size(uint64_t bytes);

/* An x axis of sizes in bytes, logarithmic, from 2^first to 2^last. */
void gnuplot_size_axis(FILE *f, unsigned first, unsigned last);

#endif
