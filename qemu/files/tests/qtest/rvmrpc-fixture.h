/*
 * QTest: a machine with the rvmrpc device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_FIXTURE_H
#define RVMRPC_FIXTURE_H

#include "libqtest.h"
#include "libqos/pci-pc.h"
#include "qobject/qdict.h"
#include "hw/rvmrpc/core/rvmrpc_abi.h"

#define SLOT        4
#define PATIENCE_MS 10000
#define PATIENCE_US (PATIENCE_MS * 1000ll)
#define FRAME_GPA   0x100000    /* RAM of any PC */

typedef struct Fixture {
    QTestState *qts;
    QPCIBus *bus;
    QPCIDevice *dev;
    QPCIBar bar;
} Fixture;

static inline void start(Fixture *f, const char *options)
{
    f->qts = qtest_initf("-machine pc -device rvmrpc,addr=0x%x%s", SLOT,
                         options);
    f->bus = qpci_new_pc(f->qts, NULL);
    f->dev = qpci_device_find(f->bus, QPCI_DEVFN(SLOT, 0));
    g_assert_nonnull(f->dev);
    qpci_device_enable(f->dev);
    f->bar = qpci_iomap(f->dev, RVMRPC_BAR_REGS, NULL);
}

static inline void stop(Fixture *f)
{
    qpci_iounmap(f->dev, f->bar);
    g_free(f->dev);
    qpci_free_pc(f->bus);
    qtest_quit(f->qts);
}

static inline uint32_t reg(Fixture *f, uint32_t addr)
{
    return qpci_io_readl(f->dev, f->bar, addr);
}

/* Rings with the frame at @gpa and returns the answer in it. */
static inline uint64_t ring(Fixture *f, uint64_t gpa, uint64_t op,
                            uint64_t a0)
{
    struct rvmrpc_frame frame = { .op = op, .a0 = a0 };

    qtest_memwrite(f->qts, gpa, &frame, sizeof(frame));
    qpci_io_writeq(f->dev, f->bar, RVMRPC_REG_DOORBELL, gpa);
    qtest_memread(f->qts, gpa, &frame, sizeof(frame));
    return frame.answer;
}

static inline struct rvmrpc_host_page host_page(Fixture *f, QPCIBar window)
{
    struct rvmrpc_host_page page;

    qpci_memread(f->dev, window, RVMRPC_HOST_PAGE, &page, sizeof(page));
    return page;
}

/* A guest says hello, by its memory and one write to a register. */
static inline void say_hello(Fixture *f, QPCIBar window, uint64_t nonce)
{
    struct rvmrpc_hello hello = {
        .nonce = nonce,
        .seen = host_page(f, window).epoch,
        .abi_min = RVMRPC_ABI_VERSION,
        .abi_max = RVMRPC_ABI_VERSION,
        .os = RVMRPC_OS_OTHER,
        .release = "qtest",
    };

    qpci_memwrite(f->dev, window, RVMRPC_GUEST_PAGE, &hello, sizeof(hello));
    qpci_io_writel(f->dev, f->bar, RVMRPC_REG_RING, 0);
}

static inline void greet(Fixture *f, QPCIBar window, uint64_t nonce)
{
    say_hello(f, window, nonce);
    qtest_qmp_eventwait(f->qts, "RVMRPC_CONNECTED");
}

/* ---- The guest's end of the window ---- */

typedef struct Guest {
    Fixture f;
    QPCIBar window;
    struct rvmrpc_layout layout;
    uint32_t seq;               /* of the last request that was taken */
} Guest;

/* The layout and the last request, as the host answered the guest's hello. */
static inline void take_answer(Guest *g)
{
    struct rvmrpc_hello_answer answer = host_page(&g->f, g->window).answer;

    g->layout = answer.layout;
    g->seq = answer.posted;
}

typedef struct Request {
    struct rvmrpc_hdr hdr;
    uint32_t slot;
    uint32_t seq;
    union {
        struct rvmrpc_records_req records;
        struct rvmrpc_clock_req clock;
        struct rvmrpc_freeze_req freeze;
        struct rvmrpc_sysrq_req sysrq;
        uint64_t bytes;
    } arg;
} Request;

/* Whether the next request is there. */
static inline bool look(Guest *g, Request *r)
{
    uint32_t posted;

    qpci_memread(g->f.dev, g->window, RVMRPC_HOST_PAGE +
                 offsetof(struct rvmrpc_host_page, posted), &posted,
                 sizeof(posted));
    if (posted == g->seq) {
        return false;
    }
    for (r->slot = 0; r->slot < g->layout.nslots; r->slot++) {
        uint64_t at = g->layout.host_slots +
                      r->slot * sizeof(struct rvmrpc_host_slot);

        qpci_memread(g->f.dev, g->window, at, &r->hdr, sizeof(r->hdr));
        memcpy(&r->seq, (char *)&r->hdr + RVMRPC_SLOT_SEQ, sizeof(r->seq));
        if (r->seq == (g->seq + 1 ?: 1)) {
            return true;
        }
    }
    return false;
}

static inline void reply(Guest *g, const Request *r, uint32_t status,
                         const void *payload, uint32_t length)
{
    struct rvmrpc_hdr hdr = r->hdr;
    uint64_t at = g->layout.guest_slots +
                  r->slot * sizeof(struct rvmrpc_guest_slot);

    hdr.version = 1;
    hdr.status = status;
    hdr.length = length;
    hdr.timeout_ms = 0;
    g_assert_cmpuint(length, <=, g->layout.res_bytes);
    if (length) {
        qpci_memwrite(g->f.dev, g->window,
                      g->layout.res + r->slot * g->layout.stride, payload,
                      length);
    }
    qpci_memwrite(g->f.dev, g->window, at, &hdr, RVMRPC_SLOT_SEQ);
    qpci_memwrite(g->f.dev, g->window, at + RVMRPC_SLOT_SEQ, &r->seq,
                  sizeof(r->seq));
    qpci_io_writel(g->f.dev, g->f.bar, RVMRPC_REG_RING, 0);
}

#endif
