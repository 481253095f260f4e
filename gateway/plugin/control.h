/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control.h - a Unix socket by which a running gateway is told things, on a thread of its own.
 *
 * A request is one line of JSON, and so is its answer: {"ok": true, ...} or {"ok": false, "error": TEXT}.
 *
 *   {"do": "status"}                                      exports, connections, what is recorded
 *   {"do": "stats", "export": NAME}                       an open image's statistics
 *   {"do": "trace", "export": NAME, "file": PATH}         record from now on; "file": null stops
 *   {"do": "add", "export": NAME, "image": URL, ...}      "readonly", "snapshot", "trace", "open" (now, and
 *                                                         keep it so), "steal", "no_journal": optional
 *   {"do": "remove", "export": NAME}                      closes the image
 *
 * One connection is served at a time; a client that is silent for some seconds is cut off.
 */
#ifndef LSVD_GATEWAY_CONTROL_H
#define LSVD_GATEWAY_CONTROL_H

#include "gateway/plugin/exports.h"

struct control;

/* A socket that a dead server has left is replaced; -EADDRINUSE: a server listens there. */
int control_open(struct gateway *gw, const char *path, struct control **out, char *why);

/* Ends the thread, removes the socket. */
void control_close(struct control *c);

#endif
