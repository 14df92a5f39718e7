/*
 * Reverse VMRPC: what a guest says that can be called
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RV_LIST_H
#define RV_LIST_H

#include "rv_channel.h"

typedef struct RvList RvList;

RvList *rv_list_new(RvChannel *ch);
/* No call of its is under way any more. */
void rv_list_free(RvList *list);

/* Another epoch: nothing of the old one's list holds. */
void rv_list_clear(RvList *list);

/* What there is, struct rvmrpc_list_entry; the list's.  Asks the guest again, at most once a second. */
const GArray *rv_list_get(RvList *list);

#endif
