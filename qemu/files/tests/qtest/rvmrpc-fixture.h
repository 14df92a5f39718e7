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

static inline struct rvmrpc_host_page host_page(Fixture *f, QPCIBar window)
{
    struct rvmrpc_host_page page;

    qpci_memread(f->dev, window, RVMRPC_HOST_PAGE, &page, sizeof(page));
    return page;
}

/* A guest says hello, by its memory and one write to a register. */
static inline void greet(Fixture *f, QPCIBar window, uint64_t nonce)
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
    qtest_qmp_eventwait(f->qts, "RVMRPC_CONNECTED");
}

#endif
