/*
 * Reverse VMRPC: the PCI device, see docs/spec.md of the project
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * It carries discovery, the feature register, the doorbell gate and the
 * interrupt; the channel itself is rvmrpc-proxy.c.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/log.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "hw/core/cpu.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "hw/resettable.h"
#include "hw/rvmrpc/rvmrpc.h"
#include "hw/rvmrpc/vmrpc.h"
#include "migration/vmstate.h"
#include "rvmrpc-internal.h"
#include "rvmrpc-kvm.h"
#include "rvmrpc-socket.h"
#include "system/replay.h"
#include "system/tcg.h"
#include "trace.h"

#define RVMRPC_VECTORS 1

OBJECT_DECLARE_SIMPLE_TYPE(RvmrpcPCIState, RVMRPC)

struct RvmrpcPCIState {
    PCIDevice parent_obj;

    MemoryRegion regs;
    uint32_t slots;
    uint32_t req_pages;
    uint32_t res_pages;
    uint32_t default_timeout;   /* ms */
    bool hypercall;
    bool doorbell;
    char *socket;               /* path, or NULL */
    uint32_t socket_mode;
};

/* ---- Registers ---- */

/* TCG's gate is ours; KVM's is the kernel's, with the proxy behind it. */
static bool has_hypercall(const RvmrpcPCIState *s)
{
    return s->hypercall && (tcg_enabled() || rvmrpc_kvm_attached());
}

static uint32_t features(const RvmrpcPCIState *s)
{
    uint32_t f = 0;

    if (has_hypercall(s)) {
        f |= RVMRPC_FEAT_HYPERCALL | RVMRPC_FEAT_VMLP;
    }
    if (rvmrpc_kvm_attached()) {
        f |= RVMRPC_FEAT_PROXY_KERNEL;
    }
    if (s->doorbell) {
        f |= RVMRPC_FEAT_DOORBELL;
    }
    return f;
}

static uint32_t read_reg(const RvmrpcPCIState *s, hwaddr addr)
{
    switch (addr) {
    case RVMRPC_REG_MAGIC:
        return RVMRPC_DEV_MAGIC;
    case RVMRPC_REG_VERSION:
        return RVMRPC_DEV_VERSION;
    case RVMRPC_REG_FEATURES:
        return features(s);
    case RVMRPC_REG_HYPERCALL:
        return has_hypercall(s) ? RVMRPC_HYPERCALL_NR : 0;
    case RVMRPC_REG_ABI:
        return RVMRPC_ABI_MIN | RVMRPC_ABI_MAX << 16;
    case RVMRPC_REG_SLOTS:
        return s->slots;
    case RVMRPC_REG_PAGES:
        return s->req_pages | s->res_pages << 16;
    default:
        return 0;
    }
}

static uint64_t regs_read(void *opaque, hwaddr addr, unsigned size)
{
    RvmrpcPCIState *s = opaque;
    uint64_t value = read_reg(s, addr);

    if (size == 8) {
        value |= (uint64_t)read_reg(s, addr + 4) << 32;
    }
    trace_rvmrpc_pci_read(addr, size, value);
    return value;
}

/* The frame is copied once; the guest may change it meanwhile. */
static void ring_doorbell(uint64_t gpa)
{
    struct rvmrpc_frame frame;
    VmrpcCall call = { .cpu = current_cpu, .gate = VMRPC_GATE_DOORBELL };

    trace_rvmrpc_pci_doorbell(gpa);
    rvmrpc_proxy.doorbells++;
    if (gpa % sizeof(frame) || !vmrpc_gpa_read(gpa, &frame, sizeof(frame))) {
        qemu_log_mask(LOG_GUEST_ERROR, "rvmrpc: frame at 0x%" PRIx64
                      " is not in RAM or not aligned\n", gpa);
        return;
    }
    if (frame.reserved[0] || frame.reserved[1] || frame.reserved[2]) {
        frame.answer = RVMRPC_GATE_ANSWER(RVMRPC_GATE_BAD_ARGS);
    } else {
        call.op = frame.op;
        call.a0 = frame.a0;
        call.a1 = frame.a1;
        call.a2 = frame.a2;
        frame.answer = vmrpc_call(&call);
    }
    vmrpc_gpa_write(gpa + offsetof(struct rvmrpc_frame, answer), &frame.answer,
                    sizeof(frame.answer));
}

static void regs_write(void *opaque, hwaddr addr, uint64_t value,
                       unsigned size)
{
    RvmrpcPCIState *s = opaque;

    if (addr == RVMRPC_REG_DOORBELL && size == 8 && s->doorbell) {
        ring_doorbell(value);
        return;
    }
    qemu_log_mask(LOG_GUEST_ERROR, "rvmrpc: bad write of %u bytes to 0x%"
                  HWADDR_PRIx "\n", size, addr);
}

static const MemoryRegionOps regs_ops = {
    .read = regs_read,
    .write = regs_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 8 },
};

/* ---- The device's life ---- */

static void rvmrpc_pci_kick(void *opaque)
{
    msix_notify(PCI_DEVICE(opaque), 0);
}

static const RvmrpcDeviceOps device_ops = {
    .kick = rvmrpc_pci_kick,
};

static bool check_range(const char *name, uint32_t value, uint32_t max,
                        Error **errp)
{
    if (value < 1 || value > max) {
        error_setg(errp, "property '%s' must be between 1 and %" PRIu32, name,
                   max);
        return false;
    }
    return true;
}

static bool check_config(RvmrpcPCIState *s, Error **errp)
{
    bool ambiguous;

    object_resolve_path_type("", TYPE_RVMRPC, &ambiguous);
    if (ambiguous) {
        error_setg(errp, "only one " TYPE_RVMRPC " device is possible");
        return false;
    }
    if (s->socket_mode & ~0777) {
        error_setg(errp, "property 'socket-mode' must be permissions, as 0660");
        return false;
    }
    return check_range("slots", s->slots, RVMRPC_SLOTS_MAX, errp) &&
           check_range("request-pages", s->req_pages, RVMRPC_SLOT_PAGES_MAX,
                       errp) &&
           check_range("response-pages", s->res_pages, RVMRPC_SLOT_PAGES_MAX,
                       errp) &&
           check_range("default-timeout", s->default_timeout,
                       RVMRPC_TIMEOUT_MS_MAX, errp);
}

static void rvmrpc_pci_realize(PCIDevice *dev, Error **errp)
{
    RvmrpcPCIState *s = RVMRPC(dev);
    RvmrpcConfig config = { };

    if (!check_config(s, errp) ||
        msix_init_exclusive_bar(dev, RVMRPC_VECTORS, RVMRPC_BAR_MSIX, errp)) {
        return;
    }
    msix_vector_use(dev, 0);
    config.limits.slots = s->slots;
    config.limits.req_pages = s->req_pages;
    config.limits.res_pages = s->res_pages;
    if (s->hypercall) {
        rvmrpc_kvm_attach(dev, &config.limits);
    }
    if (!has_hypercall(s) && !s->doorbell) {
        error_setg(errp, "no gate is left: set doorbell=on");
        msix_uninit_exclusive_bar(dev);
        return;
    }
    memory_region_init_io(&s->regs, OBJECT(s), &regs_ops, s, "rvmrpc-regs",
                          RVMRPC_REG_SIZE);
    pci_register_bar(dev, RVMRPC_BAR_REGS, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->regs);

    config.default_timeout_ms = s->default_timeout;
    config.hypercall = s->hypercall && tcg_enabled();
    config.ops = &device_ops;
    config.opaque = s;
    rvmrpc_attach(&config);
    if (s->socket && !rvmrpc_socket_start(s->socket, s->socket_mode, errp)) {
        rvmrpc_detach();
        rvmrpc_kvm_detach(dev);
        msix_uninit_exclusive_bar(dev);
        return;
    }
    /* Requests of the host are input that a recording does not have. */
    replay_add_blocker("rvmrpc");
}

static void rvmrpc_pci_exit(PCIDevice *dev)
{
    rvmrpc_socket_stop();
    rvmrpc_detach();
    rvmrpc_kvm_detach(dev);
    msix_uninit_exclusive_bar(dev);
}

static void rvmrpc_pci_reset_hold(Object *obj, ResetType type)
{
    rvmrpc_reset(type == RESET_TYPE_SNAPSHOT_LOAD ?
                 RVMRPC_DISCONNECT_REASON_STATE_LOADED :
                 RVMRPC_DISCONNECT_REASON_GUEST_RESET);
}

static int rvmrpc_pci_post_load(void *opaque, int version_id)
{
    rvmrpc_kick_after_load();
    return 0;
}

/* The channel is no part of it: the driver registers again. */
static const VMStateDescription vmstate_rvmrpc_pci = {
    .name = TYPE_RVMRPC,
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = rvmrpc_pci_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, RvmrpcPCIState),
        VMSTATE_MSIX(parent_obj, RvmrpcPCIState),
        VMSTATE_END_OF_LIST()
    }
};

static const Property rvmrpc_pci_properties[] = {
    DEFINE_PROP_UINT32("slots", RvmrpcPCIState, slots, RVMRPC_SLOTS_DEFAULT),
    DEFINE_PROP_UINT32("request-pages", RvmrpcPCIState, req_pages,
                       RVMRPC_SLOT_PAGES_MAX),
    DEFINE_PROP_UINT32("response-pages", RvmrpcPCIState, res_pages,
                       RVMRPC_SLOT_PAGES_MAX),
    DEFINE_PROP_UINT32("default-timeout", RvmrpcPCIState, default_timeout,
                       RVMRPC_TIMEOUT_MS_DEFAULT),
    DEFINE_PROP_BOOL("hypercall", RvmrpcPCIState, hypercall, true),
    DEFINE_PROP_BOOL("doorbell", RvmrpcPCIState, doorbell, true),
    DEFINE_PROP_STRING("socket", RvmrpcPCIState, socket),
    DEFINE_PROP_UINT32("socket-mode", RvmrpcPCIState, socket_mode, 0600),
};

static void rvmrpc_pci_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    pc->realize = rvmrpc_pci_realize;
    pc->exit = rvmrpc_pci_exit;
    pc->vendor_id = RVMRPC_PCI_VENDOR;
    pc->device_id = RVMRPC_PCI_DEVICE;
    pc->revision = RVMRPC_DEV_VERSION;
    pc->class_id = PCI_CLASS_OTHERS;
    rc->phases.hold = rvmrpc_pci_reset_hold;
    dc->desc = "Reverse VMRPC: calls into the guest's kernel";
    dc->vmsd = &vmstate_rvmrpc_pci;
    device_class_set_props(dc, rvmrpc_pci_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo rvmrpc_pci_info = {
    .name = TYPE_RVMRPC,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(RvmrpcPCIState),
    .class_init = rvmrpc_pci_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { },
    },
};

static void rvmrpc_pci_register_types(void)
{
    type_register_static(&rvmrpc_pci_info);
}

type_init(rvmrpc_pci_register_types)
