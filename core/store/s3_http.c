/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_http.c - a thread around one curl multi handle.
 *
 * A call's way: queued by any thread under a mutex; its body hashed, in pieces, so that the
 * transfers that are running wait for none of them long (the signature covers the body's SHA-256);
 * then, when one of the connections is free, an easy handle is set up and given to curl; at its end
 * the answer's fields are filled in and done() is called.  The handle is kept for the next call.
 *
 * Two habits of libcurl 7.88 that shape this: it signs every header that was set, so "Expect:" (set
 * to leave that header out) would be signed and not sent; and it does not send
 * x-amz-content-sha256, which S3 insists on.
 */
#include "store/s3_http.h"

#include "store/s3_hash.h"
#include "sys/container.h"
#include "sys/dynlib.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	HASH_PIECE = 256 << 10, /* some 0.2 to 0.7 ms */
	UPLOAD_BUFFER = 256 << 10,
	DOWNLOAD_BUFFER = 256 << 10,
	CONNECT_MS = 5000,
	IDLE_MS = 10000,
	SILENCE_LOOKS = 8, /* within the time that a call may be silent */
	SPARE_MAX = 64,
	SOCKETS_MAX = 512,
};

static struct {
	typeof(curl_global_init) *global_init;
	typeof(curl_easy_init) *easy_init;
	typeof(curl_easy_reset) *easy_reset;
	typeof(curl_easy_setopt) *easy_setopt;
	typeof(curl_easy_getinfo) *easy_getinfo;
	typeof(curl_easy_cleanup) *easy_cleanup;
	typeof(curl_easy_strerror) *easy_strerror;
	typeof(curl_slist_append) *slist_append;
	typeof(curl_slist_free_all) *slist_free_all;
	typeof(curl_multi_init) *multi_init;
	typeof(curl_multi_add_handle) *multi_add;
	typeof(curl_multi_remove_handle) *multi_remove;
	typeof(curl_multi_perform) *multi_perform;
	typeof(curl_multi_poll) *multi_poll;
	typeof(curl_multi_wakeup) *multi_wakeup;
	typeof(curl_multi_info_read) *multi_info_read;
	typeof(curl_multi_setopt) *multi_setopt;
	typeof(curl_multi_cleanup) *multi_cleanup;
	typeof(curl_getdate) *getdate;
} lib;

struct queue {
	struct http_call *first, **last;
};

/* The process's only one.  `mutex`: users, inbox, most, stop; `calling` is held while done() runs.
 */
static struct net {
	pthread_mutex_t mutex, calling, opening;
	pthread_t thread;
	unsigned users, most;
	bool stop;
	struct queue inbox;
	/* the thread's own */
	CURLM *multi;
	struct queue hashing, ready;
	struct http_call *active; /* given to curl */
	unsigned running, spares, sockets;
	int socket[SOCKETS_MAX];
	CURL *spare[SPARE_MAX];
} net = {.mutex = PTHREAD_MUTEX_INITIALIZER,
	.calling = PTHREAD_MUTEX_INITIALIZER,
	.opening = PTHREAD_MUTEX_INITIALIZER};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void push(struct queue *q, struct http_call *c)
{
	c->next = NULL;
	if (!q->first)
		q->last = &q->first;
	*q->last = c;
	q->last = &c->next;
}

static struct http_call *pop(struct queue *q)
{
	struct http_call *c = q->first;

	if (c)
		q->first = c->next;
	return c;
}

/* ---- the end of a call ---- */

static void finish(struct http_call *c, enum http_result result)
{
	uint8_t rest[HASH_MAX];

	if (c->hash)
		hash_end(c->hash, rest);
	if (c->hash_md5)
		hash_end(c->hash_md5, rest);
	c->hash = c->hash_md5 = NULL;
	lib.slist_free_all(c->slist);
	c->slist = NULL;
	if (c->easy && net.spares < SPARE_MAX)
		net.spare[net.spares++] = c->easy;
	else if (c->easy)
		lib.easy_cleanup(c->easy);
	c->easy = NULL;
	c->result = result;
	c->error[c->error_len] = 0;
	pthread_mutex_lock(&net.calling);
	c->done(c);
	pthread_mutex_unlock(&net.calling);
}

static void impossible(struct http_call *c, const char *why)
{
	snprintf(c->why, sizeof(c->why), "%s", why);
	finish(c, HTTP_IMPOSSIBLE);
}

static enum http_result result_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return HTTP_ANSWERED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		return HTTP_UNREACHABLE;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
		return HTTP_UNTRUSTED;
	case CURLE_OPERATION_TIMEDOUT:
		return HTTP_TIMEOUT;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_NOT_BUILT_IN:
		return HTTP_IMPOSSIBLE;
	default:
		return HTTP_BROKEN;
	}
}

static void take_back(struct http_call *c)
{
	struct http_call **at = &net.active;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	lib.multi_remove(net.multi, c->easy);
	net.running--;
}

static void transfer_over(CURL *easy, CURLcode code)
{
	struct http_call *c = NULL;
	long status = 0;

	lib.easy_getinfo(easy, CURLINFO_PRIVATE, &c);
	lib.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	take_back(c);
	c->status = (int)status;
	if (code != CURLE_OK && !c->why[0])
		snprintf(c->why, sizeof(c->why), "%s", lib.easy_strerror(code));
	/* A server that answers before it has read all of the body may hang up on the rest. */
	if (code == CURLE_SEND_ERROR && status >= 400)
		code = CURLE_OK;
	finish(c, result_of(code));
}

/* ---- what curl asks for ---- */

/* Walks over the pieces of the body; `out` NULL only moves on. */
static size_t take(struct http_call *c, char *out, size_t room)
{
	size_t done = 0;

	while (done < room && c->piece < c->bodycnt) {
		const struct iovec *v = &c->body[c->piece];
		size_t left = v->iov_len - c->piece_at, n = left < room - done ? left : room - done;

		if (out && n)
			memcpy(out + done, (const char *)v->iov_base + c->piece_at, n);
		done += n;
		c->piece_at += n;
		if (c->piece_at == v->iov_len) {
			c->piece++;
			c->piece_at = 0;
		}
	}
	c->at += done;
	return done;
}

static void rewind_to(struct http_call *c, uint64_t at)
{
	c->at = 0;
	c->piece = 0;
	c->piece_at = 0;
	while (c->at < at && take(c, NULL, (size_t)(at - c->at)))
		;
}

static size_t on_read(char *out, size_t size, size_t n, void *arg)
{
	return take(arg, out, size * n);
}

/* A kept connection turned out to be closed: curl sends again. */
static int on_seek(void *arg, curl_off_t to, int whence)
{
	struct http_call *c = arg;

	if (whence != SEEK_SET || to < 0 || (uint64_t)to > c->body_bytes)
		return CURL_SEEKFUNC_FAIL;
	rewind_to(c, (uint64_t)to);
	return CURL_SEEKFUNC_OK;
}

static size_t on_data(char *bytes, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t len = size * n, room = sizeof(c->error) - 1 - c->error_len;
	long status = 0;

	lib.easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status / 100 == 2 && c->data)
		return c->data(c, bytes, len) ? len : 0;
	room = room < len ? room : len;
	memcpy(c->error + c->error_len, bytes, room);
	c->error_len += room;
	return len;
}

/* `line` is NAME's header: its value, without blanks around and, when it fits, in out. */
static bool value_of(const char *line, size_t len, const char *name, char *out, size_t room)
{
	size_t n = strlen(name);

	if (len <= n || strncasecmp(line, name, n) || line[n] != ':')
		return false;
	for (n++; n < len && (line[n] == ' ' || line[n] == '\t'); n++)
		;
	while (len > n && strchr(" \t\r\n", line[len - 1]))
		len--;
	if (len - n >= room)
		len = n; /* no value is better than part of one */
	memcpy(out, line + n, len - n);
	out[len - n] = 0;
	return true;
}

/* What the answer so far has said; a new status line begins it again. */
static void forget_answer(struct http_call *c)
{
	c->etag[0] = c->version[0] = c->range[0] = c->region[0] = c->request_id[0] = 0;
	c->length = UINT64_MAX;
	c->date = c->modified = -1;
	c->error_len = 0;
}

/* A server that sends head and body of an answer apart, with Nagle's algorithm on (radosgw's
 * default), keeps the body back until the head is acknowledged, which we would do 40 ms later.
 * libcurl does not tell which socket an answer comes from while it comes; to the others this does
 * nothing. */
static void acknowledge(void)
{
	for (unsigned i = 0; i < net.sockets; i++)
		(void)setsockopt(net.socket[i], IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);

	(void)arg, (void)purpose;
	if (fd >= 0 && net.sockets < SOCKETS_MAX)
		net.socket[net.sockets++] = fd;
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int on_close(void *arg, curl_socket_t fd)
{
	(void)arg;
	for (unsigned i = 0; i < net.sockets; i++)
		if (net.socket[i] == fd) {
			net.socket[i] = net.socket[--net.sockets];
			break;
		}
	return close(fd);
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct http_call *c = arg;
	size_t len = size * n;
	char text[64];

	if (len <= 2)
		acknowledge(); /* the head's end */
	else if (len > 5 && !strncmp(line, "HTTP/", 5))
		forget_answer(c);
	else if (value_of(line, len, "Content-Length", text, sizeof(text)))
		c->length = strtoull(text, NULL, 10);
	else if (value_of(line, len, "Date", text, sizeof(text)))
		c->date = lib.getdate(text, NULL);
	else if (value_of(line, len, "Last-Modified", text, sizeof(text)))
		c->modified = lib.getdate(text, NULL);
	else if (!value_of(line, len, "ETag", c->etag, sizeof(c->etag)) &&
		 !value_of(line, len, "Content-Range", c->range, sizeof(c->range)) &&
		 !value_of(line, len, "x-amz-bucket-region", c->region, sizeof(c->region)) &&
		 !value_of(line, len, "x-amz-request-id", c->request_id, sizeof(c->request_id)))
		(void)value_of(
			line, len, "x-amz-meta-lsvd-version", c->version, sizeof(c->version));
	return len;
}

/* ---- the beginning of a call ---- */

static void base64(const uint8_t *in, size_t len, char *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0) |
			     (i + 2 < len ? in[i + 2] : 0);

		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*out++ = i + 2 < len ? digits[v & 63] : '=';
	}
	*out = 0;
}

static bool add_header(struct http_call *c, const char *text)
{
	struct curl_slist *l = lib.slist_append(c->slist, text);

	if (l)
		c->slist = l;
	return l;
}

static bool add_headers(struct http_call *c)
{
	uint8_t digest[HASH_MAX];
	char text[HTTP_TOKEN_MAX + 64];
	bool ok = true;
	size_t n;
	int at;

	n = hash_end(c->hash, digest);
	c->hash = NULL;
	at = snprintf(text, sizeof(text), "x-amz-content-sha256: ");
	for (size_t i = 0; i < n; i++)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%02x", digest[i]);
	ok = add_header(c, text);
	if (c->md5) {
		char code[HASH_MAX * 2];

		n = hash_end(c->hash_md5, digest);
		c->hash_md5 = NULL;
		base64(digest, n, code);
		snprintf(text, sizeof(text), "Content-MD5: %s", code);
		ok = ok && add_header(c, text);
	}
	for (unsigned i = 0; i < c->headers; i++)
		ok = ok && add_header(c, c->header[i]);
	if (c->peer->token[0]) {
		snprintf(text, sizeof(text), "x-amz-security-token: %s", c->peer->token);
		ok = ok && add_header(c, text);
		explicit_bzero(text, sizeof(text));
	}
	return ok;
}

#define SET(option, value) (bad = lib.easy_setopt(easy, option, value) != CURLE_OK || bad)

static bool set_peer(CURL *easy, const struct http_peer *p)
{
	char text[96];
	bool bad = false;

	snprintf(text, sizeof(text), "aws:amz:%s:s3", p->region);
	SET(CURLOPT_AWS_SIGV4, text);
	SET(CURLOPT_USERNAME, p->access_key);
	SET(CURLOPT_PASSWORD, p->secret_key);
	SET(CURLOPT_SSL_VERIFYPEER, p->verify ? 1L : 0L);
	SET(CURLOPT_SSL_VERIFYHOST, p->verify ? 2L : 0L);
	if (p->ca_file[0])
		SET(CURLOPT_CAINFO, p->ca_file);
	SET(CURLOPT_CONNECTTIMEOUT_MS,
		(long)(p->timeout_ms < CONNECT_MS ? p->timeout_ms : CONNECT_MS));
	return bad;
}

static bool set_method(CURL *easy, struct http_call *c)
{
	bool bad = false;

	if (!strcmp(c->method, "PUT")) {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body_bytes);
	} else if (!strcmp(c->method, "POST")) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body_bytes);
	} else if (!strcmp(c->method, "HEAD")) {
		SET(CURLOPT_NOBODY, 1L);
	} else if (strcmp(c->method, "GET")) {
		SET(CURLOPT_CUSTOMREQUEST, c->method);
	}
	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_READDATA, c);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_SEEKDATA, c);
	return bad;
}

static bool set_call(CURL *easy, struct http_call *c)
{
	bool bad = false;

	SET(CURLOPT_PRIVATE, c);
	SET(CURLOPT_URL, c->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTPHEADER, c->slist);
	/* One request at a time on a connection: HTTP/2 would put them all on one. */
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_USERAGENT, "lsvd");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_ERRORBUFFER, NULL);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER);
	SET(CURLOPT_BUFFERSIZE, (long)DOWNLOAD_BUFFER);
	SET(CURLOPT_WRITEFUNCTION, on_data);
	SET(CURLOPT_WRITEDATA, c);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, c);
	if (c->limit_ms)
		SET(CURLOPT_TIMEOUT_MS, (long)c->limit_ms);
	return set_peer(easy, c->peer) || set_method(easy, c) || bad;
}

static void begin(struct http_call *c)
{
	c->easy = net.spares ? net.spare[--net.spares] : lib.easy_init();
	if (!c->easy || !add_headers(c)) {
		impossible(c, "out of memory");
		return;
	}
	lib.easy_reset(c->easy);
	forget_answer(c);
	rewind_to(c, 0);
	if (set_call(c->easy, c)) {
		impossible(c, "libcurl lacks an option that S3 needs: it is older than 7.85, or "
			      "built without the signatures of AWS");
		return;
	}
	if (lib.multi_add(net.multi, c->easy)) {
		impossible(c, "libcurl refuses the request");
		return;
	}
	c->next = net.active;
	net.active = c;
	c->moved = 0;
	c->moved_ms = c->looked_ms = now_ms();
	net.running++;
}

/* ---- silence ---- */

/* curl's own limit for silence looks at the mean speed of some seconds, so it comes late. */
static bool is_silent(struct http_call *c, uint64_t now)
{
	curl_off_t up = 0, down = 0;
	long head = 0;
	uint64_t moved;

	lib.easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &up);
	lib.easy_getinfo(c->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	lib.easy_getinfo(c->easy, CURLINFO_HEADER_SIZE, &head);
	moved = (uint64_t)up + (uint64_t)down + (uint64_t)head;
	if (moved != c->moved)
		c->moved_ms = now;
	c->moved = moved;
	c->looked_ms = now;
	return now - c->moved_ms > c->peer->timeout_ms;
}

/* Ends calls in which no byte moved for too long; in how many ms to look again.  A little after
 * curl itself gave up connecting, for then it is known that the server has seen nothing. */
static int end_silent(void)
{
	uint64_t now = now_ms();
	int soon = IDLE_MS;

	for (struct http_call *c = net.active, *after; c; c = after) {
		int every = (int)c->peer->timeout_ms / SILENCE_LOOKS;

		after = c->next;
		soon = every < soon ? every : soon;
		if (now - c->looked_ms < (uint64_t)every || !is_silent(c, now))
			continue;
		take_back(c);
		snprintf(
			c->why, sizeof(c->why), "nothing was heard for %u ms", c->peer->timeout_ms);
		finish(c, HTTP_TIMEOUT);
	}
	return soon;
}

/* One piece of one body; it goes to the back, so that a small one is not behind large ones. */
static void hash_some(void)
{
	struct http_call *c = pop(&net.hashing);
	size_t most = HASH_PIECE;

	if (!c->hash) {
		c->hash = hash_new(HASH_SHA256);
		c->hash_md5 = c->md5 ? hash_new(HASH_MD5) : NULL;
		if (!c->hash || (c->md5 && !c->hash_md5)) {
			impossible(c, "libcrypto has no such digest, or memory is out");
			return;
		}
	}
	while (most && c->piece < c->bodycnt) {
		const struct iovec *v = &c->body[c->piece];
		const char *p = (const char *)v->iov_base + c->piece_at;
		size_t n = v->iov_len - c->piece_at < most ? v->iov_len - c->piece_at : most;

		if (!n) {
			c->piece++;
			continue;
		}
		hash_add(c->hash, p, n);
		if (c->md5)
			hash_add(c->hash_md5, p, n);
		most -= take(c, NULL, n);
	}
	push(c->at < c->body_bytes ? &net.hashing : &net.ready, c);
}

/* ---- the thread ---- */

static bool take_inbox(unsigned *most)
{
	bool stop;

	pthread_mutex_lock(&net.mutex);
	for (struct http_call *c; (c = pop(&net.inbox));)
		push(&net.hashing, c);
	stop = net.stop;
	*most = net.most;
	pthread_mutex_unlock(&net.mutex);
	return stop;
}

static void *work(void *arg)
{
	unsigned most, kept = 0;
	CURLMsg *m;
	int n, soon;

	(void)arg;
	while (!take_inbox(&most)) {
		if (most != kept) /* as many stay open as may be busy */
			lib.multi_setopt(net.multi, CURLMOPT_MAXCONNECTS, (long)(kept = most));
		if (net.hashing.first)
			hash_some();
		while (net.ready.first && net.running < most)
			begin(pop(&net.ready));
		lib.multi_perform(net.multi, &n);
		while ((m = lib.multi_info_read(net.multi, &n)))
			if (m->msg == CURLMSG_DONE)
				transfer_over(m->easy_handle, m->data.result);
		soon = end_silent();
		/* Woken by http_start(), also when that was before the poll. */
		if (!net.hashing.first && !(net.ready.first && net.running < most))
			lib.multi_poll(net.multi, NULL, 0, soon, NULL);
	}
	return NULL;
}

static int load(struct err *e)
{
	static const struct dynlib_symbol symbols[] = {
		{"curl_global_init", &lib.global_init},
		{"curl_easy_init", &lib.easy_init},
		{"curl_easy_reset", &lib.easy_reset},
		{"curl_easy_setopt", &lib.easy_setopt},
		{"curl_easy_getinfo", &lib.easy_getinfo},
		{"curl_easy_cleanup", &lib.easy_cleanup},
		{"curl_easy_strerror", &lib.easy_strerror},
		{"curl_slist_append", &lib.slist_append},
		{"curl_slist_free_all", &lib.slist_free_all},
		{"curl_multi_init", &lib.multi_init},
		{"curl_multi_add_handle", &lib.multi_add},
		{"curl_multi_remove_handle", &lib.multi_remove},
		{"curl_multi_perform", &lib.multi_perform},
		{"curl_multi_poll", &lib.multi_poll},
		{"curl_multi_wakeup", &lib.multi_wakeup},
		{"curl_multi_info_read", &lib.multi_info_read},
		{"curl_multi_setopt", &lib.multi_setopt},
		{"curl_multi_cleanup", &lib.multi_cleanup},
		{"curl_getdate", &lib.getdate},
		{NULL, NULL},
	};
	static bool initialised;
	int rc = dynlib_load("libcurl.so.4", "libcurl4", symbols, e);

	if (rc == 0)
		rc = hash_load(e);
	if (rc == 0 && !initialised && lib.global_init(CURL_GLOBAL_DEFAULT))
		return err_set(e, -EIO, "libcurl cannot be initialised");
	initialised = initialised || rc == 0;
	return rc;
}

/* Signals are for the program's own threads; SIGPIPE, which OpenSSL may cause, for none. */
static int start_thread(void)
{
	sigset_t all, was;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	rc = pthread_create(&net.thread, NULL, work, NULL);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return -rc;
}

static int start(struct err *e)
{
	int rc = load(e);

	if (rc < 0)
		return rc;
	net.multi = lib.multi_init();
	if (!net.multi)
		return err_set(e, -ENOMEM, "libcurl: out of memory");
	net.stop = false;
	rc = start_thread();
	if (rc < 0) {
		lib.multi_cleanup(net.multi);
		return err_set(e, rc, "start a thread: %s", strerror(-rc));
	}
	pthread_setname_np(net.thread, "lsvd-s3");
	return 0;
}

/* The thread is not in a process that was forked: it starts its own. */
static void forget_inherited(void)
{
	memset(&net, 0, sizeof(net));
	pthread_mutex_init(&net.mutex, NULL);
	pthread_mutex_init(&net.calling, NULL);
	pthread_mutex_init(&net.opening, NULL);
}

static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, forget_inherited);
}

int http_open(unsigned connections, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int rc = 0;

	pthread_once(&once, watch_forks);
	pthread_mutex_lock(&net.opening);
	if (!net.users)
		rc = start(e);
	if (rc == 0) {
		net.users++;
		pthread_mutex_lock(&net.mutex);
		net.most = connections > net.most ? connections : net.most;
		pthread_mutex_unlock(&net.mutex);
	}
	pthread_mutex_unlock(&net.opening);
	return rc;
}

void http_close(void)
{
	/* Waits for a done() that is still returning. */
	pthread_mutex_lock(&net.calling);
	pthread_mutex_unlock(&net.calling);
	pthread_mutex_lock(&net.opening);
	if (net.users && --net.users == 0) { /* none: inherited */
		pthread_mutex_lock(&net.mutex);
		net.stop = true;
		pthread_mutex_unlock(&net.mutex);
		lib.multi_wakeup(net.multi);
		pthread_join(net.thread, NULL);
		assert(!net.running && !net.hashing.first && !net.ready.first);
		while (net.spares)
			lib.easy_cleanup(net.spare[--net.spares]);
		lib.multi_cleanup(net.multi);
		net.multi = NULL;
		net.most = 0;
	}
	pthread_mutex_unlock(&net.opening);
}

/* ---- calls ---- */

void http_call_init(struct http_call *c, const char *method, const struct http_peer *peer)
{
	memset(c, 0, sizeof(*c));
	c->method = method;
	c->peer = peer;
}

void http_header(struct http_call *c, const char *fmt, ...)
{
	va_list ap;
	int n;

	assert(c->headers < HTTP_HEADERS_MAX);
	va_start(ap, fmt);
	n = vsnprintf(c->header[c->headers++], HTTP_HEADER_MAX, fmt, ap);
	va_end(ap);
	assert(n > 0 && n < HTTP_HEADER_MAX);
}

void http_start(struct http_call *c)
{
	assert(c->done);
	c->result = HTTP_ANSWERED;
	c->status = 0;
	c->why[0] = 0;
	rewind_to(c, 0);
	forget_answer(c);
	pthread_mutex_lock(&net.mutex);
	push(&net.inbox, c);
	pthread_mutex_unlock(&net.mutex);
	lib.multi_wakeup(net.multi);
}

static pthread_mutex_t run_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t run_cond = PTHREAD_COND_INITIALIZER;

static void run_done(struct http_call *c)
{
	pthread_mutex_lock(&run_mutex);
	c->done = NULL;
	pthread_cond_broadcast(&run_cond);
	pthread_mutex_unlock(&run_mutex);
}

void http_run(struct http_call *c)
{
	c->done = run_done;
	http_start(c);
	pthread_mutex_lock(&run_mutex);
	while (c->done)
		pthread_cond_wait(&run_cond, &run_mutex);
	pthread_mutex_unlock(&run_mutex);
}
