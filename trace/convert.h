/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * convert.h - from any format to any other in one pass and constant memory: import, sorter, export.
 *
 * Split, each volume of the input goes to a file of its own in a folder, DIR/VOLUME.trace, and all
 * have the same time 0; that takes about 12 KiB a volume.
 */
#ifndef LSVD_TRACE_CONVERT_H
#define LSVD_TRACE_CONVERT_H

#include "trace/export.h"
#include "trace/import.h"

struct convert_options {
	struct trace_import_options in;
	struct trace_export_options out; /* format NULL: only look: what volumes there are */
	bool split;			 /* the output is a folder */
	uint64_t size_bytes;		 /* for the header; 0: what the input says */
	const char *comment;		 /* the same; NULL */
	/* Called every some thousand requests; a negative result ends it (-EINTR). */
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

struct convert_volume {
	char *name;
	uint64_t requests, read_bytes, write_bytes, end_bytes; /* end: the highest byte touched */
};

struct convert_result {
	struct trace_import_stats stats;
	struct trace_counts counts;
	uint64_t late; /* requests out of order by more than the sorter's window */
	const char *format;
	struct convert_volume *volumes; /* of a file that names them */
	uint32_t n_volumes;
};

/* Fills *res also on errors, as far as it came; convert_result_fini() frees it. */
int convert_run(const char *input, const char *output, const struct convert_options *opt,
	struct convert_result *res, struct err *e) MUST_CHECK;

void convert_result_fini(struct convert_result *res);

#endif
