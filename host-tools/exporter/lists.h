/*
 * rvmrpc-exporter: metrics of what the guests tell as lists
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef LISTS_H
#define LISTS_H

#include "page.h"

/* Pressure, virtual memory, disks, interfaces, blocked tasks, file systems. */
void lists_put(Page *page);

#endif
