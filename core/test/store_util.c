/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test/store_util.h"

#include "test/test.h"

struct err util_err;
char util_tag[STORE_TAG_MAX];
uint64_t util_size;
const struct config *util_cfg;

struct list_text {
	struct store_req r;
	char *text;
	size_t len, room;
};

static int64_t run(struct store *s, enum store_op op, const char *name, uint64_t off, void *buf,
	size_t len, const char *tag)
{
	struct iovec iov = {buf, len};
	struct store_req r = {.op = op,
		.name = name,
		.iov = &iov,
		.iovcnt = 1,
		.off_bytes = off,
		.len_bytes = len,
		.err = &util_err};
	int64_t status;

	util_err.msg[0] = 0;
	snprintf(r.tag, sizeof(r.tag), "%s", tag);
	status = store_wait(s, &r);
	memcpy(util_tag, r.tag, sizeof(util_tag));
	util_size = r.size_bytes;
	return status;
}

static void *plain(const void *p)
{
	return (void *)(uintptr_t)p;
}

int64_t util_put(struct store *s, const char *name, const void *buf, size_t len)
{
	return run(s, STORE_PUT, name, 0, plain(buf), len, "");
}

int64_t util_get(struct store *s, const char *name, uint64_t off, void *buf, size_t len)
{
	return run(s, STORE_GET, name, off, buf, len, "");
}

int64_t util_delete(struct store *s, const char *name)
{
	return run(s, STORE_DELETE, name, 0, NULL, 0, "");
}

int64_t util_swap(struct store *s, const char *name, const char *tag, const void *buf, size_t len)
{
	return run(s, STORE_SWAP, name, 0, plain(buf), len, tag);
}

int64_t util_lock(struct store *s, const char *image, const char *holder)
{
	return run(s, STORE_LOCK, image, 0, plain(holder), strlen(holder), "");
}

static int64_t lock_so(struct store *s, const char *image, const char *holder, bool steal, bool ask)
{
	struct iovec iov = {plain(holder), strlen(holder)};
	struct store_req r = {.op = STORE_LOCK,
		.name = image,
		.iov = &iov,
		.iovcnt = 1,
		.len_bytes = iov.iov_len,
		.steal = steal,
		.ask = ask,
		.err = &util_err};

	util_err.msg[0] = 0;
	return store_wait(s, &r);
}

int64_t util_steal(struct store *s, const char *image, const char *holder)
{
	return lock_so(s, image, holder, true, false);
}

int64_t util_ask(struct store *s, const char *image)
{
	return lock_so(s, image, "", false, true);
}

int64_t util_unlock(struct store *s, const char *image)
{
	return run(s, STORE_UNLOCK, image, 0, NULL, 0, "");
}

static int add_item(struct store_req *r, const char *name, uint64_t size)
{
	struct list_text *l = (struct list_text *)r;
	int n;

	if (l->room - l->len < 256) {
		l->room += 4096;
		l->text = realloc(l->text, l->room);
		assert_non_null(l->text);
	}
	n = snprintf(
		l->text + l->len, l->room - l->len, "%s:%llu ", name, (unsigned long long)size);
	l->len += (size_t)n;
	return 0;
}

const char *util_list(struct store *s, const char *prefix)
{
	static char *last;
	struct list_text l = {
		.r = {.op = STORE_LIST, .name = prefix, .item = add_item, .err = &util_err}};

	util_err.msg[0] = 0;
	if (store_wait(s, &l.r))
		return NULL;
	free(last);
	last = l.text ? l.text : strdup("");
	return last;
}

void *util_bytes(uint64_t seed, size_t len)
{
	size_t room = (len + 4096) & ~(size_t)4095;
	uint64_t *p = aligned_alloc(4096, room), x = seed * 2654435761u + 1;

	assert_non_null(p);
	for (size_t i = 0; i < room / 8; i++)
		p[i] = test_rand(&x);
	return p;
}

struct store *util_open(struct loop *l, const char *url, unsigned flags)
{
	struct store *s = NULL;
	int rc = store_open(l, url, util_cfg, flags, &s, &util_err);

	if (rc)
		fail_msg("open %s: %s", url, err_text(&util_err, rc));
	return s;
}
