/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* client.h - talking to a running gateway over its control socket (gateway/plugin/control.h). */
#ifndef LSVD_GATEWAY_CLIENT_H
#define LSVD_GATEWAY_CLIENT_H

#include <jansson.h>

/* Send `request` (stolen) and wait for the answer, as long as it takes.  The answer, which the caller
 * releases, when it says "ok"; else NULL and a message in `why` (CLIENT_WHY bytes). */
enum { CLIENT_WHY = 768 };
json_t *client_ask(const char *socket, json_t *request, char *why);

/* `lsvd trace start|stop`. */
int cmd_trace_start(int argc, char **argv);
int cmd_trace_stop(int argc, char **argv);

#endif
