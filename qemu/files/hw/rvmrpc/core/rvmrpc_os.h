/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What core/ needs of QEMU. */
#ifndef RVMRPC_OS_H
#define RVMRPC_OS_H

#include "qemu/osdep.h"

/* Speculation across a bounds check is no boundary within one process. */
#define rvmrpc_index_nospec(index, size) (index)

#endif
