/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/s3_hash.h"

#include "sys/dynlib.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>

static struct {
	typeof(EVP_MD_CTX_new) *ctx_new;
	typeof(EVP_MD_CTX_free) *ctx_free;
	typeof(EVP_DigestInit_ex) *init;
	typeof(EVP_DigestUpdate) *update;
	typeof(EVP_DigestFinal_ex) *final;
	typeof(EVP_sha256) *sha256;
	typeof(EVP_md5) *md5;
} lib;

int hash_load(struct err *e)
{
	static const struct dynlib_symbol symbols[] = {
		{"EVP_MD_CTX_new", &lib.ctx_new},
		{"EVP_MD_CTX_free", &lib.ctx_free},
		{"EVP_DigestInit_ex", &lib.init},
		{"EVP_DigestUpdate", &lib.update},
		{"EVP_DigestFinal_ex", &lib.final},
		{"EVP_sha256", &lib.sha256},
		{"EVP_md5", &lib.md5},
		{NULL, NULL},
	};

	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static bool loaded; /* somebody may be using it */
	int rc;

	pthread_mutex_lock(&mutex);
	rc = loaded ? 0 : dynlib_load("libcrypto.so.3", "libssl3", symbols, e);
	loaded = rc == 0;
	pthread_mutex_unlock(&mutex);
	return rc;
}

void *hash_new(enum hash_kind kind)
{
	EVP_MD_CTX *h = lib.ctx_new();

	if (h && !lib.init(h, kind == HASH_MD5 ? lib.md5() : lib.sha256(), NULL)) {
		lib.ctx_free(h); /* MD5 may be forbidden on this machine */
		h = NULL;
	}
	return h;
}

void hash_add(void *h, const void *bytes, size_t len)
{
	lib.update(h, bytes, len);
}

size_t hash_end(void *h, uint8_t digest[HASH_MAX])
{
	unsigned n = 0;

	lib.final(h, digest, &n);
	lib.ctx_free(h);
	return n;
}
