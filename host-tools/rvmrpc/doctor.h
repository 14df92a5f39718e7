/*
 * The rvmrpc command: doctor, what its files share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef DOCTOR_H
#define DOCTOR_H

#include "rvmrpc-cmd.h"

/* What is asked, each with a time of its own. */
typedef enum {
    PART_MEMORY,
    PART_PRESSURE,
    PART_VMSTAT,
    PART_CPU,
    PART_LARGEST,               /* who has most memory */
    PART_TASKS,                 /* all processes, twice */
    PART_BLOCKED,               /* twice */
    PART_FILESYSTEMS,
    PART_DISKS,                 /* twice */
    PART_FREEZE,
    PART_CLOCK,
    PART_LOG,                   /* the last messages */
    PARTS
} PartKind;

/* One thread's until all have ended. */
typedef struct Part {
    GError *error;              /* why nothing is known, or NULL */
    /* By kind, one of these: */
    RvmrpcMeminfo *mem;
    RvmrpcCpustat *stat[2];     /* the second may be NULL */
    RvmrpcRecords *records[2];  /* likewise */
    RvmrpcFrozen frozen;
    RvmrpcClock clock;
    double between_s;           /* the two */
} Part;

/* A sentence of the first section. */
typedef struct Finding {
    const char *code;
    gboolean unknown;           /* it says what could not be found out */
    char *text;                 /* escaped */
} Finding;

typedef struct Doctor {
    RvmrpcVm *vm;
    Facts *facts;               /* of the channel */
    guint64 null_ns;            /* a null call took so long; 0: not answered */
    GError *null_error;         /* why not */
    Part parts[PARTS];
    GPtrArray *findings;        /* of Finding */
    guint timeout_ms;           /* of each part */
    GAsyncQueue *turns;         /* of who may call now */
    int deaf;                   /* atomic: its kernel has ceased to answer */
} Doctor;

typedef struct PartName {
    const char *name;           /* in JSON */
    const char *what;           /* "cannot say WHAT" */
} PartName;

extern const PartName part_names[PARTS];

/* Where a second look is missing. */
#define ONCE_TEXT "they could be looked at only once"

/* An error's message, escaped, without the VM's name. */
char *reason_text(const Doctor *d, const GError *error);

/* Fills the findings. */
void doctor_diagnose(Doctor *d);

/* Who used CPU time between the two lists: shares of one CPU, most first. */
typedef struct Use {
    const RvmrpcRecord *task;
    double share;
} Use;
GArray *tasks_use(const Part *tasks);

/* The report; newly allocated. */
char *doctor_text(const Doctor *d);
char *doctor_json(const Doctor *d);
/* The first section of it. */
char *doctor_findings_text(const Doctor *d);

#endif
