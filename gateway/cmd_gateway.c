/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cmd_gateway.c - `lsvd gateway status|stats` and `lsvd trace start|stop`: a running gateway, over its control
 * socket.
 *
 * The socket is that of --control, of $LSVD_CONTROL, or of the gateway which has the image, device
 * or export that is named (`lsvd map`, `lsvd qemu-args`).
 */
#include "gateway/attach.h"
#include "gateway/client.h"
#include "gateway/url.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
	const char *control;
	const char *word[2];
	unsigned words, least, most;
	bool json;
};

static const struct argp_option options[] = {
	{"control", 'c', "SOCKET", 0, "of the gateway: its parameter control=SOCKET", 0},
	{"json", 'j', NULL, 0, "print JSON", 0},
	{0}};

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct args *a = s->input;

	switch (key) {
	case 'c':
		a->control = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->words == a->most)
			argp_error(s, "what is '%s'?", arg);
		a->word[a->words++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (a->words < a->least)
			argp_error(s, "an argument is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* The socket to ask, and what the export is called there. */
static int find_gateway(const struct args *a, char socket[STATE_PATH], char export[256])
{
	const char *env = getenv("LSVD_CONTROL"), *what = a->words ? a->word[0] : "";
	const char *given = a->control ? a->control : env && env[0] ? env : NULL;
	char run[STATE_PATH];
	struct mapping m;
	struct server s;

	snprintf(export, 256, "%s", what);
	if (given) {
		snprintf(socket, STATE_PATH, "%s", given);
		return CLI_OK;
	}
	if (!what[0])
		return cli_fail("which gateway? Name its socket with --control");
	if (!attach_find(what, run, &m))
		return cli_fail("'%s' is not attached by `lsvd map` or `lsvd qemu-args`; name the "
				"gateway's socket with --control",
			what);
	server_load(run, m.server, &s);
	server_control(&s, socket);
	snprintf(export, 256, "%s", m.export);
	return CLI_OK;
}

/* `request` (stolen) gets the export's name.  NULL after a message. */
static json_t *ask(const struct args *a, json_t *request)
{
	char socket[STATE_PATH], export[256], why[CLIENT_WHY];
	json_t *reply;

	if (find_gateway(a, socket, export)) {
		json_decref(request);
		return NULL;
	}
	if (export[0])
		json_object_set_new(request, "export", json_string(export));
	reply = client_ask(socket, request, why);
	if (!reply)
		cli_fail("%s", why);
	return reply;
}

/* ---- traces ---- */

static const struct argp start_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "EXPORT|IMAGE|DEVICE FILE",
	.doc = "Record every request to an image that a gateway has open, from now on.\v"
	       "A trace that was being recorded ends.\n"
	       "example: lsvd trace start /dev/loop0 /var/tmp/vm1.trace"};

int cmd_trace_start(int argc, char **argv)
{
	struct args a = {.least = 2, .most = 2};
	json_t *reply;
	char *path;

	if (argp_parse(&start_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	path = path_absolute(a.word[1]);
	if (!path)
		return cli_fail("out of memory");
	reply = ask(&a, json_pack("{s:s,s:s}", "do", "trace", "file", path));
	free(path);
	json_decref(reply);
	return reply ? CLI_OK : CLI_FAILED;
}

static const struct argp stop_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "EXPORT|IMAGE|DEVICE",
	.doc = "End the recording of an image's requests; the file is whole when it returns.\v"
	       "example: lsvd trace stop --control /run/gw.control vm1"};

int cmd_trace_stop(int argc, char **argv)
{
	struct args a = {.least = 1, .most = 1};
	json_t *reply;

	if (argp_parse(&stop_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	reply = ask(&a, json_pack("{s:s,s:n}", "do", "trace", "file"));
	json_decref(reply);
	return reply ? CLI_OK : CLI_FAILED;
}

/* ---- lsvd gateway ---- */

static const struct argp status_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[EXPORT|IMAGE|DEVICE]",
	.doc = "What a gateway serves, to how many, and what it records.\v"
	       "example: lsvd gateway status --control /run/gw.control"};

static void print_export(json_t *x)
{
	const char *name, *image, *trace;
	json_int_t connections;
	int open, readonly;

	if (json_unpack(x, "{s:s,s:s,s:b,s:b,s:I}", "export", &name, "image", &image, "open", &open,
		    "readonly", &readonly, "connections", &connections) < 0)
		return;
	trace = json_string_value(json_object_get(x, "trace"));
	printf("%-20s %-6s %s  %lld connection%s  %s%s%s\n", name, open ? "open" : "closed",
		readonly ? "ro" : "rw", (long long)connections, connections == 1 ? "" : "s", image,
		trace ? "  recorded to " : "", trace ? trace : "");
}

static int run_status(int argc, char **argv)
{
	struct args a = {.most = 1};
	json_t *reply, *x;
	size_t i;

	if (argp_parse(&status_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	reply = ask(&a, json_pack("{s:s}", "do", "status"));
	if (!reply)
		return CLI_FAILED;
	if (a.json) {
		json_object_del(reply, "ok");
		cli_print_json(reply);
		return CLI_OK;
	}
	json_array_foreach(json_object_get(reply, "exports"), i, x) print_export(x);
	json_decref(reply);
	return CLI_OK;
}

static const struct argp stats_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "EXPORT|IMAGE|DEVICE",
	.doc = "The statistics of an image that a gateway has open, as JSON.\v"
	       "example: lsvd gateway stats /dev/loop0"};

static int run_stats(int argc, char **argv)
{
	struct args a = {.least = 1, .most = 1};
	json_t *reply;

	if (argp_parse(&stats_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	reply = ask(&a, json_pack("{s:s}", "do", "stats"));
	if (!reply)
		return CLI_FAILED;
	cli_print_json(json_incref(json_object_get(reply, "stats")));
	json_decref(reply);
	return CLI_OK;
}

static const struct cli_sub subs[] = {
	{"status", "what it serves, to how many", run_status},
	{"stats", "an image's statistics", run_stats},
	{NULL, NULL, NULL},
};

static int run_gateway(int argc, char **argv)
{
	return cli_dispatch("gateway", subs, argc, argv);
}
CLI_COMMAND(gateway, "ask a running gateway (nbdkit lsvd)", run_gateway)
