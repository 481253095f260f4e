/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fmt_volumes.c - the text formats of published block traces, each with several volumes in a file.
 *
 *   msr      MSR Cambridge (Narayanan et al., FAST '08), seven columns:
 *            Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime
 *            times in Windows' units of 100 ns since 1601, Type Read or Write, offset and size in
 *            bytes.  The volume is Hostname_DiskNumber, as its files are named.
 *   alibaba  Alibaba block traces (Li et al., IISWC '20):  device_id,opcode,offset,length,timestamp
 *            opcode R or W, bytes, microseconds since 1970.
 *   tencent  Tencent CBS (Zhang et al., ATC '20):  Timestamp,Offset,Size,IOType,VolumeID
 *            seconds since 1970, sectors of 512 bytes, IOType 0 read or 1 write.
 *   spc      SPC trace file format 1.0.1:  ASU,LBA,Size,Opcode,Timestamp[,more]
 *            blocks (taken to be 512 bytes), bytes, R or W, seconds since the start.
 *
 * A first line of names is skipped.  Alibaba's lengths are 32 bits wide; so are all others here:
 * more is a damaged line.
 */
#include "trace/fields.h"
#include "trace/formats.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { FIELDS_MAX = 8, SECTOR = 512, NAME_MAX_BYTES = 200 };

/* Of 100 ns, from 1601 to 1970. */
static const uint64_t filetime_1970 = 116444736000000000;

struct volumes {
	bool begun;
	char name[NAME_MAX_BYTES + 32];
};

/* ---- what a line has ---- */

/* The next line in at least `need` fields; 0: the end, TRACE_NEXT_NOTHING: names. */
static int fields(struct trace_in *in, char **f, int need, struct err *e)
{
	static const char *const words[] = {
		"", "one", "two", "three", "four", "five", "six", "seven"};
	struct volumes *v = in->state;
	char *line;
	size_t len;
	int rc = trace_in_line(in, &line, &len, e), n;

	if (rc <= 0)
		return rc;
	n = fields_commas(line, f, FIELDS_MAX);
	if (!v->begun && isalpha((unsigned char)f[0][0])) {
		v->begun = true;
		return TRACE_NEXT_NOTHING;
	}
	v->begun = true;
	return n >= need ? 1 : trace_in_bad(in, e, "fewer fields than", words[need]);
}

static int scaled(struct trace_in *in, const char *what, const char *s, uint64_t unit, uint64_t *v,
	struct err *e)
{
	if (field_number(s, v) < 0 || *v >= (1ull << 63) / unit)
		return trace_in_bad(in, e, what, s);
	*v *= unit;
	return 0;
}

static int bytes32(struct trace_in *in, const char *s, uint64_t unit, uint64_t *v, struct err *e)
{
	int rc = scaled(in, "bad size", s, unit, v, e);

	return rc == 0 && *v > UINT32_MAX ? trace_in_bad(in, e, "size above 4 GiB:", s) : rc;
}

static int read_or_write(struct trace_in *in, const char *s, const char *read, const char *write,
	struct trace_record *r, struct err *e)
{
	bool w = !strcasecmp(s, write);

	if (!w && strcasecmp(s, read))
		return trace_in_bad(in, e, "neither read nor write:", s);
	r->op = w ? TRACE_WRITE : TRACE_READ;
	return 0;
}

static int volume(struct trace_in *in, const char *s, struct err *e)
{
	in->volume = s;
	in->volume_bytes = strlen(s);
	return *s && in->volume_bytes <= NAME_MAX_BYTES ? 1 : trace_in_bad(in, e, "bad volume", s);
}

/* ---- what a file looks like ---- */

static bool digits(const char *s)
{
	uint64_t v;

	return field_number(s, &v) == 0;
}

/* The first line that says something, cut up; the number of its fields. */
static int first_line(const uint8_t *head, size_t len, char *line, size_t size, char **f)
{
	size_t n = 0;

	while (len && (*head == '#' || field_blank((char)*head))) {
		const uint8_t *nl = memchr(head, '\n', len);

		if (!nl)
			return 0;
		len -= (size_t)(nl + 1 - head);
		head = nl + 1;
	}
	while (n < len && n < size - 1 && head[n] && head[n] != '\n')
		n++;
	memcpy(line, head, n);
	line[n] = 0;
	return fields_commas(line, f, FIELDS_MAX);
}

#define LOOK(min)                                                 \
	char line[256], *f[FIELDS_MAX];                           \
	if (first_line(head, len, line, sizeof(line), f) < (min)) \
	return false

/* ---- MSR Cambridge ---- */

static bool msr_guess(const uint8_t *head, size_t len)
{
	LOOK(7);
	return (digits(f[0]) && (!strcasecmp(f[3], "read") || !strcasecmp(f[3], "write"))) ||
	       (!strcasecmp(f[0], "timestamp") && !strcasecmp(f[1], "hostname"));
}

static int msr_name(struct trace_in *in, const char *host, const char *disk, struct err *e)
{
	struct volumes *v = in->state;
	size_t n = strlen(host), m = strlen(disk);

	if (!n || !m || n + m > NAME_MAX_BYTES)
		return trace_in_bad(in, e, "bad host name or disk number", host);
	memcpy(v->name, host, n);
	v->name[n] = '_';
	memcpy(v->name + n + 1, disk, m + 1);
	return volume(in, v->name, e);
}

static int msr_next(struct trace_in *in, struct trace_record *r, struct err *e)
{
	char *f[FIELDS_MAX];
	uint64_t wait_ns;
	int rc = fields(in, f, 7, e);

	if (rc != 1)
		return rc;
	if (field_number(f[0], &r->submit_ns) < 0 || r->submit_ns < filetime_1970 ||
		r->submit_ns - filetime_1970 >= (1ull << 62) / 100)
		return trace_in_bad(in, e, "bad timestamp", f[0]);
	r->submit_ns = (r->submit_ns - filetime_1970) * 100;
	rc = read_or_write(in, f[3], "read", "write", r, e);
	if (rc == 0)
		rc = scaled(in, "bad offset", f[4], 1, &r->offset_bytes, e);
	if (rc == 0)
		rc = bytes32(in, f[5], 1, &r->len_bytes, e);
	if (rc == 0)
		rc = scaled(in, "bad response time", f[6], 100, &wait_ns, e);
	if (rc == 0 && wait_ns >= 1ull << 62)
		rc = trace_in_bad(in, e, "bad response time", f[6]);
	if (rc < 0)
		return rc;
	r->complete_ns = r->submit_ns + wait_ns;
	return msr_name(in, f[1], f[2], e);
}

const struct trace_format trace_format_msr = {
	.name = "msr",
	.summary = "MSR Cambridge CSV",
	.clock = TRACE_CLOCK_WALL,
	.in_bytes = sizeof(struct volumes),
	.guess = msr_guess,
	.next = msr_next,
};

/* ---- Alibaba ---- */

static bool alibaba_guess(const uint8_t *head, size_t len)
{
	LOOK(5);
	return (digits(f[0]) && (!strcasecmp(f[1], "r") || !strcasecmp(f[1], "w")) &&
		       digits(f[2])) ||
	       (!strcasecmp(f[0], "device_id") && !strcasecmp(f[1], "opcode"));
}

static int alibaba_next(struct trace_in *in, struct trace_record *r, struct err *e)
{
	char *f[FIELDS_MAX];
	int rc = fields(in, f, 5, e);

	if (rc != 1)
		return rc;
	rc = read_or_write(in, f[1], "r", "w", r, e);
	if (rc == 0)
		rc = scaled(in, "bad offset", f[2], 1, &r->offset_bytes, e);
	if (rc == 0)
		rc = bytes32(in, f[3], 1, &r->len_bytes, e);
	if (rc == 0)
		rc = scaled(in, "bad timestamp", f[4], 1000, &r->submit_ns, e);
	return rc < 0 ? rc : volume(in, f[0], e);
}

const struct trace_format trace_format_alibaba = {
	.name = "alibaba",
	.summary = "Alibaba block-trace CSV",
	.clock = TRACE_CLOCK_WALL,
	.in_bytes = sizeof(struct volumes),
	.guess = alibaba_guess,
	.next = alibaba_next,
};

/* ---- Tencent ---- */

static bool tencent_guess(const uint8_t *head, size_t len)
{
	LOOK(5);
	return (digits(f[0]) && digits(f[1]) && digits(f[2]) &&
		       (!strcmp(f[3], "0") || !strcmp(f[3], "1"))) ||
	       (!strcasecmp(f[0], "timestamp") && !strcasecmp(f[1], "offset"));
}

static int tencent_next(struct trace_in *in, struct trace_record *r, struct err *e)
{
	char *f[FIELDS_MAX];
	int rc = fields(in, f, 5, e);

	if (rc != 1)
		return rc;
	rc = scaled(in, "bad timestamp", f[0], 1000000000, &r->submit_ns, e);
	if (rc == 0)
		rc = scaled(in, "bad offset", f[1], SECTOR, &r->offset_bytes, e);
	if (rc == 0)
		rc = bytes32(in, f[2], SECTOR, &r->len_bytes, e);
	if (rc == 0)
		rc = read_or_write(in, f[3], "0", "1", r, e);
	return rc < 0 ? rc : volume(in, f[4], e);
}

const struct trace_format trace_format_tencent = {
	.name = "tencent",
	.summary = "Tencent block-storage CSV",
	.clock = TRACE_CLOCK_WALL,
	.in_bytes = sizeof(struct volumes),
	.guess = tencent_guess,
	.next = tencent_next,
};

/* ---- SPC ---- */

static bool spc_guess(const uint8_t *head, size_t len)
{
	uint64_t ns;

	LOOK(5);
	return (digits(f[0]) && digits(f[1]) && digits(f[2]) &&
		       (!strcasecmp(f[3], "r") || !strcasecmp(f[3], "w")) &&
		       field_billionths(f[4], &ns) == 0) ||
	       (!strcasecmp(f[0], "asu") && !strcasecmp(f[1], "lba"));
}

static int spc_next(struct trace_in *in, struct trace_record *r, struct err *e)
{
	char *f[FIELDS_MAX];
	int rc = fields(in, f, 5, e);

	if (rc != 1)
		return rc;
	rc = scaled(in, "bad LBA", f[1], SECTOR, &r->offset_bytes, e);
	if (rc == 0)
		rc = bytes32(in, f[2], 1, &r->len_bytes, e);
	if (rc == 0)
		rc = read_or_write(in, f[3], "r", "w", r, e);
	if (rc == 0 && field_billionths(f[4], &r->submit_ns) < 0)
		rc = trace_in_bad(in, e, "bad timestamp", f[4]);
	return rc < 0 ? rc : volume(in, f[0], e);
}

const struct trace_format trace_format_spc = {
	.name = "spc",
	.summary = "SPC trace files (ASCII)",
	.in_bytes = sizeof(struct volumes),
	.guess = spc_guess,
	.next = spc_next,
};
