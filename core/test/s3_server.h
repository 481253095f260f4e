/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * s3_server.h - a small S3 service inside a test: loopback, a free port, objects in memory, and faults
 * on demand.
 *
 * It checks what a service checks: that a request is signed with the right access key, and the body's
 * SHA-256 and MD5.  It does not compute signatures; a real service does that in ci/tests/s3.sh.
 */
#ifndef LSVD_TEST_S3_SERVER_H
#define LSVD_TEST_S3_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct s3_server;

enum s3_fault_kind {
	FAULT_STATUS,	    /* answers status and code, and does nothing */
	FAULT_APPLY_STATUS, /* does it, and answers status and code all the same */
	FAULT_RESET,	    /* hangs up, having done nothing */
	FAULT_APPLY_RESET,  /* does it and hangs up */
	FAULT_APPLY_STALL,  /* does it and says nothing until the client has gone */
	FAULT_HALF,	    /* sends half of the answer's body and hangs up */
	FAULT_DAMAGE,	    /* a byte of the request's body arrives as another */
	FAULT_WHOLE,	    /* ignores the Range */
	FAULT_SHIFTED,	    /* answers another range */
	FAULT_SHORT,	    /* answers less of it */
	FAULT_GARBAGE,	    /* 200 with a body that is no XML */
};

/* For the next `times` requests of `method` whose target contains `part`; the oldest that fits is used. */
struct s3_server_fault {
	enum s3_fault_kind kind;
	const char *method, *part;
	unsigned times;
	int status;
	const char *code, *region; /* region: an element of the error, and a header */
};

enum s3_etags { ETAGS_QUOTED, ETAGS_BARE, ETAGS_IGNORED };

struct s3_server *s3_server_new(void); /* with a bucket "bkt" */
void s3_server_free(struct s3_server *s);
int s3_server_port(const struct s3_server *s);
void s3_server_fault(struct s3_server *s, struct s3_server_fault f);
void s3_server_no_faults(struct s3_server *s);
/* How If-Match is compared; IGNORED: conditions are not looked at. */
void s3_server_etags(struct s3_server *s, enum s3_etags how);
void s3_server_page(struct s3_server *s, unsigned keys);	/* on a page of a list */
void s3_server_access_key(struct s3_server *s, const char *key);
void s3_server_clock(struct s3_server *s, int64_t ahead_s);
void s3_server_no_metadata(struct s3_server *s);
/* All requests so far of a method (NULL: any) whose target contains `part`. */
unsigned s3_server_count(struct s3_server *s, const char *method, const char *part);
/* True when any byte that came in, of a request's head, contains it. */
bool s3_server_heard(struct s3_server *s, const char *text);
/* The object's bytes; -1 when there is none. */
int64_t s3_server_object(struct s3_server *s, const char *key, void *buf, size_t room);
void s3_server_put(struct s3_server *s, const char *key, const void *bytes, size_t len);

#endif
