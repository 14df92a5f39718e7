/*
 * Reverse VMRPC: text that comes from elsewhere
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_TEXT_H
#define RVMRPC_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * A guest's text of at most @len bytes, as QMP and INFO show it: valid UTF-8 as
 * it is, all else as in C.  That is what is no UTF-8, a backslash, control
 * characters, and those that change the order of a line: a monitor may be a
 * terminal.
 */
char *rvmrpc_text(const char *text, size_t len);

/* Permissions of a file in octal digits, as 0660 or 660.  False: they are not. */
bool rvmrpc_parse_mode(const char *text, uint32_t *mode);

#endif
