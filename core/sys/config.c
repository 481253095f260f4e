/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * config.c - one table of keys, a list of settings, and the rule which setting wins.
 *
 * A setting is (key, canonical text, layer, origin, image pattern).  Values are checked when they
 * come in, so that resolving can only fail on combinations.  The winner for a key is the setting of
 * the strongest layer that matches; within a layer, the one that came last: later files beat
 * earlier ones, later sections of a file the earlier ones.
 *
 * What can fail: files that are not JSON (file and line are named), keys nobody knows (the nearest
 * one is named), values out of range (key, value and range are named), memory.
 */
#include "sys/config.h"

#include "lsvd.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum type { TEXT, SIZE, NUMBER, BOOL, CHOICE, CHOICE_TEXT };
enum layer { LAYER_FILE, LAYER_IMAGE, LAYER_OPTION };
enum { KEY_MAX = 64, VALUE_MAX = 512, POWER_OF_TWO = 1 };

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)

struct key {
	const char *name;
	enum type type;
	size_t offset;	     /* of the field in struct config */
	uint64_t min, max;   /* TEXT: max is the room for the string and its zero */
	uint64_t multiple;   /* of this; POWER_OF_TWO; 0 any */
	const char *choices; /* "a|b": the values of a CHOICE in the order of its enum */
	const char *def;     /* NULL: computed */
	const char *help;
	bool global; /* belongs to the context: not allowed in an image section */
};

#define AT(field) offsetof(struct config, field)
#define ROOM(field) sizeof(((struct config *)0)->field)

/* clang-format off */
static const struct key keys[] = {
{"pool.path", TEXT, AT(pool_path), 1, ROOM(pool_path), 0, NULL, NULL,
	"local pool: file:PATH (file or block device), mem:SIZE or nbd://HOST/EXPORT", true},
{"pool.mirror", TEXT, AT(pool_mirror), 0, ROOM(pool_mirror), 0, NULL, "",
	"up to three more legs that journals are mirrored to, with blanks between; empty for none", true},
{"pool.acks", CHOICE_TEXT, AT(pool_acks), 0, 0, 0, "all|1|2|3|4", "all",
	"legs that must have a write before it is acknowledged; all: every one in sync", true},
{"pool.leg_timeout_ms", NUMBER, AT(pool_leg_timeout_ms), 10, 600000, 0, NULL, "5000",
	"a leg that lets a request wait longer is dropped, if the others will do", true},
{"pool.degraded", BOOL, AT(pool_degraded), 0, 0, 0, NULL, "false",
	"open although a leg is missing that may have newer writes", true},
{"pool.size", SIZE, AT(pool_size_bytes), 8 * MIB, 64 * TIB, 0, NULL, "1G",
	"size of the pool when it is created", true},
{"pool.segment", SIZE, AT(pool_segment_bytes), 256 * KIB, GIB, POWER_OF_TWO, NULL, "32M",
	"unit of allocation in the pool, fixed when it is created", true},
{"journal.percent", NUMBER, AT(journal_percent), 1, 95, 0, NULL, "60",
	"percent of the pool that dirty journals may fill", false},
{"journal.record", SIZE, AT(journal_record_bytes), 4 * KIB, MIB, 4 * KIB, NULL, "1M",
	"largest journal record: the limit of group commit", false},
{"journal.depth", NUMBER, AT(journal_depth), 1, 16, 0, NULL, "2",
	"journal records in flight", false},
{"loop.spin_us", NUMBER, AT(loop_spin_us), 0, 10000, 0, NULL, "250",
	"microseconds to look for a completion before sleeping, at most; 0 off", true},
{"journal.ram", SIZE, AT(journal_ram_bytes), 4 * MIB, 64 * GIB, 0, NULL, "256M",
	"log kept in memory, per image", false},
{"journal.burst_percent", NUMBER, AT(journal_burst_percent), 0, 80, 0, NULL, "12",
	"percent of memory for what all images have dirty beyond journal.ram; 0 none", false},
{"durability", CHOICE, AT(durability), 0, 0, 0, "journal|store", "journal",
	"what a flush waits for: the journal, or objects in the store", false},
{"object.size", SIZE, AT(object_bytes), 64 * KIB, 64 * MIB, 64 * KIB, NULL, "8M",
	"size of a data object", false},
{"destage.puts", NUMBER, AT(destage_puts), 0, 64, 0, NULL, "0",
	"PUTs in flight; 0 chooses by kind of store", false},
{"destage.piece", SIZE, AT(destage_piece_bytes), 64 * KIB, 8 * MIB, 4 * KIB, NULL, "256K",
	"piece in which an object is written to a file store", false},
{"destage.age_ms", NUMBER, AT(destage_age_ms), 0, 86400000, 0, NULL, "5000",
	"dirty data is put after this many milliseconds at the latest; 0 never for its age", false},
{"checkpoint.interval", SIZE, AT(checkpoint_bytes), 64 * KIB, 64 * TIB, 0, NULL, "512M",
	"bytes of new objects between two checkpoints", false},
{"gc.enabled", BOOL, AT(gc_enabled), 0, 0, 0, NULL, "true",
	"collect garbage in the store", false},
{"gc.policy", CHOICE_TEXT, AT(gc_policy), 0, 0, 0, "greedy|cost-benefit|sepbit", "greedy",
	"how objects to collect are chosen", false},
{"gc.start", NUMBER, AT(gc_start_percent), 1, 99, 0, NULL, "70",
	"collect when less than this percentage of the stored bytes is live", false},
{"gc.stop", NUMBER, AT(gc_stop_percent), 1, 99, 0, NULL, "70",
	"stop collecting when this percentage is live", false},
{"gc.plug", SIZE, AT(gc_plug_bytes), 0, MIB, 512, NULL, "8K",
	"holes up to this size are filled when data is moved; 0 none", false},
{"cache.enabled", BOOL, AT(cache_enabled), 0, 0, 0, NULL, "true",
	"keep data read from the store in the pool", false},
{"cache.chunk", SIZE, AT(cache_chunk_bytes), 4 * KIB, 4 * MIB, POWER_OF_TWO, NULL, "64K",
	"what a read miss fetches from the store", false},
{"readahead.max", SIZE, AT(readahead_bytes), 0, 64 * MIB, 4 * KIB, NULL, "1M",
	"largest window of sequential readahead; 0 off", false},
{"prefetch.enabled", BOOL, AT(prefetch_enabled), 0, 0, 0, NULL, "true",
	"follow the image's boot profile", false},
{"prefetch.ahead", SIZE, AT(prefetch_ahead_bytes), 64 * KIB, 64 * GIB, 4 * KIB, NULL, "64M",
	"prefetched data not yet read, at most", false},
{"prefetch.depth", NUMBER, AT(prefetch_depth), 1, 64, 0, NULL, "4",
	"GETs that prefetching keeps in flight", false},
{"store.retry_ms", NUMBER, AT(store_retry_ms), 1, 60000, 0, NULL, "100",
	"first back-off after a store error, in milliseconds", false},
{"writer.check_ms", NUMBER, AT(writer_check_ms), 0, 3600000, 0, NULL, "5000",
	"how often a writer looks whether somebody else took the image, in milliseconds; 0 never", false},
{"rados.conf", TEXT, AT(rados_conf), 0, ROOM(rados_conf), 0, NULL, "",
	"configuration file of the Ceph cluster; empty for where Ceph looks", false},
{"rados.user", TEXT, AT(rados_user), 0, ROOM(rados_user), 0, NULL, "",
	"Ceph user, with or without \"client.\"; empty for client.admin", false},
{"rados.data_pool", TEXT, AT(rados_data_pool), 0, ROOM(rados_data_pool), 0, NULL, "",
	"pool for the data of new images, erasure-coded for example; empty for the URL's pool", false},
{"rados.timeout", NUMBER, AT(rados_timeout), 5, 3600, 0, NULL, "30",
	"seconds after which a request that the Ceph cluster does not answer has failed", false},
{"rados.connect_timeout", NUMBER, AT(rados_connect_timeout), 1, 600, 0, NULL, "10",
	"seconds that connecting to the Ceph cluster may take", false},
{"rados.blocklist", BOOL, AT(rados_blocklist), 0, 0, 0, NULL, "false",
	"have the Ceph cluster shut out the process an image is taken from", false},
{"s3.endpoint", TEXT, AT(s3_endpoint), 0, ROOM(s3_endpoint), 0, NULL, "",
	"URL of the S3 service; empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or Amazon's", false},
{"s3.region", TEXT, AT(s3_region), 0, ROOM(s3_region), 0, NULL, "",
	"region of the bucket; empty: AWS_REGION, AWS_DEFAULT_REGION, or us-east-1", false},
{"s3.addressing", CHOICE_TEXT, AT(s3_addressing), 0, 0, 0, "auto|path|host", "auto",
	"bucket in the path or in the host's name; auto: the name at Amazon's, else the path", false},
{"s3.ca_file", TEXT, AT(s3_ca_file), 0, ROOM(s3_ca_file), 0, NULL, "",
	"certificates (PEM) to trust instead of the system's; empty: AWS_CA_BUNDLE", false},
{"s3.verify", BOOL, AT(s3_verify), 0, 0, 0, NULL, "true",
	"check the certificate of an https endpoint", false},
{"s3.timeout_ms", NUMBER, AT(s3_timeout_ms), 1000, 600000, 0, NULL, "15000",
	"an S3 request that makes no progress for so long has failed", false},
{"s3.tries", NUMBER, AT(s3_tries), 1, 20, 0, NULL, "6",
	"how often an S3 request is tried before its failure is reported", false},
{"s3.connections", NUMBER, AT(s3_connections), 1, 256, 0, NULL, "32",
	"connections to S3 in this process, at most", false},
{"s3.lease_ms", NUMBER, AT(s3_lease_ms), 1000, 3600000, 0, NULL, "30000",
	"a writer of an S3 image that says nothing for so long counts as dead", false},
{"trace.path", TEXT, AT(trace_path), 0, ROOM(trace_path), 0, NULL, "",
	"record every image opened for I/O to this file; %n is the image's name", false},
};
/* clang-format on */

enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

struct setting {
	const struct key *key;
	enum layer layer;
	char *text, *origin, *pattern; /* pattern: LAYER_IMAGE only */
	struct setting *next;
};

struct lsvd_config {
	struct setting *first, **last; /* in the order they came */
	char got_text[VALUE_MAX];      /* what lsvd_config_get last gave out */
};

static int tell(char *why, const struct err *e, int rc)
{
	if (rc < 0 && why)
		snprintf(why, LSVD_ERR_MAX, "%s", err_text(e, rc));
	return rc;
}

/* ---- values: text in, checked, canonical text out ---- */

static const char *home_dir(void)
{
	const char *h = getenv("HOME");
	struct passwd *pw;

	if (h && *h)
		return h;
	pw = getpwuid(getuid());
	return pw && pw->pw_dir ? pw->pw_dir : "/";
}

/* "$XDG/tail", or "~/fallback/tail". */
static void xdg_path(char *out, size_t len, const char *xdg, const char *fallback, const char *tail)
{
	const char *base = getenv(xdg);

	if (base && *base)
		snprintf(out, len, "%s/%s", base, tail);
	else
		snprintf(out, len, "%s/%s/%s", home_dir(), fallback, tail);
}

static void default_text(const struct key *k, char out[VALUE_MAX])
{
	char path[VALUE_MAX - 8];

	if (k->def) {
		snprintf(out, VALUE_MAX, "%s", k->def);
	} else if (geteuid() == 0) {
		snprintf(out, VALUE_MAX, "file:/var/lib/lsvd/pool");
	} else {
		xdg_path(path, sizeof(path), "XDG_STATE_HOME", ".local/state", "lsvd/pool");
		snprintf(out, VALUE_MAX, "file:%s", path);
	}
}

/* The largest unit that divides evenly: "64K", "1G", "513". */
static void size_text(uint64_t v, char out[32])
{
	static const char units[] = " KMGT";
	unsigned u = 0;

	while (v && v % 1024 == 0 && units[u + 1]) {
		v /= 1024;
		u++;
	}
	snprintf(out, 32, u ? "%llu%c" : "%llu", (unsigned long long)v, units[u]);
}

static int parse_size(const char *s, uint64_t *out)
{
	static const char units[] = "KMGTPE";
	const char *u;
	uint64_t v;
	char *end;

	if (!isdigit((unsigned char)s[0]))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno)
		return -EINVAL;
	u = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (u) {
		unsigned shift = 10 * (unsigned)(u - units + 1);

		if (v > UINT64_MAX >> shift)
			return -EINVAL;
		v <<= shift;
		end++;
		if (*end == 'i')
			end++;
	}
	if (*end == 'B')
		end++;
	*out = v;
	return *end ? -EINVAL : 0;
}

static int parse_number(const char *s, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)s[0]))
		return -EINVAL;
	errno = 0;
	*out = strtoull(s, &end, 10);
	return *end || errno ? -EINVAL : 0;
}

static int parse_bool(const char *s, uint64_t *out)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcasecmp(s, words[i])) {
			*out = i & 1;
			return 0;
		}
	return -EINVAL;
}

static int parse_choice(const char *choices, const char *s, uint64_t *out)
{
	size_t len = strlen(s);

	for (*out = 0;; (*out)++) {
		size_t n = strcspn(choices, "|");

		if (n == len && !strncmp(choices, s, n))
			return 0;
		if (!choices[n])
			return -EINVAL;
		choices += n + 1;
	}
}

/* What a value of this key looks like, for messages. */
static void describe(const struct key *k, char *out, size_t len)
{
	char lo[32], hi[32], mul[32];

	switch (k->type) {
	case TEXT:
		snprintf(out, len, "text of %llu to %llu bytes", (unsigned long long)k->min,
			(unsigned long long)k->max - 1);
		return;
	case BOOL:
		snprintf(out, len, "true or false");
		return;
	case CHOICE:
	case CHOICE_TEXT:
		snprintf(out, len, "%s%s", strchr(k->choices, '|') ? "one of " : "", k->choices);
		return;
	case NUMBER:
		snprintf(out, len, "a number from %llu to %llu", (unsigned long long)k->min,
			(unsigned long long)k->max);
		return;
	case SIZE:
		break;
	}
	size_text(k->min, lo);
	size_text(k->max, hi);
	size_text(k->multiple, mul);
	if (k->multiple == POWER_OF_TWO)
		snprintf(out, len, "a size from %s to %s, a power of two", lo, hi);
	else if (k->multiple)
		snprintf(out, len, "a size from %s to %s, a multiple of %s", lo, hi, mul);
	else
		snprintf(out, len, "a size from %s to %s", lo, hi);
}

/* Text -> number of a key that is not TEXT; -EINVAL when it is not one, or out of range. */
static int parse(const struct key *k, const char *s, uint64_t *v)
{
	int rc = -EINVAL;

	switch (k->type) {
	case TEXT:
		*v = strlen(s) + 1;
		return *v > k->min && *v <= k->max ? 0 : -EINVAL;
	case BOOL:
		return parse_bool(s, v);
	case CHOICE:
	case CHOICE_TEXT:
		return parse_choice(k->choices, s, v);
	case NUMBER:
		rc = parse_number(s, v);
		break;
	case SIZE:
		rc = parse_size(s, v);
		break;
	}
	if (rc < 0 || *v < k->min || *v > k->max)
		return -EINVAL;
	if (k->multiple == POWER_OF_TWO)
		return *v & (*v - 1) ? -EINVAL : 0;
	return k->multiple && *v % k->multiple ? -EINVAL : 0;
}

/* Check and rewrite `s` in the one way this key's values are written. */
static int canonical(const struct key *k, const char *s, char out[VALUE_MAX], struct err *e)
{
	char want[128];
	uint64_t v;

	if (parse(k, s, &v) < 0) {
		describe(k, want, sizeof(want));
		return err_set(e, -EINVAL, "%s = '%.100s': want %s", k->name, s, want);
	}
	if (k->type == SIZE)
		size_text(v, out);
	else if (k->type == NUMBER)
		snprintf(out, VALUE_MAX, "%llu", (unsigned long long)v);
	else if (k->type == BOOL)
		snprintf(out, VALUE_MAX, "%s", v ? "true" : "false");
	else
		snprintf(out, VALUE_MAX, "%s", s);
	return 0;
}

/* ---- keys ---- */

/* Levenshtein distance; names longer than KEY_MAX are cut. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[KEY_MAX + 1];
	size_t la = strnlen(a, KEY_MAX), lb = strnlen(b, KEY_MAX);

	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}

static const struct key *nearest(const char *name)
{
	const struct key *best = &keys[0];
	unsigned least = UINT32_MAX;

	for (unsigned i = 0; i < KEYS; i++) {
		unsigned d = distance(name, keys[i].name);

		if (d < least) {
			least = d;
			best = &keys[i];
		}
	}
	return best;
}

static const struct key *find_key(const char *name)
{
	for (unsigned i = 0; i < KEYS; i++)
		if (!strcmp(keys[i].name, name))
			return &keys[i];
	return NULL;
}

static int unknown(const char *name, struct err *e)
{
	return err_set(
		e, -EINVAL, "unknown key '%.80s'; did you mean '%s'?", name, nearest(name)->name);
}

const char *lsvd_config_key(size_t i, const char **help)
{
	if (i >= KEYS)
		return NULL;
	if (help)
		*help = keys[i].help;
	return keys[i].name;
}

/* ---- settings ---- */

static void setting_free(struct setting *s)
{
	free(s->text);
	free(s->origin);
	free(s->pattern);
	free(s);
}

static int add(struct lsvd_config *c, const struct key *k, enum layer layer, const char *text,
	const char *origin, const char *pattern)
{
	struct setting *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->key = k;
	s->layer = layer;
	s->text = strdup(text);
	s->origin = strdup(origin);
	s->pattern = pattern ? strdup(pattern) : NULL;
	if (!s->text || !s->origin || (pattern && !s->pattern)) {
		setting_free(s);
		return -ENOMEM;
	}
	*c->last = s;
	c->last = &s->next;
	return 0;
}

static const struct setting *winner(
	const struct lsvd_config *c, const struct key *k, const char *image)
{
	const struct setting *best = NULL;

	for (const struct setting *s = c->first; s; s = s->next) {
		if (s->key != k || (best && s->layer < best->layer))
			continue;
		if (s->pattern && (!image || fnmatch(s->pattern, image, 0)))
			continue;
		best = s;
	}
	return best;
}

/* ---- files ---- */

struct source {
	struct lsvd_config *cfg;
	const char *file, *pattern; /* pattern: inside this image section */
};

static int json_text(const struct key *k, json_t *v, char *out, struct err *e)
{
	char want[128];

	if (json_is_string(v))
		snprintf(out, VALUE_MAX, "%s", json_string_value(v));
	else if (json_is_integer(v) && k->type != TEXT)
		snprintf(out, VALUE_MAX, "%lld", (long long)json_integer_value(v));
	else if (json_is_boolean(v) && k->type == BOOL)
		snprintf(out, VALUE_MAX, "%s", json_is_true(v) ? "true" : "false");
	else {
		describe(k, want, sizeof(want));
		return err_set(e, -EINVAL, "%s: wrong type of value: want %s", k->name, want);
	}
	return 0;
}

static int take_value(const struct source *src, const char *name, json_t *v, struct err *e)
{
	const struct key *k = find_key(name);
	char raw[VALUE_MAX], text[VALUE_MAX], origin[VALUE_MAX];
	int rc;

	if (!k)
		return unknown(name, e);
	if (k->global && src->pattern)
		return err_set(
			e, -EINVAL, "%s is one for all images: not in an image section", name);
	rc = json_text(k, v, raw, e);
	if (rc == 0)
		rc = canonical(k, raw, text, e);
	if (rc < 0)
		return rc;
	snprintf(
		origin, sizeof(origin), "%s%s", src->pattern ? "image section in " : "", src->file);
	return add(
		src->cfg, k, src->pattern ? LAYER_IMAGE : LAYER_FILE, text, origin, src->pattern);
}

/* Walk nested objects; `prefix` is the path so far, with its dot.  No key is longer than KEY_MAX,
 * so a path that does not fit is unknown, and the recursion ends. */
static int take_object(const struct source *src, const char *prefix, json_t *obj, struct err *e)
{
	const char *name;
	json_t *v;

	json_object_foreach(obj, name, v)
	{
		char path[2 * KEY_MAX];
		int n = snprintf(path, sizeof(path), "%s%s", prefix, name), rc;

		if (n >= KEY_MAX)
			return unknown(path, e);
		if (json_is_object(v)) {
			snprintf(path + n, sizeof(path) - (size_t)n, ".");
			rc = take_object(src, path, v, e);
		} else {
			rc = take_value(src, path, v, e);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int take_images(const struct source *file, json_t *images, struct err *e)
{
	const char *pattern;
	json_t *section;

	if (!json_is_object(images))
		return err_set(e, -EINVAL, "images: want an object of {\"PATTERN\": {...}}");
	json_object_foreach(images, pattern, section)
	{
		struct source src = {.cfg = file->cfg, .file = file->file, .pattern = pattern};
		int rc = json_is_object(section)
				 ? take_object(&src, "", section, e)
				 : err_set(e, -EINVAL, "want an object of settings");

		if (rc < 0)
			return err_wrap(e, rc, "images '%.100s'", pattern);
	}
	return 0;
}

/* Everything of the file, or nothing: a copy takes it first. */
static int take_file(struct lsvd_config *cfg, const char *path, json_t *root, struct err *e)
{
	struct lsvd_config fresh = {.last = &fresh.first};
	struct source src = {.cfg = &fresh, .file = path};
	json_t *images = json_object_get(root, "images");
	int rc = 0;

	if (!json_is_object(root))
		return err_set(e, -EINVAL, "want a JSON object");
	if (images) {
		rc = take_images(&src, images, e);
		json_object_del(root, "images");
	}
	if (rc == 0)
		rc = take_object(&src, "", root, e);
	if (rc == 0 && fresh.first) {
		*cfg->last = fresh.first;
		cfg->last = fresh.last;
		return 0;
	}
	while (fresh.first) {
		struct setting *s = fresh.first;

		fresh.first = s->next;
		setting_free(s);
	}
	return rc;
}

static int load(struct lsvd_config *cfg, const char *path, struct err *e)
{
	json_error_t je;
	json_t *root;
	FILE *f = fopen(path, "re");
	int rc;

	if (!f)
		return err_set(e, -errno, "config '%s': %s", path, strerror(errno));
	root = json_loadf(f, JSON_REJECT_DUPLICATES, &je);
	fclose(f);
	if (!root)
		return err_set(e, -EINVAL, "config '%s', line %d: %s", path, je.line, je.text);
	rc = take_file(cfg, path, root, e);
	json_decref(root);
	return rc < 0 ? err_wrap(e, rc, "config '%s'", path) : 0;
}

int lsvd_config_load(struct lsvd_config *cfg, const char *path, char *why)
{
	struct err e = {.msg = ""};

	return tell(why, &e, load(cfg, path, &e));
}

/* ---- the public calls ---- */

struct lsvd_config *lsvd_config_defaults(void)
{
	struct lsvd_config *c = calloc(1, sizeof(*c));

	if (c)
		c->last = &c->first;
	return c;
}

static int load_if_there(struct lsvd_config *cfg, const char *path, struct err *e)
{
	return access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES)
		       ? 0
		       : load(cfg, path, e);
}

struct lsvd_config *lsvd_config_new(char *why)
{
	struct lsvd_config *c = lsvd_config_defaults();
	const char *system = getenv("LSVD_SYSTEM_CONFIG");
	struct err e = {.msg = ""};
	char user[4096];
	int rc = -ENOMEM;

	xdg_path(user, sizeof(user), "XDG_CONFIG_HOME", ".config", "lsvd/lsvd.json");
	if (c)
		rc = load_if_there(c, system && *system ? system : "/etc/lsvd.json", &e);
	if (rc == 0)
		rc = load_if_there(c, user, &e);
	if (tell(why, &e, rc) == 0)
		return c;
	lsvd_config_free(c);
	return NULL;
}

void lsvd_config_free(struct lsvd_config *cfg)
{
	if (!cfg)
		return;
	while (cfg->first) {
		struct setting *s = cfg->first;

		cfg->first = s->next;
		setting_free(s);
	}
	free(cfg);
}

int lsvd_config_set(struct lsvd_config *cfg, const char *key, const char *value, char *why)
{
	const struct key *k = find_key(key);
	struct err e = {.msg = ""};
	char text[VALUE_MAX];
	int rc;

	if (!k)
		return tell(why, &e, unknown(key, &e));
	rc = canonical(k, value, text, &e);
	if (rc == 0)
		rc = add(cfg, k, LAYER_OPTION, text, "option", NULL);
	return tell(why, &e, rc);
}

const char *lsvd_config_get(
	struct lsvd_config *cfg, const char *image, const char *key, const char **origin)
{
	const struct key *k = find_key(key);
	const struct setting *s;

	if (!k)
		return NULL;
	s = winner(cfg, k, image);
	if (origin)
		*origin = s ? s->origin : "default";
	if (s)
		return s->text;
	default_text(k, cfg->got_text);
	return cfg->got_text;
}

/* ---- what the core reads ---- */

static void store_field(struct config *out, const struct key *k, const char *text)
{
	char *field = (char *)out + k->offset;
	uint64_t v = 0;

	(void)parse(k, text, &v); /* checked when it came in */
	switch (k->type) {
	case TEXT:
		snprintf(field, k->max, "%s", text);
		break;
	case CHOICE_TEXT:
		snprintf(field, ROOM(gc_policy), "%s", text);
		break;
	case SIZE:
		memcpy(field, &v, sizeof(uint64_t));
		break;
	case NUMBER:
		memcpy(field, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
		break;
	case BOOL:
		memcpy(field, &(bool){v != 0}, sizeof(bool));
		break;
	case CHOICE:
		memcpy(field, &(enum durability){(enum durability)v}, sizeof(enum durability));
		break;
	}
}

static int check_combined(const struct config *c, struct err *e)
{
	if (c->gc_stop_percent < c->gc_start_percent)
		return err_set(e, -EINVAL, "gc.stop = %u is below gc.start = %u",
			c->gc_stop_percent, c->gc_start_percent);
	if (c->journal_ram_bytes < 2 * c->object_bytes)
		return err_set(e, -EINVAL,
			"journal.ram = %llu holds less than two objects of object.size = %llu",
			(unsigned long long)c->journal_ram_bytes,
			(unsigned long long)c->object_bytes);
	if (!strncmp(c->pool_mirror, c->pool_path, sizeof(c->pool_path)) &&
		strncmp(c->pool_path, "mem:", 4))
		return err_set(e, -EINVAL, "pool.mirror is pool.path itself ('%s')", c->pool_path);
	return 0;
}

int config_resolve(struct lsvd_config *cfg, const char *image, struct config *out, struct err *e)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < KEYS; i++)
		store_field(out, &keys[i], lsvd_config_get(cfg, image, keys[i].name, NULL));
	return check_combined(out, e);
}

struct lsvd_config *config_copy(const struct lsvd_config *cfg)
{
	struct lsvd_config *c = lsvd_config_defaults();

	for (const struct setting *s = cfg->first; c && s; s = s->next)
		if (add(c, s->key, s->layer, s->text, s->origin, s->pattern) < 0) {
			lsvd_config_free(c);
			c = NULL;
		}
	return c;
}
