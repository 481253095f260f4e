/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/fsck_env.h"

#include "sys/loop_sim.h"
#include "volume/volume.h"

#include <inttypes.h>

static struct lsvd_config *config(void)
{
	static const char *const set[][2] = {{"pool.segment", "1M"}, {"object.size", "256K"},
		{"cache.enabled", "false"}, {"gc.enabled", "false"}, {"destage.age_ms", "0"},
		{"checkpoint.interval", "64G"}};
	struct lsvd_config *cfg = lsvd_config_new(NULL);

	for (unsigned i = 0; i < sizeof(set) / sizeof(set[0]); i++)
		assert_int_equal(lsvd_config_set(cfg, set[i][0], set[i][1], NULL), 0);
	return cfg;
}

void fx_init(struct fx *v)
{
	*v = (struct fx){0};
	assert_int_equal(mem_objects_new(&v->o), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(loop_sim_new(7 + i, &v->loop[i], &v->e), 0);
		assert_int_equal(store_mem_on(v->loop[i], v->o, &v->store[i]), 0);
	}
}

void fx_fini(struct fx *v)
{
	fsck_report_fini(&v->r);
	for (unsigned i = 0; i < 2; i++) {
		store_close(v->store[i]);
		loop_free(v->loop[i]);
	}
	mem_objects_free(v->o);
}

void fx_open_image(struct fx *v)
{
	struct lsvd_config *cfg = config();
	struct bdev *leg;
	int rc;

	assert_int_equal(bdev_open(v->loop[0], "mem:64M", 0, 0, &leg, NULL, &v->e), 0);
	assert_int_equal(ctx_open_on(v->loop[0], cfg, &leg, 1, &v->ctx, &v->e), 0);
	lsvd_config_free(cfg);
	rc = ctx_image_open(v->ctx, v->store[0], "v", 0, &v->img, &v->e);
	if (rc < 0)
		fail_msg("open: %s", v->e.msg);
}

void fx_close_image(struct fx *v)
{
	assert_int_equal(lsvd_image_close(v->img, v->e.msg), 0);
	lsvd_ctx_close(v->ctx);
	v->img = NULL;
}

void fx_write_at(struct fx *v, uint64_t seed, uint64_t off, uint64_t len)
{
	void *p = util_bytes(seed, len);

	assert_int_equal(lsvd_pwrite(v->img, p, len, off), 0);
	free(p);
}

/* Ten objects or so, some of them overwritten, with a hole and a discard. */
static void fill(struct fx *v)
{
	for (uint64_t i = 0; i < 32; i++)
		fx_write_at(v, i, i * 65536, 65536);
	for (uint64_t i = 0; i < 16; i++)
		fx_write_at(v, 100 + i, 8 * MIB + i * 12288, 8192);
	fx_write_at(v, 200, 65536, 131072);
	assert_int_equal(lsvd_discard(v->img, 65536, 512 * 1024), 0);
	assert_int_equal(lsvd_image_drain(v->img), 0);
}

/* An image that was filled and closed. */
void fx_make_image(struct fx *v)
{
	fx_init(v);
	assert_int_equal(
		volume_create(v->store[0], "v", IMAGE_MIB * (uint64_t)MIB / 512, &v->e), 0);
	fx_open_image(v);
	fill(v);
	fx_close_image(v);
}

/* The same, still open and with objects after its checkpoint. */
void fx_make_open_image(struct fx *v)
{
	fx_make_image(v);
	fx_open_image(v);
	for (uint64_t i = 0; i < 4; i++) {
		fx_write_at(v, 300 + i, 16 * MIB + i * 256 * 1024, 256 * 1024);
		assert_int_equal(lsvd_image_drain(v->img), 0);
	}
}

/* ---- stored bytes ---- */

uint8_t *fx_load(struct fx *v, const char *name, size_t *len)
{
	uint8_t *p = malloc(MIB);
	int64_t n = util_get(v->store[1], name, 0, p, MIB);

	if (n < 0)
		fail_msg("get %s: %s", name, util_err.msg);
	*len = (size_t)n;
	return p;
}

void fx_replace(struct fx *v, const char *name, const void *p, size_t len)
{
	if (strstr(name, "/super")) {
		char tag[STORE_TAG_MAX], buf[1];

		(void)util_get(v->store[1], name, 0, buf, 1);
		memcpy(tag, util_tag, sizeof(tag));
		assert_int_equal(util_swap(v->store[1], name, tag, p, len), 0);
	} else {
		assert_int_equal(util_delete(v->store[1], name), 0);
		assert_int_equal(util_put(v->store[1], name, p, len), 0);
	}
}

void fx_flip(struct fx *v, const char *name, size_t bit)
{
	size_t len;
	uint8_t *p = fx_load(v, name, &len);

	p[bit / 8 % len] ^= (uint8_t)(1u << bit % 8);
	fx_replace(v, name, p, len);
	free(p);
}

struct superblock *fx_super_of(struct fx *v)
{
	struct superblock *sb = malloc(sizeof(*sb));

	assert_int_equal(volume_read_superblock(v->store[1], "v", sb, NULL, &v->e), 0);
	return sb;
}

void fx_put_super(struct fx *v, struct superblock *sb)
{
	static uint8_t buf[SUPERBLOCK_BYTES];

	fx_replace(v, "v/super", buf, superblock_encode(sb, buf));
	free(sb);
}

/* The name of the n-th data object that the store has (the last: -1), or of a checkpoint. */
static const char *nth(struct fx *v, const char *prefix, int n)
{
	static char name[4][STORE_NAME_MAX];
	static unsigned next;
	char *out = name[next++ % 4], *save = NULL, *list = strdup(util_list(v->store[1], prefix));
	int i = 0;

	out[0] = 0;
	for (char *s = strtok_r(list, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		if (n < 0 || i == n)
			snprintf(out, STORE_NAME_MAX, "%.*s", (int)strcspn(s, ":"), s);
		i++;
	}
	free(list);
	assert_true(out[0]);
	return out;
}

const char *fx_object(struct fx *v, int n)
{
	return nth(v, "v/0", n);
}
const char *fx_checkpoint(struct fx *v)
{
	return nth(v, "v/ckpt", -1);
}

/* ---- checking ---- */

void fx_check(struct fx *v, unsigned flags)
{
	int rc;

	fsck_report_fini(&v->r);
	rc = fsck_run(&(struct fsck_params){.store = v->store[1], .name = "v", .flags = flags},
		&v->r, &v->e);
	if (rc < 0)
		fail_msg("fsck: %s", v->e.msg);
}

static void dump(const struct fsck_report *r)
{
	for (uint32_t i = 0; i < r->n; i++)
		print_message("%s %s %s@%" PRIu64 ": %s\n",
			fsck_severity_name(r->findings[i].severity),
			fsck_code_name(r->findings[i].code), r->findings[i].object,
			r->findings[i].offset_bytes, r->findings[i].what);
}

/* Exactly one finding that is not a note: this. */
const struct fsck_finding *fx_only(struct fx *v, enum fsck_severity s, int code, const char *name)
{
	const struct fsck_finding *found = NULL;

	for (uint32_t i = 0; i < v->r.n; i++)
		if (v->r.findings[i].severity != FSCK_NOTE)
			found = &v->r.findings[i];
	if (v->r.errors + v->r.warnings != 1 || !found || found->severity != s ||
		(code >= 0 && found->code != (enum fsck_code)code) || strcmp(found->object, name)) {
		dump(&v->r);
		fail_msg("wanted exactly: %s %s %s", fsck_severity_name(s),
			code >= 0 ? fsck_code_name((enum fsck_code)code) : "any", name);
	}
	return found;
}

void fx_none(struct fx *v)
{
	if (v->r.n) {
		dump(&v->r);
		fail_msg("%u findings", v->r.n);
	}
	assert_false(fsck_has_problems(&v->r));
}

uint32_t fx_count(const struct fx *v, enum fsck_code c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->r.n; i++)
		n += v->r.findings[i].code == c;
	return n;
}
