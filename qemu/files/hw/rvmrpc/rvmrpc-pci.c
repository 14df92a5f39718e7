/*
 * Reverse VMRPC: the PCI device, see docs/spec.md of the project
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * It carries the window, its doorbell and interrupt, the feature register and
 * the doorbell gate; the host's end of the window is rvmrpc-host.c.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/log.h"
#include "qemu/memfd.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "system/cpu-timers.h"
#include "hw/core/cpu.h"
#include "hw/pci/msix.h"
#include "hw/qdev-properties.h"
#include "hw/resettable.h"
#include "hw/rvmrpc/vmrpc.h"
#include "migration/vmstate.h"
#include "rvmrpc-internal.h"
#include "system/replay.h"
#include "system/tcg.h"
#include "trace.h"

#define RVMRPC_VECTORS 1

/* ---- Registers ---- */

/* TCG's gate is ours, KVM's the kernel's. */
static bool has_hypercall(const RvmrpcPCIState *s)
{
    return s->hypercall && (vmrpc_tcg_has_gate() || s->token >= 0);
}

/* Whoever owns the window must be where the gate leads to. */
static uint32_t wait_features(const RvmrpcPCIState *s)
{
    if (s->token < 0) {
        return RVMRPC_FEAT_VMLP;
    }
    return rvmrpc_channel_in_kernel(s->host->channel) ?
           RVMRPC_FEAT_VMLP | RVMRPC_FEAT_PROXY_KERNEL : 0;
}

static RvmrpcGate gate(const RvmrpcPCIState *s)
{
    return has_hypercall(s) ? RVMRPC_GATE_HYPERCALL :
           s->doorbell ? RVMRPC_GATE_DOORBELL : RVMRPC_GATE_NONE;
}

static uint32_t features(const RvmrpcPCIState *s)
{
    uint32_t f = 0;

    if (has_hypercall(s)) {
        f |= RVMRPC_FEAT_HYPERCALL | wait_features(s);
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
        return RVMRPC_ABI_VERSION | RVMRPC_ABI_VERSION << 16;
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

/*
 * Whether the device can reach it: a bus master, by the guest's IOMMU.  What is
 * not RAM is not touched.
 */
static bool frame_reachable(RvmrpcPCIState *s, uint64_t addr, bool write)
{
    hwaddr xlat, len = sizeof(struct rvmrpc_frame);
    MemoryRegion *mr;

    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(pci_get_address_space(PCI_DEVICE(s)), addr,
                                 &xlat, &len, write, MEMTXATTRS_UNSPECIFIED);
    return len == sizeof(struct rvmrpc_frame) &&
           memory_access_is_direct(mr, write, MEMTXATTRS_UNSPECIFIED);
}

static uint64_t serve_frame(const struct rvmrpc_frame *frame)
{
    VmrpcCall call = {
        .cpu = current_cpu,
        .gate = VMRPC_GATE_DOORBELL,
        .op = frame->op,
        .a0 = frame->a0,
        .a1 = frame->a1,
        .a2 = frame->a2,
    };

    if (call.cpu && !vmrpc_cpu_may_call(call.cpu)) {
        return RVMRPC_GATE_ANSWER(RVMRPC_GATE_DENIED);
    }
    if (frame->reserved[0] || frame->reserved[1] || frame->reserved[2]) {
        return RVMRPC_GATE_ANSWER(RVMRPC_GATE_BAD_ARGS);
    }
    return vmrpc_call(&call);
}

/* The frame is copied once; the guest may change it meanwhile. */
static void ring_doorbell(RvmrpcPCIState *s, uint64_t addr)
{
    struct rvmrpc_frame frame;

    trace_rvmrpc_pci_doorbell(addr);
    qatomic_inc(&vmrpc_doorbells);
    if (addr % sizeof(frame) || !frame_reachable(s, addr, false) ||
        pci_dma_read(PCI_DEVICE(s), addr, &frame, sizeof(frame))) {
        qemu_log_mask(LOG_GUEST_ERROR, "rvmrpc: frame at 0x%" PRIx64
                      " is not aligned, or not in RAM that the device may "
                      "reach\n", addr);
        return;
    }
    frame.answer = serve_frame(&frame);
    if (frame_reachable(s, addr, true)) {
        pci_dma_write(PCI_DEVICE(s), addr +
                      offsetof(struct rvmrpc_frame, answer), &frame.answer,
                      sizeof(frame.answer));
    }
}

static void regs_write(void *opaque, hwaddr addr, uint64_t value,
                       unsigned size)
{
    RvmrpcPCIState *s = opaque;

    if (addr == RVMRPC_REG_DOORBELL && size == 8 && s->doorbell) {
        ring_doorbell(s, value);
        return;
    }
    if (addr == RVMRPC_REG_RING && size == 4) {
        /* An ioeventfd takes it, but for a moment while the map changes. */
        event_notifier_set(&s->ring);
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

static bool check_bytes(const char *name, uint32_t value, Error **errp)
{
    if (value % RVMRPC_LINE) {
        error_setg(errp, "property '%s' must be a multiple of %d", name,
                   RVMRPC_LINE);
        return false;
    }
    return check_range(name, value, RVMRPC_SLOT_BYTES_MAX, errp);
}

/* 0: large enough for what it shall hold. */
static bool choose_size(RvmrpcPCIState *s, struct rvmrpc_layout *layout,
                        Error **errp)
{
    uint64_t size = s->window_size;

    if (!size) {
        for (size = RVMRPC_WINDOW_SIZE_DEFAULT;
             !rvmrpc_layout_make(size, s->slots, s->request_bytes,
                                 s->response_bytes, layout); size *= 2) {
            continue;
        }
        s->window_size = size;
    }
    if (!is_power_of_2(size) || size < RVMRPC_WINDOW_SIZE_MIN ||
        size > RVMRPC_WINDOW_SIZE_MAX) {
        error_setg(errp, "property 'window' must be a power of two between "
                   "64K and 1G, or 0");
        return false;
    }
    if (!rvmrpc_layout_make(size, s->slots, s->request_bytes,
                            s->response_bytes, layout)) {
        error_setg(errp, "%" PRIu32 " slots of %" PRIu32 " and %" PRIu32
                   " bytes do not fit into the window: set a larger 'window'",
                   s->slots, s->request_bytes, s->response_bytes);
        return false;
    }
    return true;
}

static bool check_config(RvmrpcPCIState *s, struct rvmrpc_layout *layout,
                         Error **errp)
{
    bool ambiguous;
    uint32_t mode;

    /* Requests of the host are input that a recording does not have. */
    if (replay_mode != REPLAY_MODE_NONE) {
        error_setg(errp, TYPE_RVMRPC " does not work with record/replay");
        return false;
    }
    object_resolve_path_type("", TYPE_RVMRPC, &ambiguous);
    if (ambiguous) {
        error_setg(errp, "only one " TYPE_RVMRPC " device is possible");
        return false;
    }
    if (s->socket_mode && !rvmrpc_parse_mode(s->socket_mode, &mode)) {
        error_setg(errp, "property 'socket-mode' must be permissions in octal "
                   "digits, as 0660");
        return false;
    }
    return check_range("slots", s->slots, RVMRPC_SLOTS_MAX, errp) &&
           check_bytes("request-bytes", s->request_bytes, errp) &&
           check_bytes("response-bytes", s->response_bytes, errp) &&
           check_range("default-timeout", s->default_timeout,
                       RVMRPC_TIMEOUT_MS_MAX, errp) &&
           choose_size(s, layout, errp);
}

/*
 * RAM that is no part of the VM's state: never migrated, so never logged as
 * dirty either.  Sealed, since others may map it.
 */
static bool make_window(RvmrpcPCIState *s, Error **errp)
{
    int fd = qemu_memfd_create("rvmrpc-window", s->window_size, false, 0,
                               F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
                               errp);

    return fd >= 0 &&
           memory_region_init_ram_from_fd(&s->window, OBJECT(s),
                                          "rvmrpc-window", s->window_size,
                                          RAM_SHARED, fd, 0, errp);
}

static bool make_ring(RvmrpcPCIState *s, Error **errp)
{
    int ret = event_notifier_init(&s->ring, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "cannot make an eventfd");
        return false;
    }
    memory_region_init_io(&s->regs, OBJECT(s), &regs_ops, s, "rvmrpc-regs",
                          RVMRPC_REG_SIZE);
    memory_region_add_eventfd(&s->regs, RVMRPC_REG_RING, 4, false, 0,
                              &s->ring);
    return true;
}

static void drop_ring(RvmrpcPCIState *s)
{
    memory_region_del_eventfd(&s->regs, RVMRPC_REG_RING, 4, false, 0,
                              &s->ring);
    event_notifier_cleanup(&s->ring);
}

static void close_gate(RvmrpcPCIState *s)
{
    if (s->token >= 0) {
        close(s->token);
        s->token = -1;
    }
}

/* Nobody spins where the two would wait for each other's only thread. */
static void choose_spin(RvmrpcPCIState *s)
{
    if (tcg_enabled() && (icount_enabled() || !qemu_tcg_mttcg_enabled())) {
        s->spin_us = 0;
    }
}

static bool make_host(RvmrpcPCIState *s, const struct rvmrpc_layout *layout,
                      Error **errp)
{
    const RvmrpcHostConfig config = {
        .device = s,
        .gate = gate(s),
        .window = memory_region_get_ram_ptr(&s->window),
        .layout = *layout,
        .ring_fd = event_notifier_get_fd(&s->ring),
        .interrupt_fd = event_notifier_get_wfd(&s->irq.kick),
    };

    choose_spin(s);
    s->host = rvmrpc_host_new(&config, errp);
    return s->host;
}

static void rvmrpc_pci_realize(PCIDevice *dev, Error **errp)
{
    RvmrpcPCIState *s = RVMRPC(dev);
    struct rvmrpc_layout layout;

    if (!check_config(s, &layout, errp) || !make_window(s, errp)) {
        return;
    }
    if (msix_init_exclusive_bar(dev, RVMRPC_VECTORS, RVMRPC_BAR_MSIX, errp)) {
        return;
    }
    msix_vector_use(dev, 0);
    if (!rvmrpc_irq_init(dev, &s->irq, errp)) {
        goto no_irq;
    }
    if (!make_ring(s, errp)) {
        goto no_ring;
    }
    s->token = s->hypercall ? rvmrpc_kvm_gate_open() : -1;
    if (!make_host(s, &layout, errp)) {
        goto no_host;
    }
    pci_register_bar(dev, RVMRPC_BAR_REGS, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->regs);
    pci_register_bar(dev, RVMRPC_BAR_WINDOW, PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_PREFETCH |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, &s->window);
    rvmrpc_main_serve(s->host->channel,
                      s->hypercall && vmrpc_tcg_has_gate());
    vmrpc_log_serve(s->log_bytes);
    rvmrpc_tcg_keep_barriers();
    return;

no_host:
    close_gate(s);
    drop_ring(s);
no_ring:
    rvmrpc_irq_exit(dev, &s->irq);
no_irq:
    msix_uninit_exclusive_bar(dev);
}

static void rvmrpc_pci_exit(PCIDevice *dev)
{
    RvmrpcPCIState *s = RVMRPC(dev);

    vmrpc_log_serve(0);
    rvmrpc_host_free(s->host);
    s->host = NULL;
    close_gate(s);
    drop_ring(s);
    rvmrpc_irq_exit(dev, &s->irq);
    msix_uninit_exclusive_bar(dev);
}

static void rvmrpc_pci_reset_hold(Object *obj, ResetType type)
{
    rvmrpc_host_end(RVMRPC(obj)->host, type == RESET_TYPE_SNAPSHOT_LOAD ?
                    RVMRPC_CLOSED_STATE_LOADED : RVMRPC_CLOSED_GUEST_RESET);
}

static int rvmrpc_pci_post_load(void *opaque, int version_id)
{
    RvmrpcPCIState *s = opaque;

    rvmrpc_host_end(s->host, RVMRPC_CLOSED_STATE_LOADED);
    return 0;
}

/* The channel is no part of it: the driver says hello again. */
static const VMStateDescription vmstate_rvmrpc_pci = {
    .name = TYPE_RVMRPC,
    .version_id = 2,
    .minimum_version_id = 2,
    .post_load = rvmrpc_pci_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, RvmrpcPCIState),
        VMSTATE_MSIX(parent_obj, RvmrpcPCIState),
        VMSTATE_END_OF_LIST()
    }
};

static const Property rvmrpc_pci_properties[] = {
    DEFINE_PROP_SIZE("window", RvmrpcPCIState, window_size, 0),
    DEFINE_PROP_UINT32("slots", RvmrpcPCIState, slots, RVMRPC_SLOTS_DEFAULT),
    DEFINE_PROP_UINT32("request-bytes", RvmrpcPCIState, request_bytes,
                       RVMRPC_REQ_BYTES_DEFAULT),
    DEFINE_PROP_UINT32("response-bytes", RvmrpcPCIState, response_bytes,
                       RVMRPC_RES_BYTES_DEFAULT),
    DEFINE_PROP_UINT32("spin-us", RvmrpcPCIState, spin_us, 500),
    DEFINE_PROP_UINT32("default-timeout", RvmrpcPCIState, default_timeout,
                       RVMRPC_TIMEOUT_MS_DEFAULT),
    DEFINE_PROP_BOOL("hypercall", RvmrpcPCIState, hypercall, true),
    DEFINE_PROP_BOOL("doorbell", RvmrpcPCIState, doorbell, true),
    DEFINE_PROP_SIZE("log", RvmrpcPCIState, log_bytes, 0),
    DEFINE_PROP_ON_OFF_AUTO("kernel", RvmrpcPCIState, kernel,
                            ON_OFF_AUTO_AUTO),
    DEFINE_PROP_STRING("socket", RvmrpcPCIState, socket),
    DEFINE_PROP_STRING("socket-mode", RvmrpcPCIState, socket_mode),
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
