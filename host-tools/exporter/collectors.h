/*
 * rvmrpc-exporter: what the guests are asked for, by name
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef COLLECTORS_H
#define COLLECTORS_H

#include "page.h"

/*
 * @with: only these, NULL: all; @without: but not these.  0 and @error: one of
 * them is none.
 */
FactsKind collectors_choose(char *const *with, char *const *without,
                            GError **error);

/* Of those that were asked for, which told all there is. */
void collectors_put(Page *page, FactsKind kinds);

#endif
