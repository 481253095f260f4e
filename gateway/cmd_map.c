/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cmd_map.c - `lsvd map IMAGE`, `lsvd unmap DEVICE|IMAGE`, `lsvd mapped`: images as block devices.
 *
 * attach.c does the work: a gateway for the image's pool, one for all images of that pool, and a device
 * on it.  State is under /run, so that `lsvd mapped` tells what has died, and `lsvd unmap` cleans up.
 */
#include "gateway/attach.h"
#include "gateway/client.h"
#include "gateway/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_READ_ONLY = 'r', OPT_SNAPSHOT = 's', OPT_TRACE = 't', OPT_METHOD = 'm' };

static const struct argp_option map_options[] = {
	{"read-only", OPT_READ_ONLY, NULL, 0, "change nothing; needs no lock", 0},
	{"snapshot", OPT_SNAPSHOT, "NAME", 0, "the image as it was then (IMAGE@NAME), read-only", 0},
	{"trace", OPT_TRACE, "FILE", 0, "record every request to FILE; `lsvd trace stop` ends it", 0},
	{"method", OPT_METHOD, "auto|nbd|loop", 0,
		"the kernel's nbd client, or nbdfuse and a loop device", 0},
	{0}};

static error_t parse_map(int key, char *arg, struct argp_state *s)
{
	struct attach_options *a = s->input;

	switch (key) {
	case ARGP_KEY_INIT:
		s->child_inputs[0] = s->child_inputs[1] = &a->open;
		return 0;
	case OPT_READ_ONLY:
		a->readonly = true;
		return 0;
	case OPT_SNAPSHOT:
		a->snapshot = arg;
		return 0;
	case OPT_TRACE:
		a->trace = arg;
		return 0;
	case OPT_METHOD:
		a->method = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->image)
			argp_error(s, "what is '%s'?", arg);
		a->image = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->image)
			argp_error(s, "which image?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child map_kids[] = {
	{&cli_open_argp, 0, NULL, 10}, {&cli_write_argp, 0, NULL, 0}, {0}};
static const struct argp map_argp = {
	.options = map_options,
	.parser = parse_map,
	.children = map_kids,
	.args_doc = "IMAGE",
	.doc = "Attach an image as a block device, and print its name. As root.\v"
	       "Images of one pool share one gateway, and its cache.\n"
	       "example: mkfs.ext4 $(lsvd map file:/srv/vols/vm1)"};

static json_t *mapping_json(const char *run, const struct mapping *m)
{
	char socket[STATE_PATH], control[STATE_PATH], trouble[CLIENT_WHY + 32], how[600];
	struct server s;

	server_load(run, m->server, &s);
	server_socket(&s, socket);
	server_control(&s, control);
	attach_trouble(run, m, trouble, sizeof(trouble));
	if (!device_in_use(m, how, sizeof(how)))
		how[0] = 0;
	return json_pack("{s:s,s:s?,s:s,s:s,s:b,s:s,s:s,s:s,s:i,s:b,s:s?}", "image", m->image,
		"device", m->device[0] ? m->device : NULL, "method", m->method, "export", m->export,
		"readonly", m->readonly, "state", trouble[0] ? trouble : "ok", "socket", socket,
		"control", control, "gateway_pid", (int)s.proc.pid, "in_use", how[0] != 0, "use",
		how[0] ? how : NULL);
}

static int need_root(const char *what)
{
	return geteuid() == 0 ? CLI_OK
			      : cli_fail("%s makes a block device, for which it must be root; try "
					 "`sudo lsvd %s ...`, or `lsvd qemu-args` for QEMU",
					what, what);
}

static int run_map(int argc, char **argv)
{
	struct attach_options a = {0};
	char run[STATE_PATH];
	struct mapping m;
	struct server s;
	int rc;

	if (argp_parse(&map_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	rc = need_root("map");
	if (rc)
		return rc;
	a.method = device_method(a.method);
	if (!a.method)
		return CLI_FAILED;
	rc = attach(&a, false, &m, &s);
	if (rc)
		return rc;
	if (a.open.json)
		cli_print_json(state_dir(run) < 0 ? json_null() : mapping_json(run, &m));
	else
		printf("%s\n", m.device);
	return CLI_OK;
}
CLI_COMMAND(map, "attach an image as a block device", run_map)

/* ---- unmap ---- */

struct unmap_args {
	const char *what;
	bool quiet, all;
};

static const struct argp_option unmap_options[] = {
	{"all", 'a', NULL, 0, "everything that `lsvd mapped` lists", 0},
	{"quiet", 'q', NULL, 0, "do not tell what had died", 0},
	{0}};

static error_t parse_unmap(int key, char *arg, struct argp_state *s)
{
	struct unmap_args *a = s->input;

	switch (key) {
	case 'a':
		a->all = true;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->what)
			argp_error(s, "what is '%s'?", arg);
		a->what = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->what == !a->all)
			argp_error(s, "a device, an image, or --all?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp unmap_argp = {
	.options = unmap_options,
	.parser = parse_unmap,
	.args_doc = "DEVICE|IMAGE",
	.doc = "Detach an image that `lsvd map` or `lsvd qemu-args` attached.\v"
	       "Waits until what was written is in the store. What is mounted is not detached: "
	       "umount it first. It also cleans up what a gateway that died has left.\n"
	       "example: lsvd unmap /dev/loop0"};

static int detach_all(bool quiet)
{
	struct mapping *m = calloc(STATE_MAX, sizeof(*m));
	char run[STATE_PATH];
	unsigned n = m && state_dir(run) == 0 ? mapping_list(run, m, STATE_MAX) : 0;
	int rc = CLI_OK;

	for (unsigned i = 0; i < n; i++)
		if (detach(m[i].image, quiet))
			rc = CLI_FAILED;
	free(m);
	return rc;
}

static int run_unmap(int argc, char **argv)
{
	struct unmap_args a = {0};

	if (argp_parse(&unmap_argp, argc, argv, 0, NULL, &a))
		return CLI_USAGE;
	return a.all ? detach_all(a.quiet) : detach(a.what, a.quiet);
}
CLI_COMMAND(unmap, "detach an image that was mapped", run_unmap)

/* ---- mapped ---- */

static error_t parse_mapped(int key, char *arg, struct argp_state *s)
{
	(void)arg;
	if (key != 'j')
		return ARGP_ERR_UNKNOWN;
	*(bool *)s->input = true;
	return 0;
}

static const struct argp_option mapped_options[] = {{"json", 'j', NULL, 0, "print JSON", 0}, {0}};
static const struct argp mapped_argp = {
	.options = mapped_options,
	.parser = parse_mapped,
	.doc = "List the images that are attached to this host by `lsvd map` and `lsvd qemu-args`.\v"
	       "Exit code 1: something of it has died; `lsvd unmap` cleans up.\n"
	       "example: lsvd mapped --json"};

static void print_mapping(const struct mapping *m, const char *trouble)
{
	char how[600];

	bool qemu = !strcmp(m->method, "none");

	printf("%-12s %-4s %-4s %s\n", qemu ? "(QEMU)" : m->device[0] ? m->device : "(none)",
		qemu ? "nbd" : m->method, m->readonly ? "ro" : "rw", m->image);
	if (trouble[0])
		printf("             %s; `lsvd unmap %s` cleans up\n", trouble,
			m->device[0] ? m->device : m->image);
	if (device_in_use(m, how, sizeof(how)))
		printf("             %s\n", how);
}

static int run_mapped(int argc, char **argv)
{
	struct mapping *m = calloc(STATE_MAX, sizeof(*m));
	char run[STATE_PATH], trouble[CLIENT_WHY + 32];
	json_t *list = json_array();
	bool json = false;
	int rc = CLI_OK;
	unsigned n;

	if (argp_parse(&mapped_argp, argc, argv, 0, NULL, &json) || !m || state_dir(run) < 0) {
		free(m);
		json_decref(list);
		return CLI_USAGE;
	}
	n = mapping_list(run, m, STATE_MAX);
	for (unsigned i = 0; i < n; i++) {
		attach_trouble(run, &m[i], trouble, sizeof(trouble));
		if (trouble[0])
			rc = CLI_FAILED;
		if (json)
			json_array_append_new(list, mapping_json(run, &m[i]));
		else
			print_mapping(&m[i], trouble);
	}
	if (json)
		cli_print_json(list);
	else
		json_decref(list);
	free(m);
	return rc;
}
CLI_COMMAND(mapped, "list the images that are attached", run_mapped)
