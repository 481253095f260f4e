/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fmt_blk.c - what Linux's block tracer leaves behind; requests are made of its events by blkreq.h.
 *
 *   blktrace  binary events: of `blkparse -d`, of the kernel's tracer with the option `bin`, and
 * what blktrace writes, a file for each processor: DEVICE.blktrace.0, .1, ...; one of these stands
 * for all of them, which are merged by time. blkparse  the text of blkparse in its own format: 8,0
 * 3        1     0.000000000   697  D   W 223490 + 8 [kjournald] up to the summary.
 *
 * A volume is a device, "8,0".  Events must be in order of time: what `blktrace -o -` writes to a
 * pipe is not; put it through blkparse.
 */
#include "trace/blkreq.h"
#include "trace/fields.h"
#include "trace/formats.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS_MAX = 11, PROCESSORS_MAX = 1024, SECTOR = 512 };

/* A binary file: the next event in it. */
struct source {
	struct trace_input *input;
	struct blk_event ev;
	bool ahead; /* ev is valid */
	uint64_t at;
};

struct blk {
	struct blk_matcher *m;
	bool ended;
	char volume[32];
	struct source *sources; /* binary: [0] is in->input */
	size_t n_sources;
};

static int begin(struct trace_in *in, struct err *e)
{
	struct blk *b = in->state;

	b->m = blk_matcher_new();
	return b->m ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static void close_all(struct trace_in *in)
{
	struct blk *b = in->state;

	for (size_t i = 1; i < b->n_sources; i++)
		trace_input_close(b->sources[i].input);
	free(b->sources);
	blk_matcher_free(b->m);
}

/* A request that is over, if there is one. */
static bool take(struct trace_in *in, struct trace_record *r)
{
	struct blk *b = in->state;
	uint32_t device;

	if (!blk_matcher_next(b->m, r, &device))
		return false;
	in->volume = b->volume;
	in->volume_bytes = (size_t)snprintf(
		b->volume, sizeof(b->volume), "%u,%u", device >> 20, device & 0xfffff);
	return true;
}

/* Any request, before more is read; TRACE_NEXT_NOTHING: read on; 0: this was all. */
static int next_of(struct trace_in *in, struct trace_record *r)
{
	struct blk *b = in->state;

	if (take(in, r))
		return 1;
	if (b->ended)
		return 0;
	return TRACE_NEXT_NOTHING;
}

static int end(struct trace_in *in, struct trace_record *r)
{
	struct blk *b = in->state;

	b->ended = true;
	blk_matcher_finish(b->m);
	return next_of(in, r);
}

static int event(
	struct trace_in *in, const struct blk_event *ev, struct trace_record *r, struct err *e)
{
	struct blk *b = in->state;
	uint64_t strays = blk_matcher_counts(b->m)->strays + blk_matcher_counts(b->m)->passthrough;

	if (blk_matcher_event(b->m, ev) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	in->ignored +=
		blk_matcher_counts(b->m)->strays + blk_matcher_counts(b->m)->passthrough - strays;
	return next_of(in, r);
}

/* ---- binary ---- */

static bool guess_binary(const uint8_t *head, size_t len)
{
	static const char tracer[] = "# tracer: blk\n";

	if (len >= sizeof(tracer) - 1 && !memcmp(head, tracer, sizeof(tracer) - 1))
		return true;
	return len >= 4 &&
	       ((head[1] == 't' && head[2] == 'a' && head[3] == 'e') ||
		       (head[0] == 'e' && head[1] == 'a' && head[2] == 't' && head[3] < 16));
}

/* DIR/x.blktrace.3 -> DIR/x.blktrace. , or 0 */
static size_t stem_of(const char *name)
{
	const char *dot = strrchr(name, '.');
	uint64_t n;

	if (!dot || field_number(dot + 1, &n) < 0 || dot - name < 10 ||
		strncmp(dot - 9, ".blktrace", 9))
		return 0;
	return (size_t)(dot + 1 - name);
}

/* The files of the other processors. */
static int open_others(struct trace_in *in, struct err *e)
{
	struct blk *b = in->state;
	const char *name = trace_input_name(in->input);
	size_t stem = stem_of(name);
	char *pattern = NULL;
	glob_t g = {0};
	int rc = 0;

	if (!stem)
		return 0;
	if (asprintf(&pattern, "%.*s*", (int)stem, name) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (glob(pattern, 0, NULL, &g) == 0 && g.gl_pathc > 1 && g.gl_pathc <= PROCESSORS_MAX) {
		struct source *s = realloc(b->sources, g.gl_pathc * sizeof(*s));

		rc = s ? 0 : err_set(e, -ENOMEM, "out of memory");
		b->sources = s ? s : b->sources;
		for (size_t i = 0; i < g.gl_pathc && rc == 0; i++) {
			if (stem_of(g.gl_pathv[i]) != stem || !strcmp(g.gl_pathv[i], name) ||
				b->n_sources == g.gl_pathc)
				continue;
			s[b->n_sources] = (struct source){0};
			rc = trace_input_open(g.gl_pathv[i], &s[b->n_sources].input, e);
			b->n_sources += rc == 0;
		}
	}
	globfree(&g);
	free(pattern);
	return rc;
}

/* The tracer's own two lines of text, in front. */
static int skip_text(struct trace_in *in, struct err *e)
{
	const uint8_t *head;

	while (trace_input_peek(in->input, 1, &head) == 1 && *head == '#') {
		uint8_t c = 0;
		int rc = 1;

		while (rc > 0 && c != '\n')
			rc = trace_input_read(in->input, &c, 1, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int open_binary(struct trace_in *in, struct err *e)
{
	struct blk *b = in->state;
	int rc = begin(in, e);

	b->sources = calloc(1, sizeof(*b->sources));
	if (!b->sources)
		return err_set(e, -ENOMEM, "out of memory");
	b->sources[0].input = in->input;
	b->n_sources = 1;
	if (rc == 0)
		rc = skip_text(in, e);
	return rc < 0 ? rc : open_others(in, e);
}

static int bad_record(struct trace_in *in, struct source *s, int code, struct err *e)
{
	const char *what =
		code == -EPROTO
			? "an event of another version, or of a machine with the other byte order"
			: "no event of the block tracer";

	return err_set(e, -EINVAL, "%s: record %llu: %s", trace_input_name(s->input),
		(unsigned long long)(in->at = s->at), what);
}

/* 1: s->ev is the next; 0: the file's end. */
static int read_ahead(struct trace_in *in, struct source *s, struct err *e)
{
	uint8_t raw[BLK_EVENT_BYTES], more[256];
	int n, left;

	if (s->ahead)
		return 1;
	n = trace_input_read(s->input, raw, sizeof(raw), e);
	if (n <= 0)
		return n;
	s->at++;
	left = n < BLK_EVENT_BYTES ? -EUCLEAN : blk_event_decode(raw, &s->ev);
	if (left < 0)
		return bad_record(in, s, left, e);
	for (; left > 0; left -= n) {
		n = trace_input_read(
			s->input, more, left < (int)sizeof(more) ? (size_t)left : sizeof(more), e);
		if (n <= 0)
			return n < 0 ? n : bad_record(in, s, -EUCLEAN, e);
	}
	s->ahead = true;
	return 1;
}

static int next_binary(struct trace_in *in, struct trace_record *r, struct err *e)
{
	struct blk *b = in->state;
	struct source *first = NULL;
	int rc = next_of(in, r);

	if (rc != TRACE_NEXT_NOTHING)
		return rc;
	for (size_t i = 0; i < b->n_sources; i++) {
		struct source *s = &b->sources[i];

		rc = read_ahead(in, s, e);
		if (rc < 0)
			return rc;
		if (rc && (!first || s->ev.at_ns < first->ev.at_ns))
			first = s;
	}
	if (!first)
		return end(in, r);
	first->ahead = false;
	in->at++;
	return event(in, &first->ev, r, e);
}

/* ---- text ---- */

static bool pair(const char *s, uint64_t *major, uint64_t *minor)
{
	char copy[32];
	char *comma;

	if (strlen(s) >= sizeof(copy))
		return false;
	strcpy(copy, s);
	comma = strchr(copy, ',');
	if (!comma)
		return false;
	*comma = 0;
	return field_number(copy, major) == 0 && field_number(comma + 1, minor) == 0 &&
	       *major < 4096 && *minor < 1 << 20;
}

static bool guess_text(const uint8_t *head, size_t len)
{
	unsigned major, minor, cpu, seq, sec, nsec;
	char line[128] = "", action[4];
	size_t n = 0;

	while (n < len && n < sizeof(line) - 1 && head[n] && head[n] != '\n')
		n++;
	memcpy(line, head, n);
	return sscanf(line, " %u,%u %u %u %u.%u %*d %3s", &major, &minor, &cpu, &seq, &sec, &nsec,
		       action) == 7;
}

static void parse_action(struct blk_event *ev, const char *s)
{
	static const struct {
		char letter;
		uint8_t action;
	} letters[] = {{'Q', BLK_QUEUE}, {'R', BLK_REQUEUE}, {'D', BLK_ISSUE}, {'C', BLK_COMPLETE}};

	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if (s[0] == letters[i].letter && !s[1])
			ev->action = letters[i].action;
}

/* F (flush before), what it does, and then flags, of which F is FUA. */
static void parse_kind(struct blk_event *ev, const char *s)
{
	ev->flush = *s == 'F';
	s += ev->flush && s[1];
	ev->write = *s == 'W';
	ev->discard = *s == 'D';
	if (*s && *s != 'F')
		s++;
	ev->zeroes = *s == 'Z';
	ev->fua = strchr(s, 'F') != NULL;
}

/* SECTOR + COUNT [WHO], SECTOR [ERROR] or [WHO]; a command that is passed through has BYTES (CDB).
 */
static int parse_range(struct trace_in *in, struct blk_event *ev, char **f, int n, struct err *e)
{
	const char *last = n > 7 ? f[n - 1] : "";
	uint64_t sectors = 0;
	int rc = 0;

	if (n > 8 && *f[8] == '(') {
		ev->passthrough = true;
		return 0;
	}
	if (n > 7 && *f[7] != '[')
		rc = trace_in_number(in, "bad sector", f[7], &ev->sector, e);
	if (rc == 0 && n > 9 && !strcmp(f[8], "+"))
		rc = trace_in_number(in, "bad number of sectors", f[9], &sectors, e);
	if (rc == 0 && sectors > UINT32_MAX / SECTOR)
		rc = trace_in_bad(in, e, "bad number of sectors", f[9]);
	ev->bytes = (uint32_t)(sectors * SECTOR);
	ev->error = ev->action == BLK_COMPLETE && *last == '[' && strcmp(last, "[0]") != 0;
	return rc;
}

static int parse_line(struct trace_in *in, struct blk_event *ev, char **f, int n, struct err *e)
{
	uint64_t major = 0, minor = 0, cpu = 0;
	int rc;

	*ev = (struct blk_event){0};
	if (n < 6 || !pair(f[0], &major, &minor))
		return trace_in_bad(in, e, "not a line of blkparse:", n ? f[0] : "");
	rc = trace_in_number(in, "bad processor", f[1], &cpu, e);
	if (rc == 0 && field_billionths(f[3], &ev->at_ns) < 0)
		rc = trace_in_bad(in, e, "bad time", f[3]);
	ev->device = (uint32_t)(major << 20 | minor);
	ev->cpu = (uint16_t)(rc == 0 ? cpu : 0);
	parse_action(ev, f[5]);
	if (rc < 0 || ev->action == BLK_OTHER)
		return rc;
	if (n < 7)
		return trace_in_bad(in, e, "a line cut off after", f[5]);
	parse_kind(ev, f[6]);
	return parse_range(in, ev, f, n, e);
}

static int next_text(struct trace_in *in, struct trace_record *r, struct err *e)
{
	struct blk_event ev;
	char *line, *f[FIELDS_MAX];
	size_t len;
	int rc = next_of(in, r), n;

	if (rc != TRACE_NEXT_NOTHING)
		return rc;
	rc = trace_in_line(in, &line, &len, e);
	if (rc < 0)
		return rc;
	n = rc ? fields_blanks(line, f, FIELDS_MAX) : 0;
	if (!rc || (n && (!strncmp(f[0], "CPU", 3) || !strcmp(f[0], "Total") ||
				 !strcmp(f[0], "Throughput"))))
		return end(in, r);
	rc = parse_line(in, &ev, f, n, e);
	return rc < 0 ? rc : event(in, &ev, r, e);
}

const struct trace_format trace_format_blktrace = {
	.name = "blktrace",
	.summary = "Linux block tracer: binary events (blktrace, the blk tracer)",
	.binary = true,
	.clock = TRACE_CLOCK_OTHER,
	.in_bytes = sizeof(struct blk),
	.guess = guess_binary,
	.open = open_binary,
	.next = next_binary,
	.close = close_all,
};

const struct trace_format trace_format_blkparse = {
	.name = "blkparse",
	.summary = "Linux block tracer: the text of blkparse",
	.clock = TRACE_CLOCK_OTHER,
	.in_bytes = sizeof(struct blk),
	.guess = guess_text,
	.open = begin,
	.next = next_text,
	.close = close_all,
};
