/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_plot.c - the scripts that pictures are drawn by; test_results.c has them drawn. */
#include "results/plot.h"
#include "test/test.h"

TEST(tick_labels_are_short)
{
	static const struct {
		double v;
		const char *label;
	} cases[] = {{0, "0"}, {0.05, "0.05"}, {1, "1"}, {999, "999"}, {999.9, "1k"},
		{1453, "1.45k"}, {200000, "200k"}, {999999, "1M"}, {2.5e9, "2.5G"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char label[24];

		plot_tick_label(cases[i].v, label, sizeof(label));
		assert_string_equal(label, cases[i].label);
	}
}

/* The script of a plot of `npanels` panels, three in a row on the screen, all bars of one value. */
static char *script_of(size_t npanels, size_t nseries, double value)
{
	static const char note[] = "a note of some length; it has a second part; and a third one, "
				   "which does not fit on the line of a page any more; the end";
	struct plot *p = plot_new("made-up", "Made up", 1200, 400, 3);
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	assert_true(p && f);
	snprintf(p->note, sizeof(p->note), "%s", note);
	for (size_t i = 0; i < npanels; i++) {
		struct plot_panel *panel = plot_panel(p, "panel");

		panel->values = true;
		panel->ngroups = 4;
		for (size_t n = 0; n < nseries; n++) {
			struct plot_series *s = plot_series(panel, "series", PLOT_LSVD);

			for (size_t g = 0; g < panel->ngroups; g++)
				s->points[g] = (struct plot_point){.value = value, .there = true};
		}
	}
	plot_script(p, f);
	fclose(f);
	free(p);
	return text;
}

/* What of the script makes the file that ends so. */
static char *part_for(char *script, const char *suffix)
{
	char name[40], *at, *end;

	snprintf(name, sizeof(name), "set output 'made-up%s'", suffix);
	at = strstr(script, name);
	assert_non_null(at);
	end = strstr(at, "unset output");
	assert_non_null(end);
	*end = 0;
	while (at > script && strncmp(at, "\nreset", 6))
		at--;
	return at;
}

static size_t count_of(const char *text, const char *what)
{
	size_t n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

TEST(a_picture_has_twice_the_pixels_and_paper_inches)
{
	char *script = script_of(3, 1, 12), *pdf = part_for(script, ".pdf");
	char *png = part_for(script, ".png");

	assert_non_null(strstr(png, "set terminal pngcairo "));
	assert_non_null(strstr(png, "size 2400,800 "));
	assert_int_equal(count_of(png, "set lmargin at screen 0.04500\n"), 1);
	assert_int_equal(count_of(png, "the end"), 1);
	assert_null(strstr(png, "'the end'"));
	assert_non_null(strstr(pdf, "set terminal pdfcairo "));
	assert_non_null(strstr(pdf, "size 7in,"));
	/* Two panels, below them the third over the whole width; the note in two lines. */
	assert_int_equal(count_of(pdf, "set lmargin at screen 0.06667\n"), 2);
	assert_int_equal(count_of(pdf, "set lmargin at screen 0.56667\n"), 1);
	assert_int_equal(count_of(pdf, "set rmargin at screen 0.98272\n"), 2);
	assert_non_null(strstr(pdf, "set label 'the end'"));
	free(script);
}

TEST(values_that_would_collide_are_small_or_get_a_row)
{
	char *script = script_of(2, 5, 12345678), *pdf = part_for(script, ".pdf");
	char *svg = part_for(script, ".svg");

	assert_int_equal(count_of(svg, "set label '12.3M'"), 40);
	assert_int_equal(count_of(svg, "font ',7' front"), 40);
	assert_int_equal(count_of(pdf, "set lmargin at screen 0.06667\n"), 2);
	assert_int_equal(count_of(pdf, "font ',8' front"), 40);
	assert_null(strstr(pdf, "font ',7'"));
	free(script);
}
