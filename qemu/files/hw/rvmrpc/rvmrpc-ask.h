/*
 * Reverse VMRPC: calls of QMP commands, and the time that these have
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_ASK_H
#define RVMRPC_ASK_H

#include "hw/rvmrpc/rvmrpc.h"

/* The time that a command has for all its calls together. */
typedef struct RvmrpcDeadline {
    int64_t start;      /* ns */
    uint32_t timeout;   /* ms */
} RvmrpcDeadline;

/*
 * Begins it, with @usual ms if the user names none, or the device's for 0.
 * False and *errp: there is no device, or @timeout is out of range.  BQL held.
 */
bool rvmrpc_deadline_begin(RvmrpcDeadline *d, bool has_timeout,
                           uint32_t timeout, uint32_t usual, Error **errp);
/* In ms; 0: it is over. */
uint32_t rvmrpc_deadline_left(const RvmrpcDeadline *d);

/* What is called. */
typedef struct RvmrpcTarget {
    uint32_t module;
    uint32_t procedure;
    uint16_t version;   /* of the module that was found by name, else 0 */
    uint32_t list;      /* generation of the list that had the name, else 0 */
} RvmrpcTarget;

/*
 * Calls and waits, for 1 ms if the time is over.  Returns the outcome; *call is
 * the call, or NULL without a device, which may have gone meanwhile.
 */
uint32_t coroutine_fn rvmrpc_ask(const RvmrpcTarget *target, const void *arg,
                                 uint32_t arglen, const RvmrpcDeadline *d,
                                 RvmrpcCall **call);
/* Whether the guest answered OK, of what rvmrpc_ask() gave; else *errp. */
bool rvmrpc_check_ok(uint32_t status, const RvmrpcCall *call, Error **errp);
/* Both; NULL and *errp unless the guest answered OK. */
RvmrpcCall *coroutine_fn rvmrpc_ask_ok(uint32_t module, uint32_t procedure,
                                       const void *arg, uint32_t arglen,
                                       const RvmrpcDeadline *d, Error **errp);

/* What an outcome other than OK means, for people. */
const char *rvmrpc_status_hint(uint32_t status);
/* It, as the error of a typed command. */
void rvmrpc_status_error(uint32_t status, Error **errp);
void rvmrpc_malformed_error(Error **errp);

#endif
