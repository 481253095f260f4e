/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_http.h - signed HTTP requests on a thread of their own.
 *
 * One thread and one pool of connections per process, shared by all S3 stores, there while one is
 * open.  A thread, and not the loop: hashing and encrypting 8 MiB takes milliseconds that a journal
 * on the same loop would feel, and libcurl resolves names and reads certificates without asking
 * whether it may block.  The loop and this thread meet at two points only: http_start() queues a
 * call, and done() is called on this thread when it has ended.
 *
 * Nothing here knows S3: what an answer means, and whether to ask again, is for the caller.
 * Credentials go to libcurl and nowhere else; no text made here contains any of them.
 */
#ifndef LSVD_STORE_S3_HTTP_H
#define LSVD_STORE_S3_HTTP_H

#include "sys/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>

enum {
	HTTP_URL_MAX = 4096,
	HTTP_HEADERS_MAX = 6,
	HTTP_HEADER_MAX = 128,
	HTTP_BODY_MAX = 2048, /* of an error's answer: the rest is dropped */
	HTTP_KEY_MAX = 256,
	HTTP_TOKEN_MAX = 4096,
};

/* Who asks, and how; constant while calls use it. */
struct http_peer {
	char access_key[HTTP_KEY_MAX], secret_key[HTTP_KEY_MAX];
	char token[HTTP_TOKEN_MAX]; /* of a session; "" none */
	char region[64];
	char ca_file[256]; /* "" the system's */
	bool verify;	   /* the server's certificate */
	uint32_t timeout_ms;
};

enum http_result {
	HTTP_ANSWERED,	  /* completely: see status */
	HTTP_UNREACHABLE, /* no connection: the server has not seen the request */
	HTTP_UNTRUSTED,	  /* TLS was refused: neither */
	HTTP_TIMEOUT,	  /* the server may or may not have acted */
	HTTP_BROKEN,	  /* the same; cut off in the middle */
	HTTP_IMPOSSIBLE,  /* out of memory, a bad URL, a libcurl that cannot sign */
};

/* Embedded by its owner, who keeps it and all that it points to until done(). */
struct http_call {
	const char *method; /* GET HEAD PUT POST DELETE */
	char url[HTTP_URL_MAX];
	char header[HTTP_HEADERS_MAX][HTTP_HEADER_MAX]; /* "Name: value", http_header() */
	unsigned headers;
	const struct iovec *body; /* of PUT and POST */
	int bodycnt;
	uint64_t body_bytes;
	bool md5; /* Content-MD5 too */
	const struct http_peer *peer;
	uint32_t limit_ms; /* for all of it; 0: as long as there is progress */
	/* Takes the body of a 2xx answer as it comes, on the HTTP thread; false gives up. */
	bool (*data)(struct http_call *c, const char *bytes, size_t len);
	void (*done)(struct http_call *c); /* on the HTTP thread; c is the owner's again */

	/* the answer */
	enum http_result result;
	int status;
	char why[160]; /* when not HTTP_ANSWERED */
	char etag[80], version[32], range[64], region[64], request_id[64];
	uint64_t length;	   /* Content-Length; UINT64_MAX unknown */
	time_t date, modified;	   /* -1 unknown */
	char error[HTTP_BODY_MAX]; /* the body of any other answer, with a 0 at its end */
	size_t error_len;

	/* private */
	struct http_call *next;
	void *easy, *slist, *hash, *hash_md5;
	uint64_t at; /* in the body: hashed, then sent */
	int piece;
	size_t piece_at;
	uint64_t moved, moved_ms, looked_ms; /* bytes in both directions; when there were more, and
					      * when somebody looked */
};

/* Load the libraries and start the thread if nobody has.  `connections`: at most so many at once;
 * the largest wish of all users counts. */
int http_open(unsigned connections, struct err *e) MUST_CHECK;
/* No call of the caller's is under way.  After it nothing of the HTTP thread is inside the caller's
 * done() any more, so that what it posts to may go. */
void http_close(void);

/* Zero a call and fill in what every one has. */
void http_call_init(struct http_call *c, const char *method, const struct http_peer *peer);
void http_header(struct http_call *c, const char *fmt, ...) PRINTF(2, 3);
/* Any thread. */
void http_start(struct http_call *c);
/* Start it and wait for its end: for threads that may block.  Sets done. */
void http_run(struct http_call *c);

#endif
