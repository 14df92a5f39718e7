/*
 * The rvmrpc command: balance, what its files share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BALANCE_H
#define BALANCE_H

#include "policy.h"
#include "rvmrpc-cmd.h"

typedef struct BalanceConfig {
    guint64 target;             /* bytes of the host's available memory */
    guint64 floor;              /* where a VM has none of its own */
    GHashTable *floors;         /* guint64 by name or UUID */
    double limit;               /* percent of pressure */
    double interval;            /* seconds */
} BalanceConfig;

/* Of the file and the options; NULL: the error was printed. */
BalanceConfig *balance_config_load(void);
void balance_config_free(BalanceConfig *config);
guint64 balance_config_floor(const BalanceConfig *config, const RvmrpcVm *vm);

/* A VM in the rounds that it is there. */
typedef struct Balanced {
    RvmrpcVm *vm;
    PolicyGuest guest;
    char *state;                /* of the channel, where it is not connected */
    /* Counters of the look before, of one boot of the guest. */
    gboolean counted;
    guint64 epoch, refaults, swap_ins, stalls;
    gint64 time;                /* when, us */
    gboolean seen;              /* in this round */
    /* What asking gave: */
    RvmrpcShrunk shrunk;
    GError *error;
    double seconds;
} Balanced;

/* A round, before and after those whose turn it was were asked. */
void balance_show(const PolicyHost *host, const GPtrArray *all);
void balance_show_results(const GPtrArray *all);
/* Both, as one line of JSON. */
void balance_show_json(const PolicyHost *host, const GPtrArray *all);

#endif
