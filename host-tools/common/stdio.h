/*
 * Standard input and output of the tools
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef STDIO_CHECKED_H
#define STDIO_CHECKED_H

#include <glib.h>

/*
 * First of all in main(): no file gets the number of a standard one that is
 * closed, and at the end output that was lost is an error, with exit status 1.
 */
void stdio_begin(const char *program);

/* Lines for as long as somebody reads: that nobody does is no error. */
void stdio_may_stop(void);

/* FALSE: what was printed does not arrive. */
gboolean stdio_flush(void);

#endif
