/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static json_t *refuse(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static json_t *refuse(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, CLIENT_WHY, fmt, ap);
	va_end(ap);
	return NULL;
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd < 0 ? -errno : fd;
}

/* One line each way. */
static json_t *exchange(FILE *f, json_t *request)
{
	json_t *reply = NULL;
	char *line = NULL;
	size_t room = 0;

	if (json_dumpf(request, f, JSON_COMPACT) == 0 && fputc('\n', f) != EOF && !fflush(f) &&
		getline(&line, &room, f) > 0)
		reply = json_loads(line, 0, NULL);
	free(line);
	return reply;
}

json_t *client_ask(const char *socket, json_t *request, char *why)
{
	int fd = connect_to(socket);
	FILE *f = fd >= 0 ? fdopen(fd, "r+") : NULL;
	json_t *reply = f ? exchange(f, request) : NULL;
	const char *error;

	json_decref(request);
	if (f)
		fclose(f);
	else if (fd >= 0)
		close(fd);
	if (fd < 0)
		return refuse(why, "no gateway answers at '%s': %s", socket, strerror(-fd));
	if (!reply)
		return refuse(why, "the gateway at '%s' went away without an answer", socket);
	if (json_is_true(json_object_get(reply, "ok")))
		return reply;
	error = json_string_value(json_object_get(reply, "error"));
	refuse(why, "%s", error ? error : "the gateway refused, and did not say why");
	json_decref(reply);
	return NULL;
}
