/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What rvmrpc-serve asks of a guest's system; os-linux.c and os-freebsd.c.
 */
#ifndef RVMRPC_USER_OS_H
#define RVMRPC_USER_OS_H

#include <sys/types.h>
#include <time.h>

/* Goes on while the machine sleeps, as deadlines do. */
extern const clockid_t os_clock;

/* A file of no name, empty, close-on-exec; -1. */
int os_memory_file(void);

/* In a new process: it is killed when its parent ends. */
void os_die_with_parent(void);

/* A descriptor, close-on-exec, that poll() says POLLIN of once a child, not waited for yet, has ended; -1. */
int os_watch(pid_t child);

#endif /* RVMRPC_USER_OS_H */
