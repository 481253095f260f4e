/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/attach.h"
#include "gateway/client.h"
#include "gateway/device.h"
#include "gateway/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAP_MS = 50, REMOVE_MS = 10000 };

/* ---- finding ---- */

static bool is_named(const struct mapping *m, const char *what, const char *url)
{
	return !strcmp(m->device, what) || !strcmp(m->image, url) || !strcmp(m->export, what);
}

static bool find(const char *run, const char *what, struct mapping *m)
{
	struct mapping *all = calloc(STATE_MAX, sizeof(*all));
	char *url = url_absolute(what);
	unsigned n = all && url ? mapping_list(run, all, STATE_MAX) : 0;
	bool found = false;

	for (unsigned i = 0; i < n && !found; i++) {
		found = what[0] && is_named(&all[i], what, url);
		if (found)
			*m = all[i];
	}
	free(url);
	free(all);
	return found;
}

bool attach_find(const char *what, char run[STATE_PATH], struct mapping *m)
{
	return state_dir(run) == 0 && access(run, F_OK) == 0 && find(run, what, m);
}

void attach_trouble(const char *run, const struct mapping *m, char *out, size_t len)
{
	char why[CLIENT_WHY];
	struct server s;

	if (server_load(run, m->server, &s) && proc_alive(&s.proc)) {
		snprintf(out, len, "%s", device_trouble(run, m));
		return;
	}
	server_complaint(&s, why, sizeof(why));
	snprintf(out, len, "the gateway died%s%s", why[0] ? ": " : "", why);
}

/* ---- attaching ---- */

/* The image's name, with a number behind it when another one has it. */
static void name_export(const char *run, const char *image, char out[100])
{
	const char *name = strrchr(image, '/');
	char base[80];
	struct mapping m;

	if (!name)
		name = strrchr(image, ':');
	snprintf(base, sizeof(base), "%s", name && name[1] ? name + 1 : "image");
	snprintf(out, 100, "%s", base);
	for (unsigned i = 2; find(run, out, &m); i++)
		snprintf(out, 100, "%s-%u", base, i);
}

static json_t *add_request(
	const struct attach_options *o, const struct mapping *m, const char *trace)
{
	/* With a device it stays open, whatever becomes of connections; QEMU's may come and go. */
	return json_pack("{s:s,s:s,s:s,s:b,s:s?,s:b,s:b,s:b}", "do", "add", "export", m->export,
		"image", m->image, "readonly", m->readonly, "trace", trace, "open",
		o->method != NULL, "steal", o->open.steal, "no_journal", o->open.no_journal);
}

/* The server has it as an export. */
static int export_it(const struct attach_options *o, const struct server *s, struct mapping *m)
{
	char control[STATE_PATH], why[CLIENT_WHY];
	char *trace = o->trace ? path_absolute(o->trace) : NULL;
	json_t *reply;

	server_control(s, control);
	reply = client_ask(control, add_request(o, m, trace), why);
	free(trace);
	json_decref(reply);
	return reply ? CLI_OK : cli_fail("%s", why);
}

/* Nobody is connected to it any more, or only for a moment. */
static json_t *remove_export(const struct server *s, const char *export, char *why)
{
	struct timespec ts = {.tv_nsec = NAP_MS * 1000000L};
	char control[STATE_PATH];
	json_t *reply;

	server_control(s, control);
	for (int ms = 0;; ms += NAP_MS) {
		reply = client_ask(
			control, json_pack("{s:s,s:s}", "do", "remove", "export", export), why);
		if (reply || ms >= REMOVE_MS || !strstr(why, "is in use"))
			return reply;
		nanosleep(&ts, NULL);
	}
}

/* The device, and the state that tells of it.  The state is there first: who interrupts this leaves what
 * `lsvd mapped` shows and `lsvd unmap` cleans up. */
static int attach_device(const char *run, const struct attach_options *o, const char *socket,
	struct mapping *m)
{
	int rc = mapping_save(run, m);

	if (rc == CLI_OK && o->method) {
		rc = device_attach(run, socket, m);
		if (rc == CLI_OK) {
			rc = mapping_save(run, m);
			if (rc)
				(void)device_detach(run, m, false);
		}
	}
	if (rc)
		mapping_forget(run, m);
	return rc;
}

static int attach_new(const char *run, const struct attach_options *o, struct mapping *m,
	struct server *s)
{
	char socket[STATE_PATH], why[CLIENT_WHY];
	int rc = server_get(run, &o->open, s);

	if (rc)
		return rc;
	m->server = s->n;
	server_socket(s, socket);
	/* The name is ours: an export of that name is what an interrupted attaching left. */
	json_decref(remove_export(s, m->export, why));
	rc = export_it(o, s, m);
	if (rc == CLI_OK) {
		rc = attach_device(run, o, socket, m);
		if (rc)
			json_decref(remove_export(s, m->export, why));
	}
	if (rc && server_unused(run, s->n))
		server_stop(s);
	return rc;
}

static int fill(const char *run, const struct attach_options *o, struct mapping *m)
{
	char *url = url_absolute(o->image);
	int n = url ? snprintf(m->image, sizeof(m->image), "%s%s%s", url, o->snapshot ? "@" : "",
			      o->snapshot ? o->snapshot : "")
		    : -1;

	free(url);
	if (n < 0 || n >= (int)sizeof(m->image))
		return cli_fail("'%s' is too long", o->image);
	m->n = state_free_number(run, "map-%u.json");
	m->readonly = o->readonly || strchr(m->image, '@');
	snprintf(m->method, sizeof(m->method), "%s", o->method ? o->method : "none");
	name_export(run, m->image, m->export);
	return CLI_OK;
}

static int attach_known(const char *run, bool again, struct mapping *m, struct server *s)
{
	char trouble[CLIENT_WHY + 32];

	attach_trouble(run, m, trouble, sizeof(trouble));
	if (trouble[0])
		return cli_fail("%s was attached, and then %s; `lsvd unmap %s` cleans up", m->image,
			trouble, m->image);
	if (!again)
		return cli_fail("%s is attached already (%s); `lsvd unmap` undoes that", m->image,
			m->device[0] ? m->device : "for QEMU");
	return server_load(run, m->server, s) ? CLI_OK : CLI_FAILED;
}

int attach(const struct attach_options *o, bool again, struct mapping *m, struct server *s)
{
	char run[STATE_PATH];
	int lock = state_lock(run), rc;
	struct mapping old;

	if (lock < 0)
		return CLI_FAILED;
	*m = (struct mapping){0};
	rc = fill(run, o, m);
	if (rc == CLI_OK && find(run, m->image, &old)) {
		*m = old;
		rc = attach_known(run, again, m, s);
	} else if (rc == CLI_OK) {
		rc = attach_new(run, o, m, s);
	}
	close(lock);
	return rc;
}

/* ---- detaching ---- */

static int let_go(const char *run, const struct mapping *m, bool quiet)
{
	char how[600], why[CLIENT_WHY];
	struct server s;
	bool dead = !server_load(run, m->server, &s) || !proc_alive(&s.proc);
	json_t *reply;
	int rc;

	if (device_in_use(m, how, sizeof(how)))
		return cli_fail("%s is %s", m->device, how);
	rc = device_detach(run, m, dead);
	if (rc)
		return rc;
	if (!dead) {
		reply = remove_export(&s, m->export, why);
		if (!reply && strstr(why, "is in use"))
			return cli_fail("%s is in use; end what is connected to it", m->image);
		if (!reply && !strstr(why, "there is no export"))
			rc = cli_fail("%s", why);
		json_decref(reply);
	} else if (!quiet) {
		fprintf(stderr,
			"lsvd: the gateway of %s had died; what was acknowledged is in the pool's "
			"journal, and the next opening brings it in\n",
			m->image);
	}
	mapping_forget(run, m);
	if (server_unused(run, m->server))
		server_stop(&s);
	return rc;
}

int detach(const char *what, bool quiet)
{
	char run[STATE_PATH];
	int lock = state_lock(run), rc;
	struct mapping m;

	if (lock < 0)
		return CLI_FAILED;
	if (find(run, what, &m))
		rc = let_go(run, &m, quiet);
	else
		rc = cli_fail("'%s' is not mapped; `lsvd mapped` lists what is", what);
	close(lock);
	return rc;
}
