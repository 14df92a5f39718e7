/*
 * What the tools show of a VM, asked for in one go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef FACTS_H
#define FACTS_H

#include "rvmrpc.h"

typedef struct Facts {
    RvmrpcVm *vm;
    GError *error;              /* why something below is missing, or NULL */
    const char *way;            /* NULL: not reached */
    RvmrpcChannel *channel;     /* NULL: not reached */
    RvmrpcMeminfo *mem;
    RvmrpcLoadavg *load;
    RvmrpcCpustat *stat;
    RvmrpcOsinfo *os;
    guint64 latency_ns;         /* of a null call; 0: not answered */
    gint64 time;                /* when, us, monotonic */
} Facts;

typedef enum {
    FACTS_CHANNEL = 1 << 0,
    FACTS_KERNEL = 1 << 1,      /* memory, load, CPU time */
    FACTS_OS = 1 << 2,
} FactsKind;

/*
 * Asks one VM, within @timeout_ms in all.  *conn is used, or made, or NULL
 * after an error that broke it.
 */
Facts *facts_gather(RvmrpcVm *vm, FactsKind kinds, RvmrpcConn **conn,
                    guint timeout_ms, GCancellable *cancellable);
void facts_free(Facts *facts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Facts, facts_free)

/* Asks all at the same time.  Returns Facts in the order of @vms. */
GPtrArray *facts_gather_all(GPtrArray *vms, FactsKind kinds, guint timeout_ms,
                            GCancellable *cancellable);

/* One word: connected, no-driver, silent, paused, absent, denied, down. */
const char *facts_state(const Facts *facts);

/* Memory in use: total - available - huge-free; FALSE: not known. */
gboolean facts_used(const Facts *facts, guint64 *used);

#endif
