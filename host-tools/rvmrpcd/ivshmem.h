/*
 * rvmrpcd: QEMU's ivshmem protocol, the server's part
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef IVSHMEM_H
#define IVSHMEM_H

#include <stdbool.h>

/*
 * Sends what QEMU's ivshmem waits for, all at once.  False: it has gone, or is
 * no QEMU.
 */
bool ivshmem_greet(int sock, int memory, int doorbell, int interrupt);
/* Instead: QEMU does not start, and says that the server's version is wrong. */
void ivshmem_refuse(int sock);

#endif
