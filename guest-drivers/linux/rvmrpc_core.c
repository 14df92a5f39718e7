// SPDX-License-Identifier: GPL-2.0-only
/*
 * The core is one text for all hosts; kbuild wants an object of this folder.
 */
#include "../../core/rvmrpc_server.c"
#include "../../core/rvmrpc_builtin.c"
#include "../../core/rvmrpc_guest.c"
#include "../../core/rvmrpc_records.c"
#include "../../core/rvmrpc_lists.c"
#include "../../core/rvmrpc_care.c"
#include "../../core/rvmrpc_files.c"
#include "../../core/rvmrpc_connect.c"
#include "../../core/rvmrpc_files_change.c"
#include "../../core/rvmrpc_programs.c"
#include "../../core/rvmrpc_tell.c"
