// SPDX-License-Identifier: GPL-2.0-only
/*
 * The core is one text for all hosts; kbuild wants an object of this folder.
 */
#include "../../core/rvmrpc_proxy.c"
#include "../../core/rvmrpc_owner.c"
