/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pcapsource.c - see pcapsource.h. */
#include "trace/pcapsource.h"

#include <errno.h>

#ifdef HAVE_PCAP
#include "sys/dynlib.h"

#include <inttypes.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 1024, KERNEL_WAIT_MS = 100 };

static struct {
	typeof(pcap_create) *create;
	typeof(pcap_set_snaplen) *set_snaplen;
	typeof(pcap_set_timeout) *set_timeout;
	typeof(pcap_set_buffer_size) *set_buffer_size;
	typeof(pcap_set_tstamp_precision) *set_tstamp_precision;
	typeof(pcap_activate) *activate;
	typeof(pcap_setnonblock) *setnonblock;
	typeof(pcap_get_selectable_fd) *selectable_fd;
	typeof(pcap_get_tstamp_precision) *tstamp_precision;
	typeof(pcap_compile) *compile;
	typeof(pcap_setfilter) *setfilter;
	typeof(pcap_freecode) *freecode;
	typeof(pcap_fopen_offline_with_tstamp_precision) *fopen_offline;
	typeof(pcap_next_ex) *next_ex;
	typeof(pcap_stats) *stats;
	typeof(pcap_datalink) *datalink;
	typeof(pcap_geterr) *geterr;
	typeof(pcap_statustostr) *statustostr;
	typeof(pcap_close) *close;
} lib;

static const struct dynlib_symbol symbols[] = {{"pcap_create", &lib.create},
	{"pcap_set_snaplen", &lib.set_snaplen}, {"pcap_set_timeout", &lib.set_timeout},
	{"pcap_set_buffer_size", &lib.set_buffer_size},
	{"pcap_set_tstamp_precision", &lib.set_tstamp_precision}, {"pcap_activate", &lib.activate},
	{"pcap_setnonblock", &lib.setnonblock}, {"pcap_get_selectable_fd", &lib.selectable_fd},
	{"pcap_get_tstamp_precision", &lib.tstamp_precision}, {"pcap_compile", &lib.compile},
	{"pcap_setfilter", &lib.setfilter}, {"pcap_freecode", &lib.freecode},
	{"pcap_fopen_offline_with_tstamp_precision", &lib.fopen_offline},
	{"pcap_next_ex", &lib.next_ex}, {"pcap_stats", &lib.stats},
	{"pcap_datalink", &lib.datalink}, {"pcap_geterr", &lib.geterr},
	{"pcap_statustostr", &lib.statustostr}, {"pcap_close", &lib.close}, {NULL, NULL}};

struct pcap_source {
	pcap_t *p;
	char *name;
	bool live;
	uint64_t unit_ns; /* of the fraction in a time stamp */
	int over;	  /* why no more packets come: -errno, and a message */
	struct err why;
};

static int load(struct err *e)
{
	return dynlib_load("libpcap.so.0.8", "libpcap0.8", symbols, e);
}

static struct pcap_source *source_new(pcap_t *p, const char *name, bool live, struct err *e)
{
	struct pcap_source *s = p ? calloc(1, sizeof(*s)) : NULL;

	if (s)
		s->name = strdup(name);
	if (!s || !s->name) {
		free(s);
		if (p)
			lib.close(p);
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	s->p = p;
	s->live = live;
	s->unit_ns = lib.tstamp_precision(p) == PCAP_TSTAMP_PRECISION_NANO ? 1 : 1000;
	return s;
}

int pcap_source_file(const char *path, struct pcap_source **out, struct err *e)
{
	char why[PCAP_ERRBUF_SIZE] = "";
	bool std = !strcmp(path, "-");
	FILE *f;
	pcap_t *p;
	int rc = load(e);

	if (rc < 0)
		return rc;
	f = std ? stdin : fopen(path, "rb");
	if (!f)
		return err_set(e, -errno, "'%s': %s", path, strerror(errno));
	p = lib.fopen_offline(f, PCAP_TSTAMP_PRECISION_NANO, why); /* f is its own now */
	if (!p) {
		if (!std)
			fclose(f);
		return err_set(e, -EUCLEAN, "'%s' is no capture file: %s", path, why);
	}
	*out = source_new(p, path, false, e);
	return *out ? 0 : -ENOMEM;
}

/* ---- live ---- */

static int activation_failed(struct pcap_source *s, int rc, struct err *e)
{
	const char *more = lib.geterr(s->p);

	switch (rc) {
	case PCAP_ERROR_PERM_DENIED:
	case PCAP_ERROR_PROMISC_PERM_DENIED:
		return err_set(e, -EACCES,
			"interface '%s': no permission to capture; run it as root, or give the "
			"program the "
			"capability: setcap cap_net_raw+ep lsvd",
			s->name);
	case PCAP_ERROR_NO_SUCH_DEVICE:
		return err_set(e, -ENODEV,
			"no interface '%s'; `ip link` lists them, 'any' is all of them", s->name);
	case PCAP_ERROR_IFACE_NOT_UP:
		return err_set(e, -ENETDOWN, "interface '%s' is not up; try: ip link set %s up",
			s->name, s->name);
	default:
		return err_set(e, -EIO, "interface '%s': %s%s%s", s->name, lib.statustostr(rc),
			*more ? ": " : "", more);
	}
}

static int set_filter(struct pcap_source *s, const char *filter, struct err *e)
{
	struct bpf_program prog;
	int rc;

	if (lib.compile(s->p, &prog, filter, 1, PCAP_NETMASK_UNKNOWN) < 0)
		return err_set(e, -EINVAL, "interface '%s': filter '%s': %s", s->name, filter,
			lib.geterr(s->p));
	rc = lib.setfilter(s->p, &prog);
	lib.freecode(&prog);
	return rc < 0 ? err_set(e, -EIO, "interface '%s': filter: %s", s->name, lib.geterr(s->p))
		      : 0;
}

/* Not promiscuous: what passes through this host is what is asked for. */
static int activate(struct pcap_source *s, const struct pcap_live_options *opt, struct err *e)
{
	char why[PCAP_ERRBUF_SIZE] = "";
	int rc;

	lib.set_snaplen(s->p, (int)opt->snap_bytes);
	lib.set_timeout(s->p, KERNEL_WAIT_MS);
	if (opt->buffer_bytes)
		lib.set_buffer_size(s->p, (int)opt->buffer_bytes);
	lib.set_tstamp_precision(s->p, PCAP_TSTAMP_PRECISION_NANO);
	rc = lib.activate(s->p);
	if (rc < 0)
		return activation_failed(s, rc, e);
	s->unit_ns = lib.tstamp_precision(s->p) == PCAP_TSTAMP_PRECISION_NANO ? 1 : 1000;
	if (lib.setnonblock(s->p, 1, why) < 0)
		return err_set(e, -EIO, "interface '%s': %s", s->name, why);
	return opt->filter ? set_filter(s, opt->filter, e) : 0;
}

int pcap_source_live(const struct pcap_live_options *opt, struct pcap_source **out, struct err *e)
{
	char why[PCAP_ERRBUF_SIZE] = "";
	struct pcap_source *s;
	int rc = load(e);

	if (rc < 0)
		return rc;
	s = source_new(lib.create(opt->interface, why), opt->interface, true, e);
	if (!s)
		return *why ? err_set(e, -EIO, "interface '%s': %s", opt->interface, why) : -ENOMEM;
	rc = activate(s, opt, e);
	if (rc < 0)
		pcap_source_close(s);
	else
		*out = s;
	return rc;
}

int pcap_source_link(const struct pcap_source *s)
{
	return lib.datalink(s->p);
}

static int read_failed(struct pcap_source *s, struct err *e)
{
	return err_set(e, s->live ? -EIO : -EUCLEAN, "'%s': %s", s->name, lib.geterr(s->p));
}

int pcap_source_read(
	struct pcap_source *s, int wait_ms, pcap_packet_fn *fn, void *arg, struct err *e)
{
	struct pollfd fd = {.fd = s->live ? lib.selectable_fd(s->p) : -1, .events = POLLIN};
	int n = 0;

	if (s->over) {
		if (e)
			*e = s->why;
		return s->over;
	}
	for (; n < BATCH; n++) {
		struct pcap_pkthdr *h;
		const u_char *frame;
		int rc = lib.next_ex(s->p, &h, &frame);

		if (rc == 0 && !n && wait_ms) {
			poll(&fd, 1, wait_ms); /* a signal ends it too */
			wait_ms = 0;
			rc = lib.next_ex(s->p, &h, &frame);
		}
		if (rc == 0)
			break;
		if (rc < 0) {
			s->over = rc == PCAP_ERROR_BREAK ? -ENODATA : read_failed(s, &s->why);
			break; /* it is told next time */
		}
		rc = fn(arg,
			(uint64_t)h->ts.tv_sec * 1000000000u + (uint64_t)h->ts.tv_usec * s->unit_ns,
			frame, h->caplen, h->len);
		if (rc < 0)
			return rc;
	}
	if (!n && s->over)
		return pcap_source_read(s, 0, fn, arg, e);
	return n;
}

void pcap_source_stats(struct pcap_source *s, struct pcap_source_stats *st)
{
	struct pcap_stat ps = {0};

	*st = (struct pcap_source_stats){0};
	if (!s->live || lib.stats(s->p, &ps) < 0)
		return;
	st->received = ps.ps_recv;
	st->dropped = ps.ps_drop;
	st->interface_dropped = ps.ps_ifdrop;
}

void pcap_source_close(struct pcap_source *s)
{
	if (!s)
		return;
	lib.close(s->p);
	free(s->name);
	free(s);
}

#else

static int left_out(struct err *e)
{
	return err_set(e, -ENOTSUP,
		"this lsvd was built without libpcap; install the package libpcap-dev and build it "
		"again");
}

int pcap_source_file(const char *path, struct pcap_source **out, struct err *e)
{
	(void)path;
	(void)out;
	return left_out(e);
}

int pcap_source_live(const struct pcap_live_options *opt, struct pcap_source **out, struct err *e)
{
	(void)opt;
	(void)out;
	return left_out(e);
}

int pcap_source_link(const struct pcap_source *s)
{
	(void)s;
	return -1;
}

int pcap_source_read(
	struct pcap_source *s, int wait_ms, pcap_packet_fn *fn, void *arg, struct err *e)
{
	(void)s;
	(void)wait_ms;
	(void)fn;
	(void)arg;
	return left_out(e);
}

void pcap_source_stats(struct pcap_source *s, struct pcap_source_stats *st)
{
	(void)s;
	*st = (struct pcap_source_stats){0};
}

void pcap_source_close(struct pcap_source *s)
{
	(void)s;
}

#endif
