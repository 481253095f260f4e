/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log.h - what an operator must hear of although no call failed: a leg of the pool that was
 * dropped.
 *
 * One line a message, to stderr unless the program took the channel (lsvd_set_log in lsvd.h).
 * Never on the data path.  Any thread.
 */
#ifndef LSVD_SYS_LOG_H
#define LSVD_SYS_LOG_H

__attribute__((format(printf, 1, 2))) void log_say(const char *fmt, ...);

#endif
