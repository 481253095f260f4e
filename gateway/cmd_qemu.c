/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cmd_qemu.c - `lsvd qemu-args IMAGE`: the options by which QEMU boots from an image.
 *
 * Unless --socket names a gateway that runs already, it starts one (as `lsvd map` does, but no root is
 * needed), which opens the image when QEMU connects, and closes it when QEMU is gone.
 */
#include "gateway/attach.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_SOCKET = 0x2000, OPT_EXPORT, OPT_IF, OPT_ID, OPT_URI, OPT_READ_ONLY = 'r',
	OPT_SNAPSHOT = 's', OPT_TRACE = 't' };

struct qemu_args {
	struct attach_options attach;
	const char *socket, *export, *interface, *id;
	bool uri;
};

static const struct argp_option options[] = {
	{"socket", OPT_SOCKET, "PATH", 0, "of a gateway that runs already; starts none", 0},
	{"export", OPT_EXPORT, "NAME", 0, "of the image there (the image's name)", 0},
	{"if", OPT_IF, "KIND", 0, "the drive's interface: virtio, none, scsi ... (virtio)", 0},
	{"id", OPT_ID, "ID", 0, "the drive's name within QEMU, for -device ...,drive=ID", 0},
	{"uri", OPT_URI, NULL, 0, "only the NBD URI, for qemu-img, qemu-io, nbdinfo ...", 0},
	{"read-only", OPT_READ_ONLY, NULL, 0, "change nothing; needs no lock", 0},
	{"snapshot", OPT_SNAPSHOT, "NAME", 0, "the image as it was then (IMAGE@NAME), read-only", 0},
	{"trace", OPT_TRACE, "FILE", 0, "record every request to FILE; `lsvd trace stop` ends it", 0},
	{0}};

static error_t parse(int key, char *arg, struct argp_state *s)
{
	struct qemu_args *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = s->child_inputs[1] = &a->attach.open;
		return 0;
	case OPT_SOCKET:
		a->socket = arg;
		return 0;
	case OPT_EXPORT:
		a->export = arg;
		return 0;
	case OPT_IF:
		a->interface = arg;
		return 0;
	case OPT_ID:
		a->id = arg;
		return 0;
	case OPT_URI:
		a->uri = true;
		return 0;
	case OPT_READ_ONLY:
		a->attach.readonly = true;
		return 0;
	case OPT_SNAPSHOT:
		a->attach.snapshot = arg;
		return 0;
	case OPT_TRACE:
		a->attach.trace = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->attach.image)
			argp_error(s, "what is '%s'?", arg);
		a->attach.image = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->attach.image)
			argp_error(s, "which image?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child kids[] = {
	{&cli_open_argp, 0, NULL, 10}, {&cli_write_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	.options = options,
	.parser = parse,
	.children = kids,
	.args_doc = "IMAGE",
	.doc = "Serve an image over NBD, and print the options by which QEMU boots from it.\v"
	       "The image is opened when QEMU connects and closed when it is gone; `lsvd unmap IMAGE` "
	       "ends the gateway.\n"
	       "example: qemu-system-x86_64 -m 1G $(lsvd qemu-args file:/srv/vols/vm1)"};

/* In an option of QEMU's, a comma is written twice. */
static char *doubled(const char *text)
{
	char *out = malloc(2 * strlen(text) + 1), *to = out;

	for (; out && *text; *to++ = *text++)
		if (*text == ',')
			*to++ = ',';
	if (out)
		*to = 0;
	return out;
}

static char *drive_text(const struct qemu_args *a, const char *socket, const char *export)
{
	char *s = doubled(socket), *e = doubled(export), *out = NULL;

	if (s && e &&
		asprintf(&out,
			"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=%s,"
			"file.export=%s,if=%s,discard=unmap,detect-zeroes=unmap%s%s%s",
			s, e, a->interface ? a->interface : "virtio",
			a->attach.readonly ? ",readonly=on" : "", a->id ? ",id=" : "",
			a->id ? a->id : "") < 0)
		out = NULL;
	free(s);
	free(e);
	return out;
}

static int print(const struct qemu_args *a, const char *socket, const char *export)
{
	char *drive = drive_text(a, socket, export), *uri;

	if (asprintf(&uri, "nbd+unix:///%s?socket=%s", export, socket) < 0)
		uri = NULL;
	if (!drive || !uri)
		return cli_fail("out of memory");
	if (a->attach.open.json)
		cli_print_json(json_pack("{s:s,s:s,s:s,s:s}", "drive", drive, "uri", uri, "socket",
			socket, "export", export));
	else if (a->uri)
		printf("%s\n", uri);
	else
		printf("-drive %s\n", drive);
	free(drive);
	free(uri);
	return CLI_OK;
}

static int run_qemu_args(int argc, char **argv)
{
	struct qemu_args a = {0};
	char socket[STATE_PATH];
	const char *name;
	struct mapping m;
	struct server s;
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	if (a.attach.snapshot || strchr(a.attach.image, '@'))
		a.attach.readonly = true;
	if (a.socket) {
		name = strrchr(a.attach.image, '/');
		return print(&a, a.socket,
			a.export ? a.export
			: name	 ? name + 1
				 : a.attach.image);
	}
	rc = attach(&a.attach, true, &m, &s);
	if (rc)
		return rc;
	server_socket(&s, socket);
	return print(&a, socket, m.export);
}

static struct cli_command command = {
	.name = "qemu-args", .summary = "serve an image, print QEMU's options", .run = run_qemu_args};

__attribute__((constructor)) static void add_command(void)
{
	cli_register(&command);
}
