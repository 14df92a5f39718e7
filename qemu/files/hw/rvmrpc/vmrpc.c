/*
 * VMRPC: a guest kernel calls procedures of the VMM process
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A gate call comes in by VMCALL/VMMCALL or by the device's doorbell, always
 * in the thread of the vCPU that makes it.  Guest memory is touched only here,
 * inside such a call.
 */
#include "qemu/osdep.h"
#include "qemu/guest-random.h"
#include "cpu.h"
#include "exec/address-spaces.h"
#include "system/hw_accel.h"
#include "hw/rvmrpc/vmrpc.h"
#include "trace.h"

#define VMRPC_MODULES_MAX 16

#define PAGE_OFFSET(gva) ((gva) & (RVMRPC_PAGE_SIZE - 1))

/* A handle is an index and a number that tells this process from another. */
#define VMRPC_HANDLE_INDEX_BITS 8

static const VmrpcModule *modules[VMRPC_MODULES_MAX];   /* BQL to write */
static unsigned nmodules;       /* published after the entry */
static uint32_t generation;     /* set with the first module */

void vmrpc_register_module(const VmrpcModule *module)
{
    assert(nmodules < VMRPC_MODULES_MAX);
    if (!generation) {
        qemu_guest_getrandom_nofail(&generation, sizeof(generation));
        generation &= (1u << (31 - VMRPC_HANDLE_INDEX_BITS)) - 1;
    }
    modules[nmodules] = module;
    qatomic_store_release(&nmodules, nmodules + 1);
}

/* ---- Guest memory by physical address ---- */

static bool gpa_access(uint64_t gpa, void *buf, size_t len, bool write)
{
    while (len) {
        MemoryRegionCache cache;
        int64_t got;

        RCU_READ_LOCK_GUARD();
        got = address_space_cache_init(&cache, &address_space_memory, gpa,
                                       len, write);
        /* Without a direct pointer it is not RAM: no device is touched. */
        if (got <= 0 || !cache.ptr) {
            address_space_cache_destroy(&cache);
            return false;
        }
        got = MIN(got, len);
        if (write) {
            address_space_write_cached(&cache, 0, buf, got);
            address_space_cache_invalidate(&cache, 0, got);
        } else {
            address_space_read_cached(&cache, 0, buf, got);
        }
        address_space_cache_destroy(&cache);
        gpa += got;
        buf += got;
        len -= got;
    }
    return true;
}

/* ---- Guest memory by virtual address ---- */

/* Translates in the calling vCPU's context. */
static bool gva_to_gpa(VmrpcCall *call, uint64_t gva, uint64_t *gpa)
{
    MemTxAttrs attrs;
    hwaddr page;

    if (!call->cpu) {
        return false;
    }
    cpu_synchronize_state(call->cpu);
    page = cpu_get_phys_page_attrs_debug(call->cpu, gva - PAGE_OFFSET(gva),
                                         &attrs);
    if (page == -1) {
        return false;
    }
    *gpa = page + PAGE_OFFSET(gva);
    return true;
}

static size_t to_page_end(uint64_t gva, size_t len)
{
    return MIN(len, RVMRPC_PAGE_SIZE - PAGE_OFFSET(gva));
}

static bool gva_access(VmrpcCall *call, uint64_t gva, void *buf, size_t len,
                       bool write)
{
    while (len) {
        size_t n = to_page_end(gva, len);
        uint64_t gpa;

        if (!gva_to_gpa(call, gva, &gpa) || !gpa_access(gpa, buf, n, write)) {
            return false;
        }
        gva += n;
        buf += n;
        len -= n;
    }
    return true;
}

bool vmrpc_copy_from_guest(VmrpcCall *call, void *buf, uint64_t gva,
                           size_t len)
{
    return gva_access(call, gva, buf, len, false);
}

bool vmrpc_copy_to_guest(VmrpcCall *call, uint64_t gva, const void *buf,
                         size_t len)
{
    return gva_access(call, gva, (void *)buf, len, true);
}

typedef struct VmrpcMapping {
    MemoryRegionCache cache;
    size_t len;
    bool write;
} VmrpcMapping;

static void unmap(VmrpcMapping *m)
{
    if (m->write) {
        address_space_cache_invalidate(&m->cache, 0, m->len);
    }
    address_space_cache_destroy(&m->cache);
    g_free(m);
}

void *vmrpc_get_hva(VmrpcCall *call, uint64_t gva, size_t len, bool write,
                    size_t *got)
{
    g_autofree VmrpcMapping *m = g_new0(VmrpcMapping, 1);
    uint64_t gpa;
    int64_t n;

    len = to_page_end(gva, len);
    if (!len || !gva_to_gpa(call, gva, &gpa)) {
        return NULL;
    }
    WITH_RCU_READ_LOCK_GUARD() {
        n = address_space_cache_init(&m->cache, &address_space_memory, gpa,
                                     len, write);
    }
    if (n <= 0 || !m->cache.ptr) {
        address_space_cache_destroy(&m->cache);
        return NULL;
    }
    m->len = *got = MIN(n, len);
    m->write = write;
    if (!call->mappings) {
        call->mappings = g_array_new(false, false, sizeof(VmrpcMapping *));
    }
    g_array_append_val(call->mappings, m);
    return g_steal_pointer(&m)->cache.ptr;
}

void vmrpc_put_hva(VmrpcCall *call, void *hva)
{
    for (guint i = 0; call->mappings && i < call->mappings->len; i++) {
        VmrpcMapping *m = g_array_index(call->mappings, VmrpcMapping *, i);

        if (m->cache.ptr == hva) {
            unmap(m);
            g_array_remove_index_fast(call->mappings, i);
            return;
        }
    }
}

static void put_all(VmrpcCall *call)
{
    for (guint i = 0; call->mappings && i < call->mappings->len; i++) {
        unmap(g_array_index(call->mappings, VmrpcMapping *, i));
    }
    g_clear_pointer(&call->mappings, g_array_unref);
}

/* ---- Gate calls ---- */

static uint32_t make_handle(unsigned index)
{
    return generation << VMRPC_HANDLE_INDEX_BITS | index;
}

static uint32_t vmrpc_bind(VmrpcCall *call)
{
    struct vmrpc_bind bind;
    unsigned n = qatomic_load_acquire(&nmodules);
    bool found = false;

    if (call->a1 || call->a2) {
        return RVMRPC_GATE_BAD_ARGS;
    }
    if (!vmrpc_copy_from_guest(call, &bind, call->a0, sizeof(bind))) {
        return RVMRPC_GATE_FAULT;
    }
    if (!memchr(bind.name, 0, sizeof(bind.name)) ||
        !memchr(bind.version, 0, sizeof(bind.version))) {
        return RVMRPC_GATE_BAD_ARGS;
    }
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(bind.name, modules[i]->name)) {
            continue;
        }
        if (!strcmp(bind.version, modules[i]->version)) {
            return make_handle(i);
        }
        found = true;
    }
    return found ? RVMRPC_GATE_BAD_VERSION : RVMRPC_GATE_NO_MODULE;
}

static const VmrpcModule *find_handle(uint32_t handle)
{
    unsigned index = handle & ((1u << VMRPC_HANDLE_INDEX_BITS) - 1);

    if (index >= qatomic_load_acquire(&nmodules) ||
        handle != make_handle(index)) {
        return NULL;
    }
    return modules[index];
}

static uint32_t vmrpc_perform(VmrpcCall *call)
{
    const VmrpcModule *module = find_handle((uint32_t)call->a0);
    uint32_t answer;

    if (!module) {
        return RVMRPC_GATE_BAD_HANDLE;
    }
    answer = module->dispatch(call, call->a0 >> 32, call->a1, call->a2);
    put_all(call);
    return answer;
}

static uint32_t vmrpc_execute(VmrpcCall *call)
{
    switch (call->op) {
    case RVMRPC_OP_NULL:
        return RVMRPC_NULL_ANSWER;
    case RVMRPC_OP_BIND:
        return vmrpc_bind(call);
    case RVMRPC_OP_PERFORM:
        return vmrpc_perform(call);
    case RVMRPC_OP_UNBIND:
        return find_handle((uint32_t)call->a0) ? 0 : RVMRPC_GATE_BAD_HANDLE;
    case RVMRPC_OP_BIND | RVMRPC_OP_KERNEL:
    case RVMRPC_OP_PERFORM | RVMRPC_OP_KERNEL:
    case RVMRPC_OP_UNBIND | RVMRPC_OP_KERNEL:
        /* There is no host kernel behind this gate. */
        return RVMRPC_GATE_NO_MODULE;
    default:
        return RVMRPC_GATE_BAD_OP;
    }
}

uint64_t vmrpc_call(VmrpcCall *call)
{
    int cpu = call->cpu ? call->cpu->cpu_index : -1;
    uint32_t answer;

    trace_vmrpc_call(cpu, call->gate == VMRPC_GATE_HYPERCALL ? "hypercall" :
                     "doorbell", call->op, call->a0, call->a1, call->a2);
    answer = vmrpc_execute(call);
    trace_vmrpc_answer(cpu, answer);
    return RVMRPC_GATE_ANSWER(answer);
}
