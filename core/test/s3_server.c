/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* s3_server.c - a thread for each connection; everything else is under one mutex. */
#include "test/s3_server.h"

#include "test/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_S3
#include "store/s3_hash.h"

enum { HEAD_MAX = 8192, CONNECTIONS_MAX = 512, LOG_MAX = 4 << 20, PATH_ROOM = 600 };

struct object {
	struct object *next; /* by key */
	char key[512], etag[33], version[40];
	time_t modified;
	size_t len;
	char bytes[];
};

struct pending {
	struct s3_server_fault f;
	struct pending *next;
};

struct s3_server {
	pthread_mutex_t mutex;
	pthread_t acceptor, conn[CONNECTIONS_MAX];
	int fd, fds[CONNECTIONS_MAX], port;
	unsigned conns;
	bool stop, no_metadata;
	struct object *objects;
	struct pending *faults;
	enum s3_etags etags;
	unsigned page;
	char access_key[64];
	int64_t ahead_s;
	char *log; /* "METHOD target\n" ... */
	size_t log_len;
	char *heads;
	size_t heads_len;
};

struct request {
	char head[HEAD_MAX], method[8], target[HEAD_MAX / 2];
	char *body;
	size_t len;
	struct s3_server_fault fault;
	bool has_fault;
};

struct reply {
	int status;
	char headers[1024];
	char *body; /* malloc'd */
	size_t len, claimed;
};

/* ---- text ---- */

/* A header's value in out; false: there is none. */
static bool header(const struct request *q, const char *name, char *out, size_t room)
{
	size_t n = strlen(name);

	out[0] = 0;
	for (const char *p = strchr(q->head, '\n'); p && p[1]; p = strchr(p + 1, '\n'))
		if (!strncasecmp(p + 1, name, n) && p[1 + n] == ':') {
			const char *v = p + 2 + n + strspn(p + 2 + n, " ");

			snprintf(out, room, "%.*s", (int)strcspn(v, "\r\n"), v);
			return true;
		}
	return false;
}

static void hex_of(const uint8_t *d, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", d[i]);
}

static void digest(enum hash_kind kind, const void *bytes, size_t len, char *out)
{
	uint8_t d[HASH_MAX];
	void *h = hash_new(kind);

	hash_add(h, bytes, len);
	hex_of(d, hash_end(h, d), out);
}

static void http_date(time_t t, char out[64])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, 64, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* A parameter of the query, decoded. */
static void parameter(const struct request *q, const char *name, char *out, size_t room)
{
	const char *p = strchr(q->target, '?');
	size_t n = strlen(name), at = 0;

	out[0] = 0;
	for (; p; p = strchr(p + 1, '&'))
		if (!strncmp(p + 1, name, n) && p[1 + n] == '=')
			break;
	for (p = p ? p + 2 + n : ""; *p && *p != '&' && at + 1 < room; p++) {
		unsigned c;

		if (*p == '%' && sscanf(p + 1, "%2x", &c) == 1) {
			out[at++] = (char)c;
			p += 2;
		} else {
			out[at++] = *p;
		}
	}
	out[at] = 0;
}

static void key_of(const struct request *q, char out[PATH_ROOM])
{
	const char *p = strchr(q->target + 1, '/');

	snprintf(out, PATH_ROOM, "%.*s", p ? (int)strcspn(p + 1, "?") : 0, p ? p + 1 : "");
}

/* ---- objects ---- */

static struct object **find(struct s3_server *s, const char *key)
{
	struct object **p = &s->objects;

	while (*p && strcmp((*p)->key, key) < 0)
		p = &(*p)->next;
	return p;
}

static struct object *get(struct s3_server *s, const char *key)
{
	struct object *o = *find(s, key);

	return o && !strcmp(o->key, key) ? o : NULL;
}

static void drop(struct s3_server *s, const char *key)
{
	struct object **p = find(s, key), *o = *p;

	if (o && !strcmp(o->key, key)) {
		*p = o->next;
		free(o);
	}
}

static struct object *put(
	struct s3_server *s, const char *key, const char *version, const void *b, size_t len)
{
	struct object *o = calloc(1, sizeof(*o) + len + 1), **p;

	drop(s, key);
	snprintf(o->key, sizeof(o->key), "%s", key);
	snprintf(o->version, sizeof(o->version), "%s", s->no_metadata ? "" : version);
	o->modified = time(NULL) + s->ahead_s;
	o->len = len;
	if (len)
		memcpy(o->bytes, b, len);
	digest(HASH_MD5, o->bytes, len, o->etag);
	p = find(s, key);
	o->next = *p;
	*p = o;
	return o;
}

/* ---- answers ---- */

static void say(struct reply *a, int status, const char *headers, const char *body, size_t len)
{
	a->status = status;
	snprintf(a->headers, sizeof(a->headers), "%s", headers);
	a->body = malloc(len + 1);
	if (len)
		memcpy(a->body, body, len);
	a->len = a->claimed = len;
}

static void refuse(struct reply *a, int status, const char *code, const char *region)
{
	char body[600], extra[200] = "";

	if (region)
		snprintf(extra, sizeof(extra), "x-amz-bucket-region: %s\r\n", region);
	snprintf(body, sizeof(body),
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>It is "
		"&lt;so"
		"&gt;.</Message>%s%s%s<RequestId>1</RequestId></Error>",
		code, region ? "<Region>" : "", region ? region : "", region ? "</Region>" : "");
	say(a, status, extra, body, strlen(body));
}

static void object_headers(const struct object *o, char out[1024])
{
	char date[64];

	http_date(o->modified, date);
	snprintf(out, 1024, "ETag: \"%s\"\r\nLast-Modified: %s\r\n%s%s%s", o->etag, date,
		o->version[0] ? "x-amz-meta-lsvd-version: " : "", o->version,
		o->version[0] ? "\r\n" : "");
}

static bool condition_holds(struct s3_server *s, const struct request *q, const struct object *o)
{
	char text[128], want[64];

	if (s->etags == ETAGS_IGNORED)
		return true;
	if (header(q, "If-None-Match", text, sizeof(text)))
		return !o;
	if (!header(q, "If-Match", text, sizeof(text)))
		return true;
	snprintf(want, sizeof(want), s->etags == ETAGS_BARE ? "%s" : "\"%s\"", o ? o->etag : "");
	return o && !strcmp(text, want);
}

static void do_put(struct s3_server *s, struct request *q, struct reply *a)
{
	char key[PATH_ROOM], text[128], sum[65], headers[1024];
	struct object *o;

	key_of(q, key);
	digest(HASH_SHA256, q->body, q->len, sum);
	if (!header(q, "x-amz-content-sha256", text, sizeof(text)) || strcmp(text, sum)) {
		refuse(a, 400, "XAmzContentSHA256Mismatch", NULL);
		return;
	}
	if (!header(q, "If-Match", text, sizeof(text)) &&
		!header(q, "If-None-Match", text, sizeof(text))) {
		refuse(a, 400, "UnconditionalPut", NULL); /* this store never sends one */
		return;
	}
	if (!condition_holds(s, q, get(s, key))) {
		refuse(a, 412, "PreconditionFailed", NULL);
		return;
	}
	header(q, "x-amz-meta-lsvd-version", text, sizeof(text));
	o = put(s, key, text, q->body, q->len);
	snprintf(headers, sizeof(headers), "ETag: \"%s\"\r\n", o->etag);
	say(a, 200, headers, "", 0);
}

static void do_get(struct s3_server *s, const struct request *q, struct reply *a)
{
	char key[PATH_ROOM], range[64], headers[1024];
	unsigned long long from = 0, to = 0;
	const struct object *o;
	size_t n;

	key_of(q, key);
	o = get(s, key);
	if (!o) {
		refuse(a, 404, "NoSuchKey", NULL);
		return;
	}
	object_headers(o, headers);
	n = strlen(headers);
	if (!header(q, "Range", range, sizeof(range)) ||
		(q->has_fault && q->fault.kind == FAULT_WHOLE) ||
		sscanf(range, "bytes=%llu-%llu", &from, &to) != 2) {
		say(a, 200, headers, o->bytes, o->len);
		return;
	}
	if (from >= o->len) {
		refuse(a, 416, "InvalidRange", NULL);
		return;
	}
	if (q->has_fault && q->fault.kind == FAULT_SHIFTED && from)
		from--;
	to = to >= o->len ? o->len - 1 : to;
	if (q->has_fault && q->fault.kind == FAULT_SHORT && to > from)
		to--;
	snprintf(headers + n, sizeof(headers) - n, "Content-Range: bytes %llu-%llu/%zu\r\n", from,
		to, o->len);
	say(a, 206, headers, o->bytes + from, (size_t)(to - from + 1));
}

static void do_list(struct s3_server *s, const struct request *q, struct reply *a)
{
	char prefix[300], token[300], most[16], *body = malloc(4 << 20);
	unsigned page, n = 0;
	const char *last = "";
	bool more = false;
	size_t at;

	parameter(q, "prefix", prefix, sizeof(prefix));
	parameter(q, "continuation-token", token, sizeof(token));
	parameter(q, "max-keys", most, sizeof(most));
	page = most[0] ? (unsigned)atoi(most) : s->page;
	at = (size_t)sprintf(body,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
		"xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bkt</Name>");
	for (const struct object *o = s->objects; o; o = o->next) {
		if (strncmp(o->key, prefix, strlen(prefix)) ||
			(token[0] && strcmp(o->key, token + 4) <= 0))
			continue;
		more = n == page;
		if (more)
			break;
		at += (size_t)sprintf(body + at,
			"<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</"
			"LastModified>"
			"<ETag>&quot;%s&quot;</ETag><Size>%zu</Size></Contents>",
			o->key, o->etag, o->len);
		last = o->key;
		n++;
	}
	at += (size_t)sprintf(body + at, "<IsTruncated>%s</IsTruncated>", more ? "true" : "false");
	if (more)
		at += (size_t)sprintf(body + at,
			"<NextContinuationToken>+/=&amp;%s</NextContinuationToken>", last);
	at += (size_t)sprintf(body + at, "</ListBucketResult>");
	if (q->has_fault && q->fault.kind == FAULT_GARBAGE)
		at /= 2;
	say(a, 200, "Content-Type: application/xml\r\n", body, at);
	free(body);
}

static void do_batch(struct s3_server *s, struct request *q, struct reply *a)
{
	char md5[64], *body = malloc(q->len + 65536);
	const char *p = q->body;
	size_t at = (size_t)sprintf(body, "<DeleteResult>");

	if (!header(q, "Content-MD5", md5, sizeof(md5)) || strlen(md5) != 24) {
		refuse(a, 400, "InvalidDigest", NULL);
		free(body);
		return;
	}
	while ((p = strstr(p, "<Key>"))) {
		char key[512];

		p += 5;
		snprintf(key, sizeof(key), "%.*s", (int)strcspn(p, "<"), p);
		if (q->has_fault && q->fault.kind == FAULT_APPLY_STATUS && q->fault.status == 200 &&
			strstr(key, "bad"))
			at += (size_t)sprintf(body + at,
				"<Error><Key>%s</Key><Code>InternalError</Code><Message/></Error>",
				key);
		else
			drop(s, key);
	}
	at += (size_t)sprintf(body + at, "</DeleteResult>");
	say(a, 200, "", body, at);
	free(body);
}

static void apply(struct s3_server *s, struct request *q, struct reply *a)
{
	char key[PATH_ROOM], auth[512];

	key_of(q, key);
	if (!header(q, "Authorization", auth, sizeof(auth)) || !strstr(auth, s->access_key))
		refuse(a, 403, "InvalidAccessKeyId", NULL);
	else if (strncmp(q->target, "/bkt", 4) || !strchr("/?", q->target[4]))
		refuse(a, 404, "NoSuchBucket", NULL);
	else if (!strcmp(q->method, "PUT"))
		do_put(s, q, a);
	else if (!strcmp(q->method, "POST"))
		do_batch(s, q, a);
	else if (!strcmp(q->method, "GET") && !key[0])
		do_list(s, q, a);
	else if (!strcmp(q->method, "DELETE"))
		drop(s, key), say(a, 204, "", "", 0);
	else
		do_get(s, q, a);
}

/* ---- connections ---- */

static bool send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		p += sent;
		n -= (size_t)sent;
	}
	return true;
}

static bool read_request(int fd, struct request *q)
{
	char text[64];
	size_t n = 0;

	memset(q, 0, sizeof(*q));
	while (n < 4 || memcmp(q->head + n - 4, "\r\n\r\n", 4)) {
		if (n + 1 >= sizeof(q->head) || recv(fd, q->head + n, 1, 0) != 1)
			return false;
		n++;
	}
	if (sscanf(q->head, "%7s %4095s", q->method, q->target) != 2)
		return false;
	if (header(q, "Content-Length", text, sizeof(text)))
		q->len = strtoull(text, NULL, 10);
	if (header(q, "Expect", text, sizeof(text)) &&
		!send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25))
		return false;
	q->body = calloc(1, q->len + 1);
	for (n = 0; n < q->len;) {
		ssize_t got = recv(fd, q->body + n, q->len - n, 0);

		if (got <= 0)
			return false;
		n += (size_t)got;
	}
	return true;
}

static void note(struct s3_server *s, const struct request *q)
{
	size_t n = strlen(q->method) + strlen(q->target) + 2, h = strlen(q->head);

	assert_true(s->log_len + n + 1 < LOG_MAX && s->heads_len + h + 1 < LOG_MAX);
	s->log_len += (size_t)sprintf(s->log + s->log_len, "%s %s\n", q->method, q->target);
	memcpy(s->heads + s->heads_len, q->head, h + 1);
	s->heads_len += h;
}

static void take_fault(struct s3_server *s, struct request *q)
{
	for (struct pending **p = &s->faults; *p; p = &(*p)->next) {
		struct pending *f = *p;

		if (strcmp(f->f.method, q->method) || !strstr(q->target, f->f.part))
			continue;
		q->fault = f->f;
		q->has_fault = true;
		if (--f->f.times == 0) {
			*p = f->next;
			free(f);
		}
		return;
	}
}

static bool send_reply(struct s3_server *s, int fd, const struct request *q, const struct reply *a)
{
	bool head = !strcmp(q->method, "HEAD"), half = q->has_fault && q->fault.kind == FAULT_HALF;
	char text[2048], date[64];
	int n;

	http_date(time(NULL) + s->ahead_s, date);
	n = snprintf(text, sizeof(text),
		"HTTP/1.1 %d Status\r\nDate: %s\r\n%sContent-Length: %zu\r\n\r\n", a->status, date,
		a->headers, a->claimed);
	return send_all(fd, text, (size_t)n) &&
	       (head || send_all(fd, a->body, half ? a->len / 2 : a->len)) && !half;
}

static void wait_for_end(int fd)
{
	char c;

	while (recv(fd, &c, 1, 0) > 0)
		;
}

/* False: hang up. */
static bool serve(struct s3_server *s, int fd, struct request *q)
{
	struct reply a = {.status = 0};
	enum s3_fault_kind kind;
	bool go_on;

	pthread_mutex_lock(&s->mutex);
	note(s, q);
	take_fault(s, q);
	kind = q->fault.kind;
	if (q->has_fault && kind == FAULT_DAMAGE && q->len)
		q->body[q->len / 2] ^= 1;
	if (q->has_fault && kind == FAULT_STATUS)
		refuse(&a, q->fault.status, q->fault.code, q->fault.region);
	else if (!q->has_fault || kind != FAULT_RESET)
		apply(s, q, &a);
	if (q->has_fault && kind == FAULT_APPLY_STATUS && q->fault.status != 200) {
		free(a.body);
		refuse(&a, q->fault.status, q->fault.code, q->fault.region);
	}
	pthread_mutex_unlock(&s->mutex);
	go_on = !q->has_fault ||
		(kind != FAULT_RESET && kind != FAULT_APPLY_RESET && kind != FAULT_APPLY_STALL);
	if (q->has_fault && kind == FAULT_APPLY_STALL)
		wait_for_end(fd);
	if (go_on)
		go_on = send_reply(s, fd, q, &a);
	free(a.body);
	return go_on;
}

struct connection {
	struct s3_server *s;
	int fd;
};

static void *converse(void *arg)
{
	struct connection *c = arg;
	struct request *q = malloc(sizeof(*q));
	bool go_on = true;

	while (go_on) {
		go_on = read_request(c->fd, q) && serve(c->s, c->fd, q);
		free(q->body);
		q->body = NULL;
	}
	shutdown(c->fd, SHUT_RDWR);
	free(q);
	free(c);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct s3_server *s = arg;

	for (;;) {
		int fd = accept(s->fd, NULL, NULL);
		struct connection *c;

		if (fd < 0)
			return NULL;
		pthread_mutex_lock(&s->mutex);
		if (s->stop || s->conns == CONNECTIONS_MAX) {
			close(fd);
		} else {
			c = malloc(sizeof(*c));
			*c = (struct connection){s, fd};
			s->fds[s->conns] = fd;
			assert_int_equal(pthread_create(&s->conn[s->conns], NULL, converse, c), 0);
			s->conns++;
		}
		pthread_mutex_unlock(&s->mutex);
	}
}

struct s3_server *s3_server_new(void)
{
	struct s3_server *s = calloc(1, sizeof(*s));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	assert_int_equal(hash_load(NULL), 0);
	pthread_mutex_init(&s->mutex, NULL);
	s->page = 1000;
	snprintf(s->access_key, sizeof(s->access_key), "AKID");
	s->log = calloc(1, LOG_MAX);
	s->heads = calloc(1, LOG_MAX);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s->fd, 128), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->acceptor, NULL, accept_all, s), 0);
	return s;
}

void s3_server_free(struct s3_server *s)
{
	pthread_mutex_lock(&s->mutex);
	s->stop = true;
	for (unsigned i = 0; i < s->conns; i++)
		shutdown(s->fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&s->mutex);
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->acceptor, NULL);
	close(s->fd);
	for (unsigned i = 0; i < s->conns; i++) {
		pthread_join(s->conn[i], NULL);
		close(s->fds[i]);
	}
	while (s->objects)
		drop(s, s->objects->key);
	s3_server_no_faults(s);
	free(s->log);
	free(s->heads);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

int s3_server_port(const struct s3_server *s)
{
	return s->port;
}

#define LOCKED(s, what)                          \
	do {                                     \
		pthread_mutex_lock(&s->mutex);   \
		what;                            \
		pthread_mutex_unlock(&s->mutex); \
	} while (0)

static void add_fault(struct s3_server *s, const struct s3_server_fault *f)
{
	struct pending **p = &s->faults, *n = calloc(1, sizeof(*n));

	n->f = *f;
	while (*p)
		p = &(*p)->next;
	*p = n;
}

void s3_server_fault(struct s3_server *s, struct s3_server_fault f)
{
	LOCKED(s, add_fault(s, &f));
}

static void forget_faults(struct s3_server *s)
{
	while (s->faults) {
		struct pending *n = s->faults->next;

		free(s->faults);
		s->faults = n;
	}
}

void s3_server_no_faults(struct s3_server *s)
{
	LOCKED(s, forget_faults(s));
}

void s3_server_etags(struct s3_server *s, enum s3_etags how)
{
	LOCKED(s, s->etags = how);
}

void s3_server_page(struct s3_server *s, unsigned keys)
{
	LOCKED(s, s->page = keys);
}

void s3_server_access_key(struct s3_server *s, const char *key)
{
	LOCKED(s, snprintf(s->access_key, sizeof(s->access_key), "%s", key));
}

void s3_server_clock(struct s3_server *s, int64_t ahead_s)
{
	LOCKED(s, s->ahead_s = ahead_s);
}

void s3_server_no_metadata(struct s3_server *s)
{
	LOCKED(s, s->no_metadata = true);
}

static unsigned count(const struct s3_server *s, const char *method, const char *part)
{
	unsigned n = 0;

	for (const char *p = s->log; *p; p = strchr(p, '\n') + 1) {
		char line[1024];

		snprintf(line, sizeof(line), "%.*s", (int)strcspn(p, "\n"), p);
		if (method &&
			(strncmp(line, method, strlen(method)) || line[strlen(method)] != ' '))
			continue;
		n += !part || strstr(line, part);
	}
	return n;
}

unsigned s3_server_count(struct s3_server *s, const char *method, const char *part)
{
	unsigned n;

	LOCKED(s, n = count(s, method, part));
	return n;
}

bool s3_server_heard(struct s3_server *s, const char *text)
{
	bool yes;

	LOCKED(s, yes = memmem(s->heads, s->heads_len, text, strlen(text)));
	return yes;
}

int64_t s3_server_object(struct s3_server *s, const char *key, void *buf, size_t room)
{
	const struct object *o;
	int64_t n = -1;

	pthread_mutex_lock(&s->mutex);
	o = get(s, key);
	if (o) {
		memcpy(buf, o->bytes, o->len < room ? o->len : room);
		n = (int64_t)o->len;
	}
	pthread_mutex_unlock(&s->mutex);
	return n;
}

void s3_server_put(struct s3_server *s, const char *key, const void *bytes, size_t len)
{
	LOCKED(s, put(s, key, "", bytes, len));
}
#endif
