/*
 * Reverse VMRPC: lists of records, as QMP commands ask for them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_RECORDS_QMP_H
#define RVMRPC_RECORDS_QMP_H

#include "hw/rvmrpc/core/rvmrpc_reader.h"
#include "qapi/util.h"
#include "rvmrpc-ask.h"

/*
 * Most records of one list.  Each becomes an object of some 4 KiB on its way to
 * a monitor, so this, and not the guest, bounds what a command allocates.
 */
#define RVMRPC_RECORDS_MAX 8192

/*
 * Adds the record that @r is at to what a command answers; its fields have not
 * been looked at.  False: it lacks what every record of its kind has.
 */
typedef bool RvmrpcAddRecord(void *to, struct rvmrpc_reader *r);

typedef struct RvmrpcListing {
    uint32_t module;
    uint32_t procedure;
    uint32_t select;    /* the procedure's own, 0: the usual */
    uint64_t cursor;    /* 0: from the beginning */
    uint32_t max;       /* most records, 1 to RVMRPC_RECORDS_MAX */
    RvmrpcAddRecord *add;
    void *to;
    /* What became of it; 0 at first. */
    uint32_t count;     /* records that were added */
    uint32_t pages;     /* answers that came */
    size_t bytes;       /* in them */
    uint64_t next;      /* cursor of the rest, or of what comes later */
    bool more;          /* there is a rest */
    bool partial;       /* the guest could not look at everything */
    bool malformed;     /* then no part of it is good */
} RvmrpcListing;

/*
 * Asks until the list ends, @max records are there or the time is over.
 * Returns OK, or why there are no more: what was added before is good, unless
 * it is malformed.
 */
uint32_t coroutine_fn rvmrpc_records_fetch(RvmrpcListing *l,
                                           const RvmrpcDeadline *d);
/* The same; NULL for @info: all or nothing.  False and *errp: nothing came. */
bool coroutine_fn rvmrpc_records_get(RvmrpcListing *l, const RvmrpcDeadline *d,
                                     GuestListInfo *info, Error **errp);
/* Adds to @info what is known of a list that ended with @status. */
void rvmrpc_records_tell(const RvmrpcListing *l, uint32_t status,
                         GuestListInfo *info);

/* ---- Fields: members of QAPI types by the keys of a kind of record ---- */

typedef enum RvmrpcMemberKind {
    RVMRPC_MEMBER_NONE,
    RVMRPC_MEMBER_NUMBER,   /* uint64_t */
    RVMRPC_MEMBER_KIB,      /* the same in bytes, of KiB */
    RVMRPC_MEMBER_PERCENT,  /* double, of hundredths */
    RVMRPC_MEMBER_BOOL,     /* of 0 and 1 */
    RVMRPC_MEMBER_ENUM,     /* of a number, the first value for @base */
    RVMRPC_MEMBER_DEVICE,   /* two uint32_t, of major << 32 | minor */
    RVMRPC_MEMBER_TEXT,     /* char *, as those below */
    RVMRPC_MEMBER_NAMED,    /* enum, of a text that is one of @names */
    RVMRPC_MEMBER_MAC,      /* of bytes */
    RVMRPC_MEMBER_ADDRESS,  /* of 4 or 16 bytes */
} RvmrpcMemberKind;

#define RVMRPC_NO_HAS UINT16_MAX

typedef struct RvmrpcMember {
    RvmrpcMemberKind kind;
    uint16_t has, value;        /* offsets */
    uint16_t has2, value2;      /* DEVICE: of the minor number */
    uint32_t base;
    const QEnumLookup *names;
} RvmrpcMember;

/*
 * A member that has a has_ of its own, @pre leads to it; one that has none, as
 * it is mandatory or a pointer.
 */
#define RVMRPC_OPTIONAL(k, type, pre, member)                           \
    .kind = RVMRPC_MEMBER_##k, .has = offsetof(type, pre has_##member), \
    .value = offsetof(type, pre member)
#define RVMRPC_PLAIN(k, type, member)                                   \
    .kind = RVMRPC_MEMBER_##k, .has = RVMRPC_NO_HAS,                    \
    .value = offsetof(type, member)

/*
 * Sets the member of the field that @r is at.  False: there is none, or the
 * guest's value is not of its type.
 */
bool rvmrpc_member_set(void *to, const RvmrpcMember *members, size_t n,
                       const struct rvmrpc_reader *r);
/* Of all fields of the record; bit N is set for key N, below 32. */
uint32_t rvmrpc_members_set(void *to, const RvmrpcMember *members, size_t n,
                            struct rvmrpc_reader *r);

#endif
