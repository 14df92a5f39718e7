/*
 * Reverse VMRPC: the device's interrupt, an eventfd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * With KVM's interrupt controller it is an irqfd, and QEMU does nothing; else,
 * and as long as the vector is masked or has no route, the main loop does it.
 */
#include "qemu/osdep.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "system/kvm.h"
#include "rvmrpc-internal.h"

static void kick_readable(EventNotifier *n)
{
    RvmrpcPCIState *s = container_of(n, RvmrpcPCIState, irq.kick);

    if (event_notifier_test_and_clear(n)) {
        msix_notify(PCI_DEVICE(s), 0);
    }
}

static void drop_route(RvmrpcIrq *irq)
{
    kvm_irqchip_release_virq(kvm_state, irq->virq);
    irq->virq = -1;
}

/* What fails here is kick_readable()'s: msix.c asserts that nothing does. */
static int vector_use(PCIDevice *dev, unsigned vector, MSIMessage msg)
{
    RvmrpcIrq *irq = &RVMRPC(dev)->irq;

    if (irq->virq < 0) {
        KVMRouteChange c = kvm_irqchip_begin_route_changes(kvm_state);

        irq->virq = kvm_irqchip_add_msi_route(&c, vector, dev);
        if (irq->virq < 0) {
            return 0;
        }
        kvm_irqchip_commit_route_changes(&c);
    }
    /* The guest may have changed its remapping of interrupts since then. */
    if (kvm_irqchip_update_msi_route(kvm_state, irq->virq, msg, dev) < 0) {
        drop_route(irq);
        return 0;
    }
    kvm_irqchip_commit_routes(kvm_state);
    /* One reader at a time. */
    event_notifier_set_handler(&irq->kick, NULL);
    if (kvm_irqchip_add_irqfd_notifier_gsi(kvm_state, &irq->kick, NULL,
                                           irq->virq) < 0) {
        event_notifier_set_handler(&irq->kick, kick_readable);
        drop_route(irq);
    }
    return 0;
}

static void vector_release(PCIDevice *dev, unsigned vector)
{
    RvmrpcIrq *irq = &RVMRPC(dev)->irq;

    if (irq->virq >= 0) {
        kvm_irqchip_remove_irqfd_notifier_gsi(kvm_state, &irq->kick,
                                              irq->virq);
        drop_route(irq);
        event_notifier_set_handler(&irq->kick, kick_readable);
    }
}

bool rvmrpc_irq_init(PCIDevice *dev, RvmrpcIrq *irq, Error **errp)
{
    int ret = event_notifier_init(&irq->kick, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "cannot make an eventfd");
        return false;
    }
    irq->virq = -1;
    event_notifier_set_handler(&irq->kick, kick_readable);
    if (kvm_enabled() && kvm_irqchip_in_kernel()) {
        msix_set_vector_notifiers(dev, vector_use, vector_release, NULL);
    }
    return true;
}

void rvmrpc_irq_exit(PCIDevice *dev, RvmrpcIrq *irq)
{
    if (kvm_enabled() && kvm_irqchip_in_kernel()) {
        msix_unset_vector_notifiers(dev);
        vector_release(dev, 0);
    }
    event_notifier_set_handler(&irq->kick, NULL);
    event_notifier_cleanup(&irq->kick);
}
