/*
 * The rvmrpc command: balance, who is asked for how much
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Arithmetic alone: no clock, no call, no text.
 */
#ifndef POLICY_H
#define POLICY_H

#include <glib.h>

/* Less than that is asked of nobody. */
#define POLICY_LEAST    (16 << 20)

typedef enum PolicyReason {
    POLICY_ENOUGH,              /* the host has what it wants */
    POLICY_ASKED,
    POLICY_NOT_NEEDED,          /* others can spare it better */
    POLICY_UNKNOWN,             /* it does not tell what there is to know */
    POLICY_FIRST,               /* rates take two looks */
    POLICY_PRESSURE,            /* its tasks wait for memory */
    POLICY_SWAPS,               /* or it swaps in, or had to wait for a page */
    POLICY_RISING,              /* its pressure rises */
    POLICY_HOT,                 /* what it drops it wants again */
    POLICY_FLOOR,
    POLICY_LITTLE,              /* nothing worth the asking */
    POLICY_WAITS,               /* it freed nothing that came, or its pressure rose */
} PolicyReason;

/* One look at a guest. */
typedef struct PolicyLook {
    gboolean has_memory;
    guint64 total, free, available, cached;     /* bytes */
    gboolean has_psi;           /* FALSE: its kernel does not watch it */
    gboolean psi_unknown;       /* nor is it known whether it does */
    double psi;                 /* percent of 10 s in which some task waited */
    gboolean first;             /* no rates yet, and no error either */
    gboolean has_rates;
    double refault, swap_in;    /* bytes a second */
    double stalls;              /* times a second */
} PolicyLook;

typedef struct PolicyGuest {
    PolicyLook look;            /* in */
    guint64 floor;              /* in: bytes that it keeps in use at least */
    PolicyReason reason;        /* out */
    guint64 ask;                /* out: bytes; 0: nothing */
    guint64 spare, room;        /* out: what it can do without; above its floor */
    double pressure;            /* out: psi without what asking it made */
    /* Its past; zero for one that is new. */
    double before;              /* pressure */
    double own;                 /* percent of psi that is of our asking */
    guint wait, backoff;        /* rounds */
} PolicyGuest;

typedef struct PolicyHost {
    guint64 available, target;  /* in: bytes */
    double limit;               /* in: percent of psi from which on nobody is asked */
    gboolean asking;            /* out */
    guint64 need;               /* out: bytes that are missing */
    /* Its past; zero at first. */
    guint64 last, coming;       /* available; what guests freed, and is not here */
    guint futile;               /* rounds in a row that brought the host nothing */
} PolicyHost;

/* @seconds: since the last round. */
void policy_decide(PolicyHost *host, PolicyGuest *const *guests, guint count,
                   double seconds);

/*
 * After a guest was asked.  @freed: bytes, 0 when it failed; @seconds: that it
 * took.
 */
void policy_told(PolicyHost *host, PolicyGuest *guest, guint64 freed,
                 double seconds);

/* A word of it, as JSON has it. */
const char *policy_reason_name(PolicyReason reason);

#endif
