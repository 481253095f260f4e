/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fuzz_config.c - any bytes as a configuration file: an error with a message, or settings that all
 * have a value, whichever image is asked for. */
#include "lsvd.h"
#include "sys/config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void look_at(struct lsvd_config *cfg)
{
	static const char *const images[] = {NULL, "file:/srv/vols/vm1", "mem:a"};

	for (size_t i = 0; i < 3; i++) {
		struct err e = {.msg = ""};
		struct config c;
		const char *key, *origin;

		for (size_t k = 0; (key = lsvd_config_key(k, NULL)); k++)
			assert(lsvd_config_get(cfg, images[i], key, &origin) && origin[0]);
		assert(config_resolve(cfg, images[i], &c, &e) == 0 || e.msg[0]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct lsvd_config *cfg = lsvd_config_defaults();
	int fd = memfd_create("config", MFD_CLOEXEC);
	char path[40], why[LSVD_ERR_MAX] = "";

	assert(cfg && fd >= 0 && write(fd, data, len) == (ssize_t)len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (lsvd_config_load(cfg, path, why) < 0)
		assert(why[0]);
	look_at(cfg); /* a file that was refused changed nothing */
	close(fd);
	lsvd_config_free(cfg);
	return 0;
}
