/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cmd_capture.c - `lsvd trace capture`: record a disk from outside, from the network or from the
 * kernel. */
#include "cli/cli.h"
#include "trace/blktracefs.h"
#include "trace/capture.h"
#include "trace/cmd.h"
#include "trace/pcapsource.h"
#include "trace/recording.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	WAIT_MS = 100,
	GRACE_NS = 300000000,
	SNAP_DEFAULT = 262144,
	SNAP_MIN = 96,
	BUFFER_DEFAULT = 64 << 20
};

enum key { NBD = 256, ISCSI, NVME, LUN, BLOCK, SNAP, BUFFER, STOP_AFTER, REQUESTS };

struct args {
	const char *trace, *interface, *file, *device, *comment;
	struct capture_options capture;
	uint64_t stop_after_s, requests, snap_bytes, buffer_bytes;
	bool json;
};

/* What a running capture has in hand. */
struct run {
	const struct args *a;
	struct recording rec;
	struct capture *capture;
	struct pcap_source *pcap;
	struct blk_matcher *matcher;
	struct err *e;
	uint64_t stop_ns;	 /* wall time after which nothing counts; 0: none */
	uint64_t last_ns;	 /* of what was seen */
	uint64_t left_out;	 /* packets or events, for want of memory */
	uint64_t ops[TRACE_OPS]; /* written */
	bool begun;
	int failed; /* the trace could not be written */
};

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- options ---- */

static void add_port(
	struct argp_state *st, struct args *a, const struct wire_protocol *p, const char *arg)
{
	struct capture_options *c = &a->capture;
	char *end;
	unsigned long port = strtoul(arg, &end, 10);

	if (!port || port > 65535 || *end)
		argp_error(st, "bad port '%s'", arg);
	for (unsigned i = 0; i < c->n_ports; i++)
		if (c->ports[i].port == port)
			argp_error(st, "port %lu is given twice", port);
	if (c->n_ports == CAPTURE_PORTS_MAX)
		argp_error(st, "more than %d ports", CAPTURE_PORTS_MAX);
	c->ports[c->n_ports++] = (struct capture_port){(uint16_t)port, p};
}

static void parse_number(struct argp_state *st, const char *what, const char *arg, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(arg, &end, 10);
	if (*arg < '0' || *arg > '9' || *end || errno)
		argp_error(st, "bad %s '%s'", what, arg);
}

static void parse_bytes(struct argp_state *st, const char *what, const char *arg, uint64_t least,
	uint64_t most, uint64_t *v)
{
	if (cli_parse_size(arg, v) < 0 || *v < least || *v > most)
		argp_error(st, "bad %s '%s': %" PRIu64 " bytes to %s", what, arg, least,
			cli_size(most));
}

static void check(struct argp_state *st, struct args *a)
{
	int sources = (a->interface != NULL) + (a->file != NULL) + (a->device != NULL);

	if (sources != 1)
		argp_error(st, "give one of --interface, --read and --block");
	if (!a->trace)
		argp_error(st, "no TRACE to write given");
	if (a->device && a->capture.n_ports)
		argp_error(st, "--block has no ports");
	if (a->capture.n_ports || a->device)
		return;
	add_port(st, a, &wire_nbd, "10809");
	add_port(st, a, &wire_iscsi, "3260");
	add_port(st, a, &wire_nvme, "4420");
}

static error_t parse_port(int key, char *arg, struct argp_state *st, struct args *a)
{
	if (key == NBD)
		add_port(st, a, &wire_nbd, arg);
	else if (key == ISCSI)
		add_port(st, a, &wire_iscsi, arg);
	else if (key == NVME)
		add_port(st, a, &wire_nvme, arg);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct args *a = st->input;

	switch (key) {
	case 'i':
		a->interface = arg;
		return 0;
	case 'r':
		a->file = arg;
		return 0;
	case BLOCK:
		a->device = arg;
		return 0;
	case 'c':
		a->comment = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case LUN:
		parse_number(st, "unit", arg, &a->capture.unit);
		return 0;
	case STOP_AFTER:
		parse_number(st, "number of seconds", arg, &a->stop_after_s);
		return 0;
	case REQUESTS:
		parse_number(st, "number of requests", arg, &a->requests);
		return 0;
	case SNAP:
		parse_bytes(st, "snap length", arg, SNAP_MIN, SNAP_DEFAULT, &a->snap_bytes);
		return 0;
	case BUFFER:
		parse_bytes(st, "buffer", arg, 1 << 16, 1 << 30, &a->buffer_bytes);
		return 0;
	case ARGP_KEY_ARG:
		cmd_positional(st, &a->trace, 1, arg);
		return 0;
	case ARGP_KEY_END:
		check(st, a);
		return 0;
	default:
		return parse_port(key, arg, st, a);
	}
}

static const struct argp_option options[] = {
	{"interface", 'i', "IF", 0,
		"capture from this network interface ('any': all), until Ctrl-C", 0},
	{"read", 'r', "FILE", 0, "or take the packets of a pcap or pcapng file; - is stdin", 0},
	{"block", BLOCK, "DEVICE", 0, "or trace this block device in the kernel, until Ctrl-C", 0},
	{"nbd", NBD, "PORT", 0, "an NBD server's port", 1},
	{"iscsi", ISCSI, "PORT", 0, "an iSCSI target's", 1},
	{"nvme", NVME, "PORT", 0,
		"an NVMe/TCP controller's; default of the three: 10809, 3260, 4420", 1},
	{"lun", LUN, "N", 0, "only this LUN or NVMe namespace", 1},
	{"stop-after", STOP_AFTER, "SECONDS", 0, "end a live capture by itself", 2},
	{"requests", REQUESTS, "N", 0, "end after so many requests", 2},
	{"snap", SNAP, "BYTES", 0, "of each packet (default: all)", 2},
	{"buffer", BUFFER, "SIZE", 0, "of the kernel for packets (default 64M)", 2},
	{"comment", 'c', "TEXT", 0, "what the trace is", 3},
	{"json", 'j', NULL, 0, "the sum as JSON", 3},
	{NULL, 0, NULL, 0, NULL, 0},
};

static const struct argp argp = {.options = options,
	.parser = parse,
	.args_doc = "TRACE",
	.doc = "Record what a disk is asked, whoever's it is: from the network (NBD, iSCSI, "
	       "NVMe/TCP, as seen by "
	       "either end or by a mirror port), from a capture file, or from the kernel's block "
	       "layer."
	       "\vOnly headers are looked at, so a capture may be short of the rest: with `tcpdump "
	       "-s 128`, or "
	       "--snap 128, no request is lost unless several share a packet.  The ranges of "
	       "discards by iSCSI and "
	       "NVMe need 256.  What is lost or not understood is counted and said; connections "
	       "that use TLS "
	       "cannot be read.\n\n"
	       "example: lsvd trace capture -i eth0 --nbd 10809 boot.trace"};

/* ---- requests go to the trace ---- */

static void on_request(void *arg, const struct trace_record *r)
{
	struct run *run = arg;

	if (run->failed || recording_full(&run->rec))
		return;
	run->failed = recording_add(&run->rec, r, run->e);
	run->ops[r->op]++;
}

static void begin(struct run *run, uint64_t first_ns, uint64_t first_wall_ns)
{
	if (run->begun)
		return;
	run->begun = true;
	run->rec.base_ns = first_ns;
	run->rec.header.start_wall_ns = first_wall_ns;
}

static bool over(struct run *run)
{
	return run->failed || recording_full(&run->rec);
}

/* ---- packets ---- */

static int on_packet(void *arg, uint64_t at_ns, const uint8_t *frame, size_t have, size_t len)
{
	struct run *run = arg;
	struct capture_counts counts;

	if ((run->stop_ns && at_ns > run->stop_ns) || over(run))
		return 0;
	begin(run, at_ns, at_ns);
	run->last_ns = at_ns;
	if (capture_packet(run->capture, pcap_source_link(run->pcap), at_ns, frame, have, len) < 0)
		run->left_out++;
	if (!run->rec.n) {
		capture_counts(run->capture, &counts);
		run->rec.header.size_bytes = counts.size_bytes;
	}
	return run->failed;
}

/* "tcp port A or tcp port B", and later fragments, which have no ports and are only counted. */
static void make_filter(const struct capture_options *c, char *text, size_t size)
{
	size_t at = 0;

	for (unsigned i = 0; i < c->n_ports; i++)
		at += (size_t)snprintf(text + at, size - at, "tcp port %u or ", c->ports[i].port);
	snprintf(text + at, size - at, "(ip proto 6 and ip[6:2] & 0x1fff != 0)");
}

static int open_packets(struct run *run)
{
	char filter[CAPTURE_PORTS_MAX * 20 + 64];
	const struct args *a = run->a;
	struct pcap_live_options live = {.interface = a->interface,
		.snap_bytes = (uint32_t)a->snap_bytes,
		.buffer_bytes = (uint32_t)a->buffer_bytes,
		.filter = filter};
	int rc;

	make_filter(&a->capture, filter, sizeof(filter));
	rc = a->file ? pcap_source_file(a->file, &run->pcap, run->e)
		     : pcap_source_live(&live, &run->pcap, run->e);
	if (rc == 0 && !packet_link_known(pcap_source_link(run->pcap)))
		rc = err_set(run->e, -ENOTSUP,
			"'%s': link type %d is not known here; Ethernet, Linux cooked, raw IP and "
			"loopback are",
			a->file ? a->file : a->interface, pcap_source_link(run->pcap));
	return rc;
}

/* Ctrl-C, the time, or the number of requests ends it; then what the kernel still has is taken. */
static int live_packets(struct run *run)
{
	uint64_t end_ns =
		run->a->stop_after_s ? wall_ns() + run->a->stop_after_s * 1000000000u : UINT64_MAX;
	int rc = 0;

	fprintf(stderr, "lsvd: capturing from %s; Ctrl-C ends\n", run->a->interface);
	while (rc >= 0 && !cli_interrupted && !over(run) && wall_ns() < end_ns)
		rc = pcap_source_read(run->pcap, WAIT_MS, on_packet, run, run->e);
	run->stop_ns = wall_ns();
	while (rc >= 0 && !over(run) && wall_ns() < run->stop_ns + GRACE_NS)
		rc = pcap_source_read(run->pcap, WAIT_MS, on_packet, run, run->e);
	return rc < 0 ? rc : 0;
}

static int file_packets(struct run *run)
{
	int rc = 0;

	while (rc >= 0 && !cli_interrupted && !over(run))
		rc = pcap_source_read(run->pcap, 0, on_packet, run, run->e);
	if (rc == -EUCLEAN) {
		fprintf(stderr,
			"lsvd: the capture file is damaged or cut off: %s; what is before is "
			"taken\n",
			run->e->msg);
		rc = 0;
	}
	return rc < 0 && rc != -ENODATA ? rc : 0;
}

static int run_packets(struct run *run)
{
	struct capture_options opt = run->a->capture;
	int rc = open_packets(run);

	opt.request = on_request;
	opt.arg = run;
	if (rc == 0)
		rc = capture_new(&opt, &run->capture);
	if (rc == 0)
		rc = run->a->interface ? live_packets(run) : file_packets(run);
	if (run->capture)
		capture_finish(run->capture);
	return rc;
}

/* ---- the kernel's block layer ---- */

static void take_requests(struct run *run)
{
	struct trace_record r;
	uint32_t device;

	while (blk_matcher_next(run->matcher, &r, &device))
		on_request(run, &r);
}

static int on_event(void *arg, const struct blk_event *ev)
{
	struct run *run = arg;

	begin(run, ev->at_ns, wall_ns());
	run->left_out += blk_matcher_event(run->matcher, ev) < 0;
	take_requests(run);
	return run->failed;
}

static int run_block(struct run *run, uint64_t *lost)
{
	uint64_t end_ns =
		run->a->stop_after_s ? wall_ns() + run->a->stop_after_s * 1000000000u : UINT64_MAX;
	struct blktracefs *t = NULL;
	int rc = blktracefs_open(run->a->device, &t, run->e);

	if (rc < 0)
		return rc;
	run->matcher = blk_matcher_new();
	if (!run->matcher)
		rc = -ENOMEM;
	run->rec.header.size_bytes = blktracefs_size(t);
	fprintf(stderr, "lsvd: tracing %s; Ctrl-C ends\n", run->a->device);
	while (rc >= 0 && !cli_interrupted && !over(run) && wall_ns() < end_ns)
		rc = blktracefs_read(t, WAIT_MS, on_event, run, run->e);
	blktracefs_stop(t);
	do
		rc = rc < 0 ? rc : blktracefs_read(t, 0, on_event, run, run->e);
	while (rc > 0 && !over(run));
	*lost = blktracefs_lost(t);
	blktracefs_close(t);
	if (run->matcher) {
		blk_matcher_finish(run->matcher);
		take_requests(run);
	}
	return rc;
}

/* ---- the sum ---- */

/* Every count by its name in JSON; those with a text are said when they are not zero. */
struct fact {
	const char *key;
	uint64_t value;
	const char *text;
};
enum { FACTS_MAX = 48 };

struct facts {
	struct fact f[FACTS_MAX];
	unsigned n;
};

static void add(struct facts *f, const char *key, uint64_t value, const char *text)
{
	if (f->n < FACTS_MAX)
		f->f[f->n++] = (struct fact){key, value, text};
}

static void add_wire(struct facts *f, const struct wire_counts *w)
{
	add(f, "failed", w->failed, "requests answered with an error");
	add(f, "unanswered", w->unanswered, "requests whose answer was not seen");
	add(f, "other_commands", w->other, NULL);
	add(f, "other_units", w->other_units, "requests to other units, left out");
	add(f, "stray_answers", w->strays, "answers to requests that were not seen");
	add(f, "headers_cut", w->headers_cut,
		"requests left out: their headers are beyond the snap length");
	add(f, "ranges_cut", w->ranges_cut,
		"discards left out or incomplete: their ranges are beyond the snap length");
	add(f, "impossible", w->impossible, "requests left out: beyond 2^63 bytes");
	add(f, "lost_place", w->lost_place,
		"times that the place in a stream was lost; requests may be missing there");
	add(f, "searched_bytes", w->searched_bytes, NULL);
	add(f, "encrypted", w->encrypted, "connections that went on in TLS, and could not be read");
}

static void add_tcp(struct facts *f, const struct tcp_counts *t)
{
	add(f, "connections", t->connections, NULL);
	add(f, "midstream", t->midstream, "connections were there before the capture began");
	add(f, "segments", t->segments, NULL);
	add(f, "bytes", t->bytes, NULL);
	add(f, "cut_bytes", t->cut_bytes, NULL);
	add(f, "repeated", t->repeated, "segments came again");
	add(f, "reordered", t->reordered, "segments came before their turn");
	add(f, "gaps", t->gaps, "gaps in streams: packets that the capture has missed");
	add(f, "lost_bytes", t->lost_bytes, "bytes in these");
	add(f, "jumps", t->jumps, "times that a stream went on far from where it was");
	add(f, "evicted", t->evicted, "connections dropped: there were too many");
}

static void add_packets(struct facts *f, struct run *run, const struct capture_counts *c)
{
	struct pcap_source_stats st = {0};

	if (run->pcap)
		pcap_source_stats(run->pcap, &st);
	add(f, "packets", c->packets, NULL);
	add(f, "other_packets", c->others, NULL);
	add(f, "fragments", c->fragments, "fragments of IP packets, which are not put together");
	add(f, "packets_cut_short", c->cut_short, "packets whose headers are not in the capture");
	add(f, "kernel_received", st.received, NULL);
	add(f, "kernel_dropped", st.dropped,
		"packets dropped by the kernel: try a larger --buffer");
	add(f, "interface_dropped", st.interface_dropped, "packets dropped by the interface");
	add_tcp(f, &c->tcp);
	add_wire(f, &c->wire);
}

static void add_events(struct facts *f, const struct blk_counts *b, uint64_t lost)
{
	add(f, "unanswered", b->unanswered, "requests whose completion was not seen");
	add(f, "stray_answers", b->strays, "completions of requests that were not seen");
	add(f, "other_commands", b->passthrough, NULL);
	add(f, "lost_events", lost, "events lost: the kernel's buffer was full");
}

static void print_json(const struct run *run, const struct facts *f, const uint64_t ops[TRACE_OPS])
{
	json_t *x = json_object(), *o = json_object();
	const struct args *a = run->a;

	for (unsigned i = 0; i < TRACE_OPS; i++)
		json_object_set_new(o, trace_op_name(i), json_integer((json_int_t)ops[i]));
	json_object_set_new(x, "trace", json_string(a->trace));
	json_object_set_new(x, "source", json_string(a->interface ? a->interface : a->file ? a->file : a->device));
	json_object_set_new(x, "requests", json_integer((json_int_t)run->rec.n));
	json_object_set_new(x, "size_bytes", json_integer((json_int_t)run->rec.header.size_bytes));
	json_object_set_new(x, "ops", o);
	for (unsigned i = 0; i < f->n; i++)
		json_object_set_new(x, f->f[i].key, json_integer((json_int_t)f->f[i].value));
	cli_print_json(x);
}

/* On stderr when the trace goes to stdout. */
static void print_text(const struct run *run, const struct facts *f, const uint64_t ops[TRACE_OPS])
{
	FILE *out = strcmp(run->a->trace, "-") ? stdout : stderr;

	fprintf(out, "%" PRIu64 " requests in '%s': ", run->rec.n, run->a->trace);
	for (unsigned i = 0, said = 0; i < TRACE_OPS; i++)
		if (ops[i] || i < TRACE_DISCARD)
			fprintf(out, "%s%" PRIu64 " %s", said++ ? ", " : "", ops[i],
				trace_op_name(i));
	fputc('\n', out);
	for (unsigned i = 0; i < f->n; i++)
		if (f->f[i].text && f->f[i].value)
			fprintf(out, "  %" PRIu64 " %s\n", f->f[i].value, f->f[i].text);
}

/* Requests that are known to be missing, as far as they can be counted. */
static uint64_t known_missing(const struct capture_counts *c, const struct blk_counts *b)
{
	return c->wire.headers_cut + c->wire.ranges_cut + c->wire.strays + b->strays;
}

static void report(struct run *run, const struct facts *f)
{
	if (run->a->json)
		print_json(run, f, run->ops);
	else
		print_text(run, f, run->ops);
}

static void default_comment(const struct args *a, char *text, size_t size)
{
	size_t at = (size_t)snprintf(text, size, "captured from %s", a->interface ? a->interface : a->file ? a->file : a->device);

	for (unsigned i = 0; !a->device && i < a->capture.n_ports && at < size; i++)
		at += (size_t)snprintf(text + at, size - at, ", %s port %u",
			wire_name(a->capture.ports[i].protocol), a->capture.ports[i].port);
}

static int finish(struct run *run, int rc, uint64_t lost_events)
{
	struct capture_counts c = {0};
	struct blk_counts b = {0};
	struct facts f = {.n = 0};
	struct err e = {0};
	int closed;

	if (run->capture)
		capture_counts(run->capture, &c);
	if (run->matcher)
		b = *blk_matcher_counts(run->matcher);
	if (run->a->device)
		add_events(&f, &b, lost_events);
	else
		add_packets(&f, run, &c);
	add(&f, "left_out", run->left_out, "packets or events left out for want of memory");
	closed = recording_close(&run->rec, known_missing(&c, &b), &e);
	if (rc < 0 || run->failed)
		return cli_fail("trace capture: %s", err_text(run->e, rc < 0 ? rc : run->failed));
	if (closed < 0)
		return cli_fail("trace capture: %s", e.msg);
	report(run, &f);
	if (c.units > 1 && run->a->capture.unit == WIRE_ANY_UNIT)
		fprintf(stderr,
			"lsvd: %u units were asked, and their requests are mixed; choose one with "
			"--lun\n",
			c.units);
	return CLI_OK;
}

int cmd_trace_capture(int argc, char **argv)
{
	struct args a = {.capture.unit = WIRE_ANY_UNIT,
		.snap_bytes = SNAP_DEFAULT,
		.buffer_bytes = BUFFER_DEFAULT};
	struct err e = {0};
	struct run run = {.a = &a, .e = &e};
	uint64_t lost_events = 0;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	run.rec.path = a.trace;
	run.rec.most = a.requests;
	if (a.comment)
		snprintf(run.rec.header.comment, sizeof(run.rec.header.comment), "%s", a.comment);
	else
		default_comment(&a, run.rec.header.comment, sizeof(run.rec.header.comment));
	if (a.json && !strcmp(a.trace, "-"))
		return cli_fail("trace capture: --json and a trace on standard output do not go "
				"together"),
		       CLI_USAGE;
	if (recording_check(a.trace, &e) < 0)
		return cli_fail("trace capture: %s", e.msg);
	cli_catch_signals();
	rc = a.device ? run_block(&run, &lost_events) : run_packets(&run);
	rc = finish(&run, rc, lost_events);
	pcap_source_close(run.pcap);
	capture_free(run.capture);
	blk_matcher_free(run.matcher);
	return rc;
}
