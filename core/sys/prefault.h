/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prefault.h - blocks of memory, touched ahead by a thread of their own.
 *
 * The first touch of memory costs the kernel's clearing of it, and in a virtual machine often the
 * host's work as well: 7 ms for 2 MiB were seen, during which a loop thread would serve nobody.
 *
 * One thread at a time calls these, but for the thread inside.
 */
#ifndef LSVD_SYS_PREFAULT_H
#define LSVD_SYS_PREFAULT_H

#include <stdbool.h>
#include <stddef.h>

struct prefault;

/* Blocks of `bytes`, a power of two from 4096, aligned to their size (so that one of 2 MiB can be a
 * huge page).  `tell` is for prefault_await: called there or on the thread, it must not call back;
 * NULL when nobody awaits.  NULL: no memory.  No thread is started yet. */
struct prefault *prefault_new(size_t bytes, void (*tell)(void *arg, bool made), void *arg);

/* A block that is ready, the caller's from now on, or NULL: none is yet; a few are being made, by a
 * thread that the first call starts. */
void *prefault_take(struct prefault *p);

/* Have `tell` called once: when a block is ready, or could not be made.  False: there is no thread,
 * and it never will be. */
bool prefault_await(struct prefault *p);

/* The same, made here and now; NULL: no memory. */
void *prefault_make(const struct prefault *p);

/* Give a block back to the system. */
void prefault_give(const struct prefault *p, void *block);

/* Give back what is ready and not taken. */
void prefault_trim(struct prefault *p);

/* Stop the thread, trim, free.  Blocks that were taken stay. */
void prefault_free(struct prefault *p);

#endif
