/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/image_env.h"

#include "test/test.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHECK_SECTORS = 1024 };

/* ---- opening ---- */

void ie_set(struct image_env *e, const char *key, const char *value)
{
	IE_OK(e, lsvd_config_set(e->cfg, key, value, e->why));
}

void ie_store(struct image_env *e, const char *store_url)
{
	char url[sizeof(e->store)];

	snprintf(url, sizeof(url), "%s", store_url);
	memcpy(e->store, url, sizeof(url));
	snprintf(e->url, sizeof(e->url), "%s%svm", url, url[strlen(url) - 1] == ':' ? "" : "/");
}

struct image_env *ie_new(const char *name)
{
	struct image_env *e = calloc(1, sizeof(*e));
	char url[256];

	assert_non_null(e);
	snprintf(e->dir, sizeof(e->dir), "%s/%s", test_dir(), name);
	assert_int_equal(mkdir(e->dir, 0777), 0);
	snprintf(e->root, sizeof(e->root), "%s/store", e->dir);
	snprintf(e->pool, sizeof(e->pool), "file:%s/pool", e->dir);
	snprintf(url, sizeof(url), "file:%s", e->root);
	ie_store(e, url);
	e->cfg = lsvd_config_defaults();
	assert_non_null(e->cfg);
	ie_set(e, "pool.path", e->pool);
	ie_set(e, "pool.size", "16M");
	ie_set(e, "pool.segment", "512K");
	ie_set(e, "object.size", "256K");
	ie_set(e, "journal.ram", "4M");
	ie_set(e, "checkpoint.interval", "4M");
	ie_set(e, "store.retry_ms", "2");
	e->size_bytes = 32 << 20;
	e->version = calloc(e->size_bytes / 512, sizeof(*e->version));
	assert_non_null(e->version);
	return e;
}

void ie_ctx(struct image_env *e, enum lsvd_drive drive)
{
	IE_OK(e, lsvd_ctx_open(e->cfg, drive, &e->ctx, e->why));
}

void ie_create(struct image_env *e)
{
	IE_OK(e, lsvd_image_create(e->ctx, e->url, e->size_bytes, e->why));
}

void ie_image(struct image_env *e, unsigned flags)
{
	IE_OK(e, lsvd_image_open(e->ctx, e->url, flags, &e->img, e->why));
}

void ie_open(struct image_env *e, enum lsvd_drive drive)
{
	int rc;

	ie_ctx(e, drive);
	rc = lsvd_image_create(e->ctx, e->url, e->size_bytes, e->why);
	if (rc != -EEXIST)
		IE_OK(e, rc);
	ie_image(e, 0);
}

void ie_close_image(struct image_env *e)
{
	struct lsvd_image *img = e->img;

	e->img = NULL;
	if (img)
		IE_OK(e, lsvd_image_close(img, e->why));
}

void ie_close(struct image_env *e)
{
	ie_close_image(e);
	if (e->ctx)
		lsvd_ctx_close(e->ctx);
	e->ctx = NULL;
}

void ie_free(struct image_env *e)
{
	ie_close(e);
	lsvd_config_free(e->cfg);
	free(e->version);
	free(e);
}

/* ---- what calls say ---- */

void ie_ok(struct image_env *e, int rc, const char *what)
{
	if (rc < 0)
		fail_msg("%s: %s: %s", what, strerror(-rc), e->why);
}

void ie_says(struct image_env *e, int rc, int want, const char *text, const char *what)
{
	if (rc != want)
		fail_msg("%s: %d (%s), not %d: %s", what, rc, strerror(-rc), want, e->why);
	if (!strstr(e->why, text))
		fail_msg("%s: '%s' does not say '%s'", what, e->why, text);
}

/* ---- the model ---- */

static uint64_t word(uint64_t lba, uint32_t version, unsigned i)
{
	return (lba * 64 + i) * 0x9e3779b97f4a7c15ull ^ (uint64_t)version * 0xbf58476d1ce4e5b9ull;
}

void model_fill(void *buf, uint64_t lba, uint64_t sectors, uint32_t version)
{
	for (uint64_t s = 0; s < sectors; s++) {
		uint64_t w[64];

		for (unsigned i = 0; i < 64; i++)
			w[i] = version ? word(lba + s, version, i) : 0;
		if (version)
			w[0] = version;
		memcpy((uint8_t *)buf + s * 512, w, 512);
	}
}

bool model_is(const void *sector, uint64_t lba, uint32_t version)
{
	uint8_t want[512];

	model_fill(want, lba, 1, version);
	return !memcmp(sector, want, 512);
}

uint32_t model_version(const void *sector, uint64_t lba)
{
	uint64_t v;

	memcpy(&v, sector, 8);
	return v < UINT32_MAX && model_is(sector, lba, (uint32_t)v) ? (uint32_t)v : UINT32_MAX;
}

void model_note(struct image_env *e, uint64_t lba, uint64_t sectors, uint32_t version)
{
	for (uint64_t s = 0; s < sectors; s++)
		e->version[lba + s] = version;
}

void model_compare(struct image_env *e, const void *buf, uint64_t lba, uint64_t sectors)
{
	for (uint64_t s = 0; s < sectors; s++) {
		const uint8_t *at = (const uint8_t *)buf + s * 512;

		if (!model_is(at, lba + s, e->version[lba + s]))
			fail_msg("sector %llu holds version %u, not %u",
				(unsigned long long)(lba + s), model_version(at, lba + s),
				e->version[lba + s]);
	}
}

void model_write(struct image_env *e, uint64_t lba, uint64_t sectors)
{
	void *buf = malloc(sectors * 512);

	assert_non_null(buf);
	model_fill(buf, lba, sectors, ++e->last_version);
	IE_OK(e, lsvd_pwrite(e->img, buf, sectors * 512, lba * 512));
	model_note(e, lba, sectors, e->last_version);
	free(buf);
}

void model_check(struct image_env *e, uint64_t lba, uint64_t sectors)
{
	void *buf = malloc(sectors * 512);

	assert_non_null(buf);
	memset(buf, 0xa5, sectors * 512);
	IE_OK(e, lsvd_pread(e->img, buf, sectors * 512, lba * 512));
	model_compare(e, buf, lba, sectors);
	free(buf);
}

void model_check_all(struct image_env *e)
{
	uint64_t end = e->size_bytes / 512;

	for (uint64_t lba = 0; lba < end; lba += CHECK_SECTORS)
		model_check(e, lba, end - lba < CHECK_SECTORS ? end - lba : CHECK_SECTORS);
}

/* ---- other processes, files ---- */

pid_t ie_fork(struct image_env *e, void (*fn)(struct image_env *e, int fd), int *fd)
{
	int p[2];
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(p[0]);
		fn(e, p[1]);
		_exit(99);
	}
	close(p[1]);
	*fd = p[0];
	return pid;
}

int ie_wait(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool ie_until(bool (*fn)(void *arg), void *arg)
{
	struct timespec ts = {.tv_nsec = 2000000};

	for (int i = 0; i < 5000; i++) {
		if (fn(arg))
			return true;
		nanosleep(&ts, NULL);
	}
	return false;
}

unsigned ie_files(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *x;
	unsigned n = 0;

	while (d && (x = readdir(d))) {
		char path[512];

		if (!strcmp(x->d_name, ".") || !strcmp(x->d_name, ".."))
			continue;
		n++;
		snprintf(path, sizeof(path), "%.200s/%.200s", dir, x->d_name);
		if (x->d_type == DT_DIR)
			n += ie_files(path);
	}
	if (d)
		closedir(d);
	return n;
}

const char *ie_object(struct image_env *e, const char *prefix, char path[512])
{
	char dir[256];
	DIR *d;
	struct dirent *x;

	path[0] = 0;
	snprintf(dir, sizeof(dir), "%s/vm", e->root);
	d = opendir(dir);
	assert_non_null(d);
	while ((x = readdir(d)))
		if (x->d_name[0] != '.' && !strncmp(x->d_name, prefix, strlen(prefix)) &&
			(!path[0] || strcmp(x->d_name, strrchr(path, '/') + 1) < 0))
			snprintf(path, 512, "%s/%.200s", dir, x->d_name);
	closedir(d);
	if (!path[0])
		fail_msg("no object '%s*' in %s", prefix, dir);
	return path;
}

struct lsvd_stats ie_stats(struct image_env *e)
{
	struct lsvd_stats st;

	assert_int_equal(lsvd_image_stats(e->img, &st), 0);
	return st;
}

void ie_fault(struct image_env *e, bool full, bool gone)
{
	bool entered = ctx_enter(e->ctx);
	struct fault_rules *r = store_fault_rules(e->img->store);

	assert_non_null(r);
	r->full = full;
	r->gone = gone;
	ctx_leave(e->ctx, entered);
}
