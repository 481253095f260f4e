/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bench_import.c [REQUESTS]: how many requests a second each format's importer reads, as JSON.  The
 * file is made up and in memory. */
#include "sys/bytes.h"
#include "trace/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t seed = 88172645463325252ull;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void put_vscsi(FILE *f, bool v2, uint64_t i, uint64_t sector, uint64_t len, bool write)
{
	uint8_t b[40];
	struct writer w = writer_of(b, sizeof(b));

	if (v2)
		put_le(&w, (write ? 0x2a : 0x28) | 0x0200 << 16, 4);
	put_le(&w, i, 4);
	put_le(&w, len, 4);
	put_le(&w, 1, 4);
	if (!v2)
		put_le(&w, (write ? 0x2a : 0x28) | 0x0100 << 16, 4);
	put_le(&w, sector, 8);
	put_le(&w, i * 100, 8);
	if (v2)
		put_le(&w, rnd(1000), 8);
	fwrite(b, 1, (size_t)(w.p - b), f);
}

static void put(FILE *f, const char *format, uint64_t i)
{
	uint64_t offset = rnd(1 << 22) * 4096, len = 4096 * (1 + rnd(8));
	bool w = rnd(3) == 0;

	if (!strcmp(format, "msr"))
		fprintf(f, "%" PRIu64 ",hm,0,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n",
			128166372000000000 + i * 1000, w ? "Write" : "Read", offset, len,
			rnd(100000));
	else if (!strcmp(format, "alibaba"))
		fprintf(f, "3,%c,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", w ? 'W' : 'R', offset, len,
			1577808000000000 + i * 100);
	else if (!strcmp(format, "tencent"))
		fprintf(f, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%d,1283\n", 1538323200 + i / 10000,
			offset / 512, len / 512, w);
	else if (!strcmp(format, "spc"))
		fprintf(f, "0,%" PRIu64 ",%" PRIu64 ",%c,%" PRIu64 ".%06" PRIu64 "\n", offset / 512,
			len, w ? 'w' : 'r', i / 10000, i % 10000 * 100);
	else if (!strcmp(format, "csv"))
		fprintf(f, "%" PRIu64 ",%" PRIu64 ",%c,%" PRIu64 ",%" PRIu64 "\n", i * 1000,
			i * 1000 + 500, w ? 'W' : 'R', offset, len);
	else
		put_vscsi(f, !strcmp(format, "vscsi2"), i, offset / 512, len, w);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Requests a second; below 0: it failed. */
static double measure(const char *format, uint64_t requests)
{
	struct trace_input *input;
	struct trace_import *in;
	struct trace_record r;
	char *bytes = NULL;
	size_t size = 0;
	uint64_t n = 0;
	FILE *f = open_memstream(&bytes, &size);
	double start;
	int rc;

	for (uint64_t i = 0; i < requests; i++)
		put(f, format, i);
	fclose(f);
	rc = trace_input_memory(bytes, size, format, &input, NULL);
	free(bytes);
	start = now();
	if (rc < 0 || trace_import_take(input, NULL, &in, NULL) < 0)
		return -1;
	while ((rc = trace_import_next(in, &r, NULL)) > 0)
		n++;
	trace_import_close(in);
	return rc == 0 && n == requests ? (double)n / (now() - start) : -1;
}

int main(int argc, char **argv)
{
	static const char *const formats[] = {
		"csv", "msr", "alibaba", "tencent", "spc", "vscsi1", "vscsi2"};
	uint64_t requests = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
	int failed = 0;

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		double rate = measure(formats[i], requests);

		failed |= rate < 0;
		printf("%s\"%s_per_s\": %.0f", i ? ", " : "{", formats[i], rate);
	}
	puts("}");
	return failed;
}
