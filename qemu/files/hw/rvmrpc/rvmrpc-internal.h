/*
 * Reverse VMRPC: what the files of hw/rvmrpc share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_INTERNAL_H
#define RVMRPC_INTERNAL_H

#include "hw/pci/pci_device.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "hw/rvmrpc/core/rvmrpc_sockserver.h"
#include "hw/rvmrpc/core/rvmrpc_text.h"
#include "qemu/event_notifier.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "system/runstate.h"

/* ---- rvmrpc-irq.c: the interrupt, an eventfd that anybody may write ---- */

typedef struct RvmrpcIrq {
    EventNotifier kick;
    int virq;                   /* of KVM's route, or -1; BQL */
} RvmrpcIrq;

/* BQL held, all of it; MSI-X is there. */
bool rvmrpc_irq_init(PCIDevice *dev, RvmrpcIrq *irq, Error **errp);
void rvmrpc_irq_exit(PCIDevice *dev, RvmrpcIrq *irq);

/* ---- rvmrpc-kvm.c ---- */

/*
 * The token of KVM's gate, which is open as long; -1: this KVM, or
 * accelerator, has none.  BQL held.
 */
int rvmrpc_kvm_gate_open(void);
/* Adds what it has counted.  Any thread. */
void rvmrpc_kvm_gate_count(int token, uint64_t *hypercalls, uint64_t *waits);

/* ---- rvmrpc-tcg.c ---- */

/* From now on vCPUs order their accesses as if they were not alone. */
void rvmrpc_tcg_keep_barriers(void);

/* ---- rvmrpc-pci.c: the device ---- */

OBJECT_DECLARE_SIMPLE_TYPE(RvmrpcPCIState, RVMRPC)

struct RvmrpcPCIState {
    PCIDevice parent_obj;

    MemoryRegion regs;
    MemoryRegion window;        /* RAM of ours; never migrated */
    EventNotifier ring;         /* the guest rings */
    RvmrpcIrq irq;
    int token;                  /* of KVM's gate, or -1 */
    RvmrpcHost *host;
    uint64_t window_size;       /* properties from here on; bytes */
    uint32_t slots;
    uint32_t request_bytes;
    uint32_t response_bytes;
    uint32_t spin_us;
    uint32_t default_timeout;   /* ms */
    uint64_t log_bytes;         /* a day, of the guest's; 0: no server */
    bool hypercall;
    bool doorbell;
    OnOffAuto kernel;           /* rvmrpc_host.ko may own the window */
    char *socket;               /* path, or NULL */
    char *socket_mode;          /* octal digits */
};

/* ---- rvmrpc-host.c ---- */

/*
 * What was told of the channel's state, and what not yet: a guest must not fill
 * a monitor that does not read.  The channel's thread; after its end whoever
 * ends it.
 */
typedef struct RvmrpcTold {
    unsigned left;              /* that may be told at once */
    int64_t since;              /* ns, when the last of them became free */
    GSource *later;             /* the state is told then; NULL: it was told */
    bool connected;             /* the state */
    RvmrpcDisconnectReason reason;  /* of the last that ended */
    bool told_connected;        /* the one that was told last */
} RvmrpcTold;

struct RvmrpcHost {
    RvmrpcPCIState *device;     /* its properties; fixed, as gate */
    RvmrpcGate gate;            /* by which the guest can call us */
    GMainContext *context;
    GMainLoop *loop;
    QemuThread thread;
    RvmrpcChannel *channel;     /* fixed until the end, as those below */
    RvmrpcList *list;
    RvmrpcSockServer *server;   /* NULL: no socket */
    RvmrpcTold told;
    bool ended;                 /* thread and all it had are gone; BQL */
    bool looking;               /* the main thread uses the channel; atomic */
    bool offer_due;             /* the kernel has not been asked yet; BQL */
    VMChangeStateEntry *state_entry;
    NotifierWithReturn migration_notifier;
    Notifier suspend_notifier;
    Notifier wakeup_notifier;
    Notifier shutdown_notifier;
    Notifier exit_notifier;
};

typedef struct RvmrpcHostConfig {
    RvmrpcPCIState *device;
    RvmrpcGate gate;
    void *window;
    struct rvmrpc_layout layout;
    int ring_fd;
    int interrupt_fd;
} RvmrpcHostConfig;

/* BQL held.  NULL and *errp: the socket cannot be listened on. */
RvmrpcHost *rvmrpc_host_new(const RvmrpcHostConfig *config, Error **errp);
/* Ends all calls; the guest, and subscribers, are told. */
void rvmrpc_host_free(RvmrpcHost *h);
/* The guest is another one from now on, or in another state. */
void rvmrpc_host_end(RvmrpcHost *h, RvmrpcClosed why);

/* ---- rvmrpc-main.c: the procedure MAIN, a wait in the host ---- */

/* Calls of either gate, and of these that waited.  Atomic. */
extern uint64_t vmrpc_hypercalls, vmrpc_doorbells, rvmrpc_main_waits;

/* What it waits for, NULL: nothing.  @hypercall: QEMU is the gate. */
void rvmrpc_main_serve(RvmrpcChannel *ch, bool hypercall);
/* As RvmrpcChannelOps.rouse(). */
bool rvmrpc_main_rouse(void);
/* vCPUs are stopped: no wait is left in their state.  BQL held. */
void rvmrpc_main_abort(void);
/* The epoch is over: waits end.  BQL held. */
void rvmrpc_main_wake_all(void);
/* It waited for a request of that epoch.  Any thread. */
bool rvmrpc_main_waited(uint64_t epoch);

/* The VMRPC server "log", with so much for a guest; 0: none.  BQL held. */
void vmrpc_log_serve(uint64_t bytes_per_day);

/* ---- rvmrpc-event.c, rvmrpc-query.c ---- */

/*
 * Send the event of that name by QMP.  Return it as JSON, for subscribers of
 * the socket.  Any thread.
 */
char *rvmrpc_tell_connected(const RvmrpcChannelInfo *info);
char *rvmrpc_tell_disconnected(RvmrpcDisconnectReason reason);
char *rvmrpc_tell_event(const struct rvmrpc_told *told);

/* What the socket says when it is asked, JSON.  Any thread. */
char *rvmrpc_info_json(RvmrpcHost *h);

RvmrpcOs rvmrpc_os(uint32_t os);

#endif
