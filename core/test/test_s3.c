/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_s3.c - the S3 store against a service that misbehaves on demand (s3_server.h).
 *
 * That all of what a store promises holds on a real service is for ci/tests/s3.sh.
 */
#include "lsvd.h"
#include "store/store.h"
#include "sys/loop_sim.h"
#include "sys/loop_uring.h"
#include "test/s3_server.h"
#include "test/store_util.h"
#include "test/test.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define SECRET "the/Secret+Key0123456789"

struct fix {
	struct s3_server *srv;
	struct loop *l;
	struct store *s;
	struct lsvd_config *cfg;
};

static void environment(int port)
{
	char url[64];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
	setenv("AWS_ENDPOINT_URL", url, 1);
	setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
	unsetenv("AWS_SESSION_TOKEN");
	unsetenv("AWS_PROFILE");
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
	unsetenv("AWS_ENDPOINT_URL_S3");
	setenv("no_proxy", "127.0.0.1", 1);
}

static int open_with(struct fix *f, const char *url, struct store **s)
{
	struct config c;

	util_err.msg[0] = 0;
	assert_int_equal(config_resolve(f->cfg, NULL, &c, &util_err), 0);
	return store_open(f->l, url, &c, 0, s, &util_err);
}

static struct store *another(struct fix *f)
{
	struct store *s = NULL;
	int rc = open_with(f, "s3:bkt/some/where", &s);

	if (rc)
		fail_msg("%s", err_text(&util_err, rc));
	return s;
}

static struct fix set_up(void)
{
	struct fix f = {.srv = s3_server_new(), .cfg = lsvd_config_defaults()};

	environment(s3_server_port(f.srv));
	assert_int_equal(loop_uring_new(64, &f.l, &util_err), 0);
	assert_int_equal(lsvd_config_set(f.cfg, "s3.timeout_ms", "1000", NULL), 0);
	assert_int_equal(lsvd_config_set(f.cfg, "s3.tries", "4", NULL), 0);
	assert_int_equal(lsvd_config_set(f.cfg, "store.retry_ms", "1", NULL), 0);
	f.s = another(&f);
	return f;
}

static void tear_down(struct fix *f)
{
	store_close(f->s);
	loop_free(f->l);
	assert_false(s3_server_heard(f->srv, SECRET));
	s3_server_free(f->srv);
	lsvd_config_free(f->cfg);
}

static void fault(struct fix *f, enum s3_fault_kind kind, const char *method, const char *part,
	int status, const char *code)
{
	s3_server_fault(f->srv, (struct s3_server_fault){.kind = kind,
					.method = method,
					.part = part,
					.times = 1,
					.status = status,
					.code = code});
}

static void fault_always(
	struct fix *f, const char *method, int status, const char *code, const char *region)
{
	s3_server_fault(f->srv, (struct s3_server_fault){.kind = FAULT_STATUS,
					.method = method,
					.part = "/",
					.times = 1000000,
					.status = status,
					.code = code,
					.region = region});
}

/* ---- objects ---- */

TEST(s3_objects_and_ranges)
{
	struct fix f = set_up();
	char *want = util_bytes(1, 3 << 20), *got = util_bytes(2, 3 << 20);

	assert_int_equal(util_put(f.s, "a/big", want, 3 << 20), 0);
	assert_int_equal(util_put(f.s, "a/empty", "", 0), 0);
	assert_int_equal(util_get(f.s, "a/big", 0, got, 3 << 20), 3 << 20);
	assert_memory_equal(want, got, 3 << 20);
	assert_int_equal(util_get(f.s, "a/big", (3 << 20) - 10, got, 4096), 10);
	assert_memory_equal(want + (3 << 20) - 10, got, 10);
	assert_int_equal(util_size, 3 << 20);
	assert_int_equal(util_get(f.s, "a/big", 3 << 20, got, 4096), 0);
	assert_int_equal(util_size, 3 << 20);
	assert_int_equal(util_get(f.s, "a/big", 5, got, 0), 0);
	assert_int_equal(util_size, 3 << 20);
	assert_int_equal(util_get(f.s, "a/empty", 0, got, 4096), 0);
	assert_int_equal(util_size, 0);
	assert_int_equal(util_get(f.s, "a/none", 0, got, 4096), -ENOENT);
	assert_int_equal(util_put(f.s, "a/big", "x", 1), -EEXIST);
	assert_string_equal(util_list(f.s, "a/"), "a/big:3145728 a/empty:0 ");
	assert_int_equal(util_delete(f.s, "a/none"), 0);
	assert_string_equal(f.s->url, "s3:bkt/some/where");
	assert_true(s3_server_object(f.srv, "some/where/a/big", got, 10) == 3 << 20);
	free(want);
	free(got);
	tear_down(&f);
}

/* Each fault once, before each of PUT and GET: the second try does it. */
TEST(s3_what_passes_is_tried_again)
{
	static const struct {
		enum s3_fault_kind kind;
		int status;
		const char *code;
	} faults[] = {{FAULT_STATUS, 500, "InternalError"}, {FAULT_STATUS, 503, "SlowDown"},
		{FAULT_STATUS, 429, "TooManyRequests"},
		{FAULT_STATUS, 409, "ConditionalRequestConflict"}, {FAULT_STATUS, 502, "x"},
		{FAULT_RESET, 0, NULL}, {FAULT_HALF, 0, NULL}, {FAULT_DAMAGE, 0, NULL},
		{FAULT_SHIFTED, 0, NULL}, {FAULT_SHORT, 0, NULL}, {FAULT_WHOLE, 0, NULL}};
	struct fix f = set_up();
	char *want = util_bytes(1, 70000), *got = util_bytes(2, 70000), name[16];

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		snprintf(name, sizeof(name), "a/%zu", i);
		fault(&f, faults[i].kind, "PUT", name, faults[i].status, faults[i].code);
		fault(&f, faults[i].kind, "GET", name, faults[i].status, faults[i].code);
		assert_int_equal(util_put(f.s, name, want, 70000), 0);
		assert_int_equal(util_get(f.s, name, 1000, got, 50000), 50000);
		assert_memory_equal(want + 1000, got, 50000);
		assert_int_equal(util_size, 70000);
		fault(&f, faults[i].kind, "DELETE", name, faults[i].status, faults[i].code);
		assert_int_equal(util_delete(f.s, name), 0);
		s3_server_no_faults(f.srv);
	}
	assert_string_equal(util_list(f.s, ""), "");
	free(want);
	free(got);
	tear_down(&f);
}

TEST(s3_tries_end)
{
	struct fix f = set_up();
	char got[8];

	fault_always(&f, "PUT", 500, "InternalError", NULL);
	fault_always(&f, "GET", 503, "SlowDown", NULL);
	assert_int_equal(util_put(f.s, "a/x", "x", 1), -EIO);
	assert_non_null(strstr(util_err.msg, "put 'a/x'"));
	assert_int_equal(s3_server_count(f.srv, "PUT", "a/x"), 4);
	assert_int_equal(util_get(f.s, "a/x", 0, got, 8), -EAGAIN);
	assert_int_equal(s3_server_count(f.srv, "GET", "a/x"), 4);
	tear_down(&f);
}

/* A PUT whose answer was lost: ours when the version says so, and only then. */
TEST(s3_an_unknown_put_is_looked_up)
{
	static const enum s3_fault_kind kinds[] = {FAULT_APPLY_RESET, FAULT_APPLY_STATUS};
	struct fix f = set_up();
	char name[16], got[8];

	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		fault(&f, kinds[i], "PUT", name, 500, "InternalError");
		assert_int_equal(util_put(f.s, name, "mine", 4), 0);
		assert_int_equal(util_get(f.s, name, 0, got, 8), 4);
		assert_int_equal(util_put(f.s, name, "mine", 4), -EEXIST);
	}
	s3_server_put(f.srv, "some/where/a/x", "mine", 4);
	fault(&f, FAULT_RESET, "PUT", "a/x", 0, NULL);
	assert_int_equal(util_put(f.s, "a/x", "mine", 4), -EEXIST);
	tear_down(&f);
}

/* ---- lists and deletes ---- */

TEST(s3_lists_go_on)
{
	struct fix f = set_up();
	char want[1000] = "", key[64];
	size_t at = 0;

	for (int i = 0; i < 25; i++) {
		snprintf(key, sizeof(key), "some/where/a/%02d", i);
		s3_server_put(f.srv, key, "abc", (size_t)(i % 4));
		at += (size_t)snprintf(want + at, sizeof(want) - at, "a/%02d:%d ", i, i % 4);
	}
	s3_server_put(f.srv, "some/where/a/10/deeper", "", 0); /* none of ours */
	s3_server_put(f.srv, "some/where/.lock/a", "", 0);
	s3_server_put(f.srv, "some/where/zz", "", 0);
	s3_server_put(f.srv, "some/wherever/a/1", "", 0);
	for (unsigned page = 1; page <= 30; page += 4) {
		s3_server_page(f.srv, page);
		assert_string_equal(util_list(f.s, "a/"), want);
		assert_string_equal(util_list(f.s, ""), want);
	}
	fault(&f, FAULT_GARBAGE, "GET", "list-type", 0, NULL);
	fault(&f, FAULT_HALF, "GET", "list-type", 0, NULL);
	assert_string_equal(util_list(f.s, "a/"), want);
	for (int i = 0; i < 4; i++)
		fault(&f, FAULT_GARBAGE, "GET", "list-type", 0, NULL);
	assert_null(util_list(f.s, "a/"));
	assert_non_null(strstr(util_err.msg, "not a list"));
	tear_down(&f);
}

enum { MANY = 60 };

struct many {
	struct store_req r;
	char name[16];
	int64_t status;
	unsigned *left;
};

static void many_done(struct store_req *r, int64_t status)
{
	struct many *m = (struct many *)r;

	m->status = status;
	--*m->left;
}

static void delete_all(struct fix *f, const char *word)
{
	struct many m[MANY] = {0};
	unsigned left = MANY;
	char key[64];

	for (int i = 0; i < MANY; i++) {
		snprintf(m[i].name, sizeof(m[i].name), "a/%s%d", i % 20 ? word : "bad", i);
		snprintf(key, sizeof(key), "some/where/%s", m[i].name);
		s3_server_put(f->srv, key, "x", 1);
		m[i].left = &left;
		m[i].r = (struct store_req){
			.op = STORE_DELETE, .name = m[i].name, .done = many_done};
		store_submit(f->s, &m[i].r);
	}
	while (left)
		loop_poll(f->l, LOOP_FOREVER);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(m[i].status, 0);
	assert_string_equal(util_list(f->s, ""), "");
}

TEST(s3_deletes_are_gathered)
{
	struct fix f = set_up();

	delete_all(&f, "one");
	assert_int_equal(s3_server_count(f.srv, "POST", "?delete="), 1);
	assert_int_equal(s3_server_count(f.srv, "DELETE", NULL), 0);
	fault(&f, FAULT_STATUS, "POST", "delete", 503, "SlowDown");
	delete_all(&f, "two");
	assert_int_equal(s3_server_count(f.srv, "POST", "?delete="), 3);
	fault(&f, FAULT_APPLY_STATUS, "POST", "delete", 200, NULL); /* three keys fail */
	delete_all(&f, "three");
	assert_int_equal(s3_server_count(f.srv, "DELETE", "bad"), 3);
	fault(&f, FAULT_STATUS, "POST", "delete", 501, "NotImplemented");
	delete_all(&f, "four");
	assert_int_equal(s3_server_count(f.srv, "DELETE", "four"), MANY - 3);
	tear_down(&f);
}

/* ---- swaps ---- */

static void swap_in_order(struct fix *f, const char *name)
{
	char first[STORE_TAG_MAX], second[STORE_TAG_MAX], got[16];

	assert_int_equal(util_swap(f->s, name, "nonsense", "x", 1), -ESTALE);
	assert_int_equal(util_swap(f->s, name, "", "one", 3), 0);
	memcpy(first, util_tag, sizeof(first));
	assert_int_equal(util_swap(f->s, name, "", "two", 3), -EEXIST);
	assert_int_equal(util_get(f->s, name, 0, got, 16), 3);
	assert_string_equal(util_tag, first);
	assert_int_equal(util_swap(f->s, name, first, "two", 3), 0);
	memcpy(second, util_tag, sizeof(second));
	assert_int_equal(util_swap(f->s, name, first, "three", 5), -ESTALE);
	assert_int_equal(
		util_swap(f->s, name, second, "one", 3), 0); /* the first's bytes and ETag */
	assert_int_equal(util_swap(f->s, name, first, "x", 1), -ESTALE);
	assert_int_equal(util_get(f->s, name, 0, got, 16), 3);
	assert_memory_equal(got, "one", 3);
}

/* The server refuses every PUT without a condition. */
TEST(s3_swaps_with_both_quotings)
{
	struct fix f = set_up();

	swap_in_order(&f, "a/quoted");
	s3_server_etags(f.srv, ETAGS_BARE);
	swap_in_order(&f, "a/bare");
	swap_in_order(&f, "a/bare2");
	s3_server_etags(f.srv, ETAGS_QUOTED);
	swap_in_order(&f, "a/again");
	tear_down(&f);
}

TEST(s3_an_unknown_swap_is_looked_up)
{
	static const enum s3_fault_kind kinds[] = {
		FAULT_APPLY_RESET, FAULT_APPLY_STATUS, FAULT_RESET, FAULT_STATUS};
	struct fix f = set_up();
	char name[16], tag[STORE_TAG_MAX], got[8];

	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		fault(&f, kinds[i], "PUT", name, 500, "InternalError");
		assert_int_equal(util_swap(f.s, name, "", "one", 3), 0);
		memcpy(tag, util_tag, sizeof(tag));
		fault(&f, kinds[i], "PUT", name, 500, "InternalError");
		fault(&f, FAULT_STATUS, "HEAD", name, 503, "SlowDown");
		assert_int_equal(util_swap(f.s, name, tag, "two", 3), 0);
		memcpy(tag, util_tag, sizeof(tag));
		assert_int_equal(util_get(f.s, name, 0, got, 8), 3);
		assert_string_equal(util_tag, tag);
	}
	fault(&f, FAULT_RESET, "PUT", "a/0", 0, NULL);
	s3_server_put(f.srv, "some/where/a/0", "theirs", 6);
	assert_int_equal(util_swap(f.s, "a/0", tag, "three", 5), -ESTALE);
	tear_down(&f);
}

/* ---- a service that does what it is told and says nothing ---- */

struct silent {
	struct store_req r;
	struct iovec iov;
	int64_t status;
	bool over;
};

static void silent_done(struct store_req *r, int64_t status)
{
	struct silent *q = (struct silent *)r;

	q->status = status;
	q->over = true;
}

static void ask(struct fix *f, struct silent *q, enum store_op op, const char *name, void *bytes,
	size_t len, const char *tag)
{
	fault(f, FAULT_APPLY_STALL,
		op == STORE_GET	     ? "GET"
		: op == STORE_DELETE ? "DELETE"
				     : "PUT",
		name, 0, NULL);
	*q = (struct silent){.iov = {bytes, len}};
	q->r = (struct store_req){.op = op,
		.name = name,
		.iov = &q->iov,
		.iovcnt = len ? 1 : 0,
		.len_bytes = len,
		.done = silent_done};
	snprintf(q->r.tag, sizeof(q->r.tag), "%s", tag);
	store_submit(f->s, &q->r);
}

/* Each waits for the service for the whole timeout: so all at once. */
TEST(s3_a_silent_service_is_asked_again)
{
	struct fix f = set_up();
	char *want = util_bytes(1, 70000), *got = util_bytes(2, 70000), tag[STORE_TAG_MAX];
	struct silent q[5];

	assert_int_equal(util_put(f.s, "a/there", want, 70000), 0);
	assert_int_equal(util_put(f.s, "a/gone", want, 70000), 0);
	assert_int_equal(util_swap(f.s, "a/old", "", "one", 3), 0);
	memcpy(tag, util_tag, sizeof(tag));
	fault(&f, FAULT_STATUS, "HEAD", "a/old", 503, "SlowDown");
	ask(&f, &q[0], STORE_PUT, "a/put", want, 70000, "");
	ask(&f, &q[1], STORE_GET, "a/there", got, 70000, "");
	ask(&f, &q[2], STORE_DELETE, "a/gone", NULL, 0, "");
	ask(&f, &q[3], STORE_SWAP, "a/new", "one", 3, "");
	ask(&f, &q[4], STORE_SWAP, "a/old", "two", 3, tag);
	for (int i = 0; i < 5; i++) {
		while (!q[i].over)
			loop_poll(f.l, LOOP_FOREVER);
		assert_int_equal(q[i].status, i == 1 ? 70000 : 0);
	}
	assert_memory_equal(want, got, 70000);
	assert_string_equal(util_list(f.s, ""), "a/new:3 a/old:3 a/put:70000 a/there:70000 ");
	assert_int_equal(util_get(f.s, "a/old", 0, got, 8), 3);
	assert_memory_equal(got, "two", 3);
	assert_string_equal(util_tag, q[4].r.tag);
	assert_int_equal(util_put(f.s, "a/put", want, 70000), -EEXIST);
	free(want);
	free(got);
	tear_down(&f);
}

/* ---- names ---- */

static void splits(const char *url, const char *store, const char *image)
{
	char s[100], i[65];

	assert_int_equal(
		store_split_url(url, s, sizeof(s), i, sizeof(i), &util_err), image ? 0 : -EINVAL);
	if (image) {
		assert_string_equal(s, store);
		assert_string_equal(i, image);
	}
}

TEST(s3_image_urls_split)
{
	splits("s3:bkt/vm", "s3:bkt", "vm");
	splits("s3:bkt/a/b/vm", "s3:bkt/a/b", "vm");
	splits("model:s3:s3:bkt/a/vm", "model:s3:s3:bkt/a", "vm");
	splits("s3:bkt", NULL, NULL);
	splits("s3:/vm", NULL, NULL);
	splits("s3:bkt/", NULL, NULL);
}

TEST(s3_needs_real_time)
{
	struct fix f = set_up();
	struct loop *sim;
	struct store *s;

	assert_int_equal(loop_sim_new(1, &sim, NULL), 0);
	assert_int_equal(store_open(sim, "s3:bkt/x", NULL, 0, &s, &util_err), -EINVAL);
	loop_free(sim);
	tear_down(&f);
}

/* ---- messages ---- */

static void refused(struct fix *f, const char *url, int rc, const char *a, const char *b)
{
	struct store *s;
	int got = open_with(f, url, &s);

	assert_null(strstr(util_err.msg, SECRET));
	assert_null(strstr(util_err.msg, "Secret"));
	if (got != rc || !strstr(util_err.msg, a) || !strstr(util_err.msg, b))
		fail_msg("%s: %d, '%s'; want %d, '%s', '%s'", url, got, util_err.msg, rc, a, b);
}

TEST(s3_mistakes_have_messages)
{
	struct fix f = set_up();

	refused(&f, "s3:other/x", -ENOENT, "bucket 'other' does not exist", "create it");
	fault(&f, FAULT_STATUS, "GET", "list-type", 403, "RequestTimeTooSkewed");
	s3_server_clock(f.srv, 86400);
	refused(&f, "s3:bkt/x", -EACCES, "clock", "NTP");
	fault(&f, FAULT_STATUS, "GET", "list-type", 403, "SignatureDoesNotMatch");
	refused(&f, "s3:bkt/x", -EACCES, "secret key does not belong", "AWS_SECRET_ACCESS_KEY");
	fault(&f, FAULT_STATUS, "GET", "list-type", 403, "ExpiredToken");
	refused(&f, "s3:bkt/x", -EACCES, "session token has expired", "");
	fault(&f, FAULT_STATUS, "GET", "list-type", 403, "AccessDenied");
	refused(&f, "s3:bkt/x", -EACCES, "access denied", "");
	fault(&f, FAULT_STATUS, "GET", "list-type", 418, "Teapot");
	refused(&f, "s3:bkt/x", -EIO, "HTTP 418, Teapot", "It is <so>.");
	s3_server_access_key(f.srv, "OTHER");
	refused(&f, "s3:bkt/x", -EACCES, "access key is not known", "AWS_ACCESS_KEY_ID");
	s3_server_access_key(f.srv, "AKID");
	fault_always(&f, "GET", 301, "PermanentRedirect", "eu-west-9");
	refused(&f, "s3:bkt/x", -EACCES, "is in region eu-west-9, not in us-east-1", "AWS_REGION");
	s3_server_no_faults(f.srv);
	fault_always(&f, "GET", 400, "AuthorizationHeaderMalformed", "eu-west-9");
	refused(&f, "s3:bkt/x", -EACCES, "is in region eu-west-9", "s3.region");
	s3_server_no_faults(f.srv);
	tear_down(&f);
}

TEST(s3_wrong_settings_have_messages)
{
	static const char *const urls[] = {"s3:", "s3:x", "s3:/bkt", "s3:bkt/", "s3:bkt//a",
		"s3:bkt/a b", "s3:bkt/.a", "s3:b_-", "s3://bkt/x", "s3:bkt/a?b"};
	struct fix f = set_up();
	struct store *s;

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		assert_int_equal(open_with(&f, urls[i], &s), -EINVAL);
	unsetenv("AWS_SECRET_ACCESS_KEY");
	refused(&f, "s3:bkt/x", -EACCES, "AWS_ACCESS_KEY_ID is set",
		"AWS_SECRET_ACCESS_KEY is not");
	unsetenv("AWS_ACCESS_KEY_ID");
	refused(&f, "s3:bkt/x", -EACCES, "no credentials", "/nonexistent/credentials");
	setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	setenv("AWS_ENDPOINT_URL", "http://user:Secret@127.0.0.1:1", 1);
	refused(&f, "s3:bkt/x", -EINVAL, "is not an endpoint", "");
	setenv("AWS_ENDPOINT_URL", "ftp://127.0.0.1", 1);
	refused(&f, "s3:bkt/x", -EINVAL, "ftp://127.0.0.1", "is not an endpoint");
	setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1", 1);
	refused(&f, "s3:bkt/x", -EIO, "http://127.0.0.1:1 cannot be reached", "");
	setenv("AWS_REGION", "us east", 1);
	refused(&f, "s3:bkt/x", -EINVAL, "is not a region", "us east");
	unsetenv("AWS_REGION");
	tear_down(&f);
}

static void write_credentials(const char *path, const char *key)
{
	FILE *file = fopen(path, "w");

	fprintf(file,
		"# comment\n[default]\naws_access_key_id = NOBODY\naws_secret_access_key=n\n\n[ "
		"work ]\n"
		"region = x\naws_access_key_id=%s\n  aws_secret_access_key = " SECRET
		"\naws_session_token = "
		"tok/en+\n",
		key);
	fclose(file);
}

TEST(s3_credentials_from_the_file)
{
	struct fix f = set_up();
	char path[300];
	struct store *s;

	snprintf(path, sizeof(path), "%s/credentials", test_dir());
	write_credentials(path, "AKID");
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	refused(&f, "s3:bkt/x", -EACCES, "access key is not known", "");
	setenv("AWS_PROFILE", "nowhere", 1);
	refused(&f, "s3:bkt/x", -EACCES, "no such profile", "nowhere");
	setenv("AWS_PROFILE", "work", 1);
	assert_int_equal(open_with(&f, "s3:bkt/x", &s), 0);
	assert_true(s3_server_heard(f.srv, "x-amz-security-token: tok/en+"));
	assert_int_equal(util_put(s, "a/1", "x", 1), 0);
	/* rotated while in use */
	s3_server_access_key(f.srv, "NEWER");
	write_credentials(path, "NEWER");
	assert_int_equal(util_put(s, "a/2", "x", 1), 0);
	s3_server_access_key(f.srv, "NEWEST");
	assert_int_equal(util_put(s, "a/3", "x", 1), -EACCES);
	store_close(s);
	tear_down(&f);
}
