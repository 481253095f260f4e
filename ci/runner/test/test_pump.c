/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_pump.c - the pump visits every place once, and says what failed. */
#include "test/test.h"

#include "ci/runner/pump.h"

#include <errno.h>
#include <math.h>

enum { PLACES = 1000, BLOCK = 512, STRIDE = 1024 };

static char why[LSVD_ERR_MAX];

static void begin(struct pump *p, const char *url)
{
	const char *const settings[] = {"pool.path", "mem:64M", NULL};

	*p = (struct pump){0};
	assert_int_equal(pump_context(settings, &p->ctx, why), 0);
	assert_int_equal(pump_open(p, url, PLACES * STRIDE, why), 0);
	assert_int_equal(pump_shape(p, BLOCK, STRIDE, PLACES), 0);
}

static int count(void *arg, uint64_t offset_bytes, uint64_t len_bytes)
{
	assert_int_equal(offset_bytes % STRIDE, 0);
	assert_int_equal(len_bytes, BLOCK);
	++*(unsigned *)arg;
	return 0;
}

/* The number has divisors in common with its golden section; what was written does not touch. */
TEST(each_place_is_written_once)
{
	static struct pump p;
	struct lsvd_stats st;
	unsigned n = 0;

	begin(&p, "mem:pump-once");
	assert_int_equal(pump_run(&p, LSVD_WRITE, PLACES, INFINITY), 0);
	assert_int_equal(p.done, PLACES);
	assert_int_equal(lsvd_image_stats(p.img, &st), 0);
	assert_int_equal(st.writes, PLACES);
	assert_int_equal(lsvd_image_extents(p.img, 0, PLACES * STRIDE, count, &n), 0);
	assert_int_equal(n, PLACES);
	assert_int_equal(pump_close(&p, 0, why), 0);
	lsvd_ctx_close(p.ctx);
}

TEST(a_pump_ends_with_the_clock)
{
	static struct pump p;

	begin(&p, "mem:pump-clock");
	assert_int_equal(pump_run(&p, LSVD_WRITE, UINT64_MAX, 0), 0);
	assert_int_equal(p.done, 0);
	assert_int_equal(pump_close(&p, 0, why), 0);
	lsvd_ctx_close(p.ctx);
}

/* Beyond the end of the image; and an error that came before is not forgotten. */
TEST(what_fails_is_told)
{
	static struct pump p;

	begin(&p, "mem:pump-fails");
	p.at = PLACES;
	p.step = 0;
	p.places = PLACES + 1;
	assert_int_equal(pump_run(&p, LSVD_WRITE, PLACES, INFINITY), -EINVAL);
	assert_int_equal(pump_close(&p, -EINVAL, why), -EINVAL);
	lsvd_ctx_close(p.ctx);
}
