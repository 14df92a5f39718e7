/*
 * What the tools show of a VM, asked for in one go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef FACTS_H
#define FACTS_H

#include "rvmrpc.h"

/* Lists of records, in the order in which they are asked for: what waits last. */
typedef enum {
    FACTS_LIST_PSI,
    FACTS_LIST_VMSTAT,
    FACTS_LIST_DISKS,
    FACTS_LIST_NET,
    FACTS_LIST_BLOCKED,
    FACTS_LIST_FS,
    FACTS_LISTS
} FactsList;

/* Of more threads that hang nobody wants to hear. */
#define FACTS_BLOCKED_MAX 1024

typedef struct Facts {
    RvmrpcVm *vm;
    GError *error;              /* why one of channel to stat is missing, or NULL */
    const char *way;            /* NULL: not reached */
    RvmrpcChannel *channel;     /* NULL: not reached */
    RvmrpcMeminfo *mem;
    RvmrpcLoadavg *load;
    RvmrpcCpustat *stat;
    RvmrpcOsinfo *os;
    gboolean has_clock;
    RvmrpcClock clock;
    RvmrpcRecords *list[FACTS_LISTS];   /* NULL: not asked for, or not told */
    guint64 latency_ns;         /* of a null call; 0: not answered */
    gint64 time;                /* when, us, monotonic */
} Facts;

typedef enum {
    FACTS_CHANNEL = 1 << 0,
    FACTS_PING = 1 << 1,        /* who does not answer is asked nothing else */
    FACTS_KERNEL = 1 << 2,      /* memory, load, CPU time */
    FACTS_OS = 1 << 3,
    FACTS_CLOCK = 1 << 4,
    FACTS_FIRST_LIST = 1 << 5,
} FactsKind;

/* The kind of a list. */
#define FACTS_LIST(list) (FACTS_FIRST_LIST << (list))

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

/* The guest told all of a list. */
gboolean facts_whole(const Facts *facts, FactsList list);

/* Its first record of a kind; of PSI, of a resource.  NULL: none. */
const RvmrpcRecord *facts_record(const Facts *facts, FactsList list,
                                 guint kind, const char *resource);

/* Memory in use: total - available - huge-free; FALSE: not known. */
gboolean facts_used(const Facts *facts, guint64 *used);

#endif
