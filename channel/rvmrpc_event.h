/*
 * Reverse VMRPC: what a guest has told
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_EVENT_H
#define RVMRPC_EVENT_H

#include "rvmrpc_channel.h"

typedef enum RvmrpcEventType {
    RVMRPC_EVENT_OOM_KILL,
    RVMRPC_EVENT_STALL,
    RVMRPC_EVENT_PANIC,
    RVMRPC_EVENT_OOPS,
    RVMRPC_EVENT_NO_MEMORY,
    RVMRPC_EVENT_LOW_MEMORY,
    RVMRPC_EVENT_OTHER,         /* of another module, or of a newer guest */
} RvmrpcEventType;

/* As QMP's GUEST_KERNEL_EVENT; texts as rvmrpc_text() makes them. */
typedef struct RvmrpcEvent {
    RvmrpcEventType type;
    uint32_t module;
    uint32_t kind;
    uint64_t number;            /* of this epoch */
    uint64_t time_ns;           /* since the guest booted */
    uint64_t missed;            /* before it */
    bool has_pid, has_rss, has_share, has_ended;
    uint64_t pid;
    uint64_t rss;               /* bytes */
    uint64_t share;             /* hundredths of a percent */
    bool ended;
    char *text, *process, *data;    /* NULL: there is none; base64 */
} RvmrpcEvent;

/* What its fields say; nothing, if they are malformed. */
void rvmrpc_event_read(RvmrpcEvent *e, const struct rvmrpc_told *told);
void rvmrpc_event_clear(RvmrpcEvent *e);

#endif
