/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "results/vmboot.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIB (1.0 / 1048576)

static const char *const guests[] = {"srv", "min"},
			 *const layouts[] = {"imported", "packed", "boot"},
			 *const aheads[] = {"none", "readahead", "profile"},
			 *const latencies[] = {"0", "5", "20", "50"},
			 *const chunks[] = {"16k", "64k", "256k", "1m"},
			 *const temperatures[] = {"cold", "warm"};

bool vmboot_is(const struct results *r)
{
	for (size_t i = 0; i < r->nfigures; i++)
		if (!strncmp(r->figures[i].name, "vmboot.", 7))
			return true;
	return false;
}

static double PRINTF(2, 3) figure(const struct results *r, const char *fmt, ...)
{
	const struct results_figure *f;
	va_list ap;

	va_start(ap, fmt);
	f = results_vfind(r, fmt, ap);
	va_end(ap);
	return f ? f->sum.median : NAN;
}

/* ---- tables ---- */

static void cell(FILE *f, double v, int decimals)
{
	fputs("<td class=\"n\">", f);
	if (isnan(v))
		fputs("&ndash;", f);
	else
		fprintf(f, "%.*f", decimals, v);
	fputs("</td>", f);
}

static void boot_columns(FILE *f, const struct results *r, const char *key)
{
	cell(f, figure(r, "vmboot.%s.gets", key), 0);
	cell(f, figure(r, "vmboot.%s.bytes", key) * MIB, 1);
	cell(f, figure(r, "vmboot.%s.read_amplification", key), 2);
	cell(f, figure(r, "vmboot.%s.outstanding_ms", key), 0);
	cell(f, figure(r, "vmboot.%s.marker_s", key), 1);
	cell(f, figure(r, "vmboot.%s.wasted_bytes", key) * MIB, 2);
	cell(f, figure(r, "vmboot.%s.hit_prefetch_percent", key), 1);
	cell(f, figure(r, "vmboot.%s.hit_cache_percent", key), 1);
	cell(f, figure(r, "vmboot.%s.miss_percent", key), 1);
	fputs("</tr>\n", f);
}

static const char boot_heads[] =
	"<th class=\"n\">GETs</th><th class=\"n\">MiB fetched</th><th class=\"n\">fetched : "
	"read</th><th class=\"n\">ms with a read waiting</th><th class=\"n\">s to the marker</th>"
	"<th class=\"n\">MiB in vain</th><th class=\"n\">% prefetched</th><th class=\"n\">% "
	"cached</th><th class=\"n\">% missed</th></tr></thead><tbody>\n";

struct place {
	const char *guest, *layout, *ahead, *ms, *chunk, *temperature;
};

static struct place place_of(size_t i)
{
	struct place p;

	p.temperature = temperatures[i % COUNT(temperatures)];
	i /= COUNT(temperatures);
	p.chunk = chunks[i % COUNT(chunks)];
	i /= COUNT(chunks);
	p.ms = latencies[i % COUNT(latencies)];
	i /= COUNT(latencies);
	p.ahead = aheads[i % COUNT(aheads)];
	i /= COUNT(aheads);
	p.layout = layouts[i % COUNT(layouts)];
	i /= COUNT(layouts);
	p.guest = guests[i];
	return p;
}

enum {
	PLACES = COUNT(guests) * COUNT(layouts) * COUNT(aheads) * COUNT(latencies) * COUNT(chunks) *
		 COUNT(temperatures)
};

static void cells_table(FILE *f, const struct results *r)
{
	fputs("<h2>Every boot</h2>\n<div "
	      "class=\"scroll\"><table><thead><tr><th>guest</th><th>layout"
	      "</th><th>ahead</th><th class=\"n\">store, ms</th><th>chunk</th><th>pool</th>",
		f);
	fputs(boot_heads, f);
	for (size_t i = 0; i < PLACES; i++) {
		struct place p = place_of(i);
		char key[RESULTS_NAME_MAX];

		snprintf(key, sizeof(key), "%s.%s.%s.%sms.%s.%s", p.guest, p.layout, p.ahead, p.ms,
			p.chunk, p.temperature);
		if (isnan(figure(r, "vmboot.%s.gets", key)))
			continue;
		fprintf(f,
			"<tr><td>%s</td><td>%s</td><td>%s</td><td class=\"n\">%s</td><td>%s</td>"
			"<td>%s</td>",
			p.guest, p.layout, p.ahead, p.ms, p.chunk, p.temperature);
		boot_columns(f, r, key);
	}
	fputs("</tbody></table></div>\n", f);
}

static void others_table(FILE *f, const struct results *r)
{
	static const struct {
		const char *key, *title;
	} rows[] = {{"local.raw", "raw image, local file"},
		{"peer.raw.20ms", "raw image over nbdkit, each read 20 ms later"},
		{"peer.qcow2.20ms", "qcow2 overlay on that"},
		{"local.boot", "LSVD, boot order with profile, 20 ms, cold (in turns with the "
			       "local file)"},
		{"rebuilt.imported", "LSVD, rebuilt guest, as imported, 20 ms, cold"},
		{"rebuilt.boot", "... laid out by a boot of the older build, translated"},
		{"rebuilt.untranslated", "... laid out by a boot of the older build as it is"}};

	fputs("<h2>Peers, and a rebuilt image</h2>\n<div "
	      "class=\"scroll\"><table><thead><tr><th>srv "
	      "boots from</th>",
		f);
	fputs(boot_heads, f);
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (isnan(figure(r, "vmboot.%s.marker_s", rows[i].key)))
			continue;
		fprintf(f, "<tr><td>%s</td>", rows[i].title);
		boot_columns(f, r, rows[i].key);
	}
	fputs("</tbody></table></div>\n", f);
}

static void fleet_row(
	FILE *f, const struct results *r, const char *key, const char *title, unsigned n)
{
	if (isnan(figure(r, "vmboot.%s.%u.gets", key, n)))
		return;
	fprintf(f, "<tr><td>%s</td><td class=\"n\">%u</td>", title, n);
	cell(f, figure(r, "vmboot.%s.%u.gets", key, n), 0);
	cell(f, figure(r, "vmboot.%s.%u.bytes", key, n) * MIB, 1);
	cell(f, figure(r, "vmboot.%s.%u.read_bytes", key, n) * MIB, 1);
	cell(f, figure(r, "vmboot.%s.%u.outstanding_ms", key, n), 0);
	cell(f, figure(r, "vmboot.%s.%u.first_marker_s", key, n), 1);
	cell(f, figure(r, "vmboot.%s.%u.last_marker_s", key, n), 1);
	fputs("</tr>\n", f);
}

static const struct {
	const char *key, *title;
} fleets[] = {{"fleet.shared", "real guests (min), one gateway"},
	{"fleet.separate", "real guests, a gateway and a cache each"},
	{"fleet.raw", "real guests, raw over nbdkit, 20 ms"},
	{"fleet.predicted.imported", "srv in virtual time, as imported, one cache"},
	{"fleet.predicted.boot", "srv in virtual time, boot order with profile, one cache"}};

static void fleets_table(FILE *f, const struct results *r)
{
	fputs("<h2>Fleets: clones booted at once</h2>\n<div class=\"scroll\"><table><thead><tr><th>"
	      "what</th><th class=\"n\">clones</th><th class=\"n\">GETs</th><th class=\"n\">MiB "
	      "fetched</th><th class=\"n\">MiB read by guests</th><th class=\"n\">ms with a read "
	      "waiting, worst guest</th><th class=\"n\">s to the first marker</th><th "
	      "class=\"n\">s to the last</th></tr></thead><tbody>\n",
		f);
	for (size_t i = 0; i < COUNT(fleets); i++)
		for (unsigned n = 1; n <= 10; n++)
			fleet_row(f, r, fleets[i].key, fleets[i].title, n);
	fputs("</tbody></table></div>\n", f);
}

void vmboot_tables(FILE *f, const struct results *r)
{
	fputs("<p class=\"soft\">Real Debian guests under QEMU, booted until systemd calls itself "
	      "running, from clones of an image served by the nbdkit plugin, over a store whose "
	      "every request takes so long and whose link has 1 GB/s. The image is laid out and "
	      "its profile made by one boot; other boots are measured. Without KVM a guest's "
	      "computing takes most of the time to the marker, and depends on what else the "
	      "machine does; GETs and bytes do not.</p>\n",
		f);
	others_table(f, r);
	fleets_table(f, r);
	cells_table(f, r);
}

/* ---- charts ---- */

static void put(struct plot_series *s, size_t g, double v)
{
	if (!isnan(v))
		s->points[g] = (struct plot_point){.value = v, .low = v, .high = v, .there = true};
}

static void group(struct plot_panel *p, const char *label)
{
	snprintf(p->groups[p->ngroups++], sizeof(p->groups[0]), "%s", label);
}

/* Layouts side by side, a bar for each that runs ahead; at 20 ms and 64 KiB. */
static void layouts_panel(
	struct plot *p, const struct results *r, const char *title, const char *what, double scale)
{
	static const enum plot_colour colours[] = {
		PLOT_ORIGINAL, PLOT_READAHEAD, PLOT_REORG_PREFETCH};
	static const char *const labels[] = {"nothing runs ahead", "readahead", "boot profile"};
	struct plot_panel *panel = plot_panel(p, title);

	panel->log = true;
	panel->values = true;
	for (size_t l = 0; l < COUNT(layouts); l++)
		group(panel, layouts[l]);
	for (size_t a = 0; a < COUNT(aheads); a++) {
		struct plot_series *s = plot_series(panel, labels[a], colours[a]);

		for (size_t l = 0; l < COUNT(layouts); l++)
			put(s, l,
				scale * figure(r, "vmboot.srv.%s.%s.20ms.64k.cold.%s", layouts[l],
						aheads[a], what));
	}
}

static const struct {
	const char *layout, *ahead, *label;
	enum plot_colour colour;
} ends[] = {{"imported", "none", "nothing runs ahead", PLOT_ORIGINAL},
	{"boot", "profile", "boot profile", PLOT_REORG_PREFETCH}};

/* As imported, and in boot order with the profile, over one of the axes. */
static void axis_panel(
	struct plot *p, const struct results *r, const char *title, const char *what, bool latency)
{
	struct plot_panel *panel = plot_panel(p, title);
	const char *const *axis = latency ? latencies : chunks;

	panel->log = true;
	panel->values = true;
	for (size_t g = 0; g < COUNT(latencies); g++) {
		char label[16];

		snprintf(label, sizeof(label), "%s%s", axis[g], latency ? " ms" : "");
		group(panel, label);
	}
	for (size_t e = 0; e < COUNT(ends); e++) {
		struct plot_series *s = plot_series(panel, ends[e].label, ends[e].colour);

		for (size_t g = 0; g < COUNT(latencies); g++)
			put(s, g,
				figure(r, "vmboot.srv.%s.%s.%sms.%s.cold.%s", ends[e].layout,
					ends[e].ahead, latency ? axis[g] : "20",
					latency ? "64k" : axis[g], what));
	}
}

struct plot *vmboot_chart(const struct results *r)
{
	struct plot *p = plot_new("vmboot", "A real server boots, cold", 1200, 900, 2);

	if (!p)
		return NULL;
	p->legend = true;
	snprintf(p->note, sizeof(p->note),
		"guest srv; above: store of 20 ms, chunks of 64 KiB, by layout; below: as "
		"imported, and "
		"in boot order with profile; log scales");
	layouts_panel(p, r, "GET requests", "gets", 1);
	layouts_panel(p, r, "ms with a read waiting", "outstanding_ms", 1);
	axis_panel(p, r, "ms with a read waiting, by latency of the store", "outstanding_ms", true);
	axis_panel(p, r, "s to the marker, by latency of the store", "marker_s", true);
	axis_panel(p, r, "GET requests, by chunk size", "gets", false);
	axis_panel(p, r, "fetched : read, by chunk size", "read_amplification", false);
	return p;
}

struct plot *vmboot_chart_fleet(const struct results *r)
{
	static const enum plot_colour colours[] = {
		PLOT_REORG_PREFETCH, PLOT_READAHEAD, PLOT_RAW, PLOT_WARM, PLOT_REORG};
	static const char *const labels[] = {"one gateway", "a cache each", "raw over nbdkit",
		"srv, imported (virtual)", "srv, boot order (virtual)"};
	static const unsigned sizes[] = {1, 2, 4, 10};
	struct plot *p = plot_new("vmboot-fleet", "Clones booted at once", 1200, 380, 2);

	if (!p)
		return NULL;
	p->legend = true;
	snprintf(p->note, sizeof(p->note), "store of 20 ms; log scales");
	for (unsigned k = 0; k < 2; k++) {
		struct plot_panel *panel = plot_panel(p, k ? "GET requests" : "MiB fetched");

		panel->log = panel->values = true;
		for (size_t g = 0; g < COUNT(sizes); g++) {
			char label[16];

			snprintf(label, sizeof(label), "%u", sizes[g]);
			group(panel, label);
		}
		for (size_t i = 0; i < COUNT(fleets); i++) {
			struct plot_series *s = plot_series(panel, labels[i], colours[i]);

			for (size_t g = 0; g < COUNT(sizes); g++)
				put(s, g,
					(k ? 1 : MIB) * figure(r, "vmboot.%s.%u.%s", fleets[i].key,
								sizes[g], k ? "gets" : "bytes"));
		}
	}
	return p;
}
