/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_store_url.c - the URLs of stores and images. */
#include "store/store.h"
#include "sys/loop_sim.h"
#include "test/store_util.h"
#include "test/test.h"

#include <errno.h>

static void splits(const char *url, const char *store, const char *image)
{
	char s[100], i[65];

	assert_int_equal(store_split_url(url, s, sizeof(s), i, sizeof(i), &util_err), 0);
	assert_string_equal(s, store);
	assert_string_equal(i, image);
}

TEST(image_urls_split)
{
	splits("file:/srv/vols/vm1", "file:/srv/vols", "vm1");
	splits("file:vols/vm1", "file:vols", "vm1");
	splits("file:vm1", "file:.", "vm1");
	splits("file:/vm1", "file:/", "vm1");
	splits("rados:rbd/vm1", "rados:rbd", "vm1");
	splits("rados:rbd/team/vm1", "rados:rbd/team", "vm1");
	splits("model:ssd:rados:rbd/vm1", "model:ssd:rados:rbd", "vm1");
	splits("mem:vm1", "mem:", "vm1");
	splits("mem:pool/vm1", "mem:pool/", "vm1");
	splits("model:ssd:file:/srv/vm1", "model:ssd:file:/srv", "vm1");
	splits("model:s3,lat=20ms:mem:vm1", "model:s3,lat=20ms:mem:", "vm1");
	splits("fault:full:model:hdd:mem:p/vm1", "fault:full:model:hdd:mem:p/", "vm1");
}

TEST(bad_image_urls_are_refused)
{
	static const char *const bad[] = {"", "vm1", "file:", "file:/srv/", "mem:", "file:/srv/.vm",
		"mem:a b", "model:ssd", "model:mem", "ftp:x/y", "rados:vm1", "rados:/vm1",
		"rados:", "mem:0123456789012345678901234567890123456789012345678901234567890123x"};
	char s[100], i[70];

	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		util_err.msg[0] = 0;
		assert_int_equal(
			store_split_url(bad[k], s, sizeof(s), i, sizeof(i), &util_err), -EINVAL);
		assert_true(util_err.msg[0]);
	}
	assert_int_equal(
		store_split_url("file:/srv/vm1", s, 6, i, sizeof(i), &util_err), -ENAMETOOLONG);
	assert_int_equal(
		store_split_url("file:/srv/vm1", s, sizeof(s), i, 3, &util_err), -ENAMETOOLONG);
}

TEST(bad_store_urls_are_refused)
{
	static const char *const bad[] = {"", "x", "ftp://x", "mem:a b", "mem:a/b",
		"model:", "model:ssd", "model:floppy:mem:", "model:ssd,lat=x:mem:",
		"model:ssd,lat=5:mem:", "model:ssd,bw=-1:mem:", "model:ssd,what=1:mem:",
		"model::mem:", "fault:fail=2000000:mem:", "fault:fail_x=1:mem:",
		"fault:nonsense:mem:", "model:ssd:ftp:x", "file:", "file:x"};
	struct loop *l;
	struct store *s;

	assert_int_equal(loop_sim_new(test_seed(), &l, &util_err), 0);
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
		util_err.msg[0] = 0;
		assert_int_equal(store_open(l, bad[k], NULL, 0, &s, &util_err), -EINVAL);
		assert_true(util_err.msg[0]);
		assert_null(s);
	}
	loop_free(l);
}
