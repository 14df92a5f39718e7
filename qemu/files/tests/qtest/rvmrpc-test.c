/*
 * QTest testcase for the rvmrpc device: registers, doorbell, reset
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "rvmrpc-fixture.h"

static char *state(Fixture *f)
{
    QDict *rsp = qtest_qmp(f->qts, "{ 'execute': 'query-rvmrpc' }");
    char *s = g_strdup(qdict_get_str(qdict_get_qdict(rsp, "return"), "state"));

    qobject_unref(rsp);
    return s;
}

static void assert_state(Fixture *f, const char *want)
{
    g_autofree char *s = state(f);

    g_assert_cmpstr(s, ==, want);
}

static void test_discovery(void)
{
    Fixture f;

    start(&f, "");
    g_assert_cmphex(qpci_config_readw(f.dev, PCI_VENDOR_ID), ==,
                    RVMRPC_PCI_VENDOR);
    g_assert_cmphex(qpci_config_readw(f.dev, PCI_DEVICE_ID), ==,
                    RVMRPC_PCI_DEVICE);
    g_assert_cmphex(reg(&f, RVMRPC_REG_MAGIC), ==, RVMRPC_DEV_MAGIC);
    g_assert_cmphex(reg(&f, RVMRPC_REG_VERSION), ==,
                    RVMRPC_DEV_VERSION);
    g_assert_cmphex(reg(&f, RVMRPC_REG_ABI), ==,
                    RVMRPC_ABI_VERSION | RVMRPC_ABI_VERSION << 16);
    g_assert_cmphex(reg(&f, RVMRPC_REG_RING), ==, 0);
    /* qtest runs no guest code: there is no hypercall gate. */
    g_assert_cmphex(reg(&f, RVMRPC_REG_FEATURES), ==, RVMRPC_FEAT_DOORBELL);
    g_assert_cmphex(reg(&f, RVMRPC_REG_HYPERCALL), ==, 0);
    g_assert_cmphex(reg(&f, RVMRPC_REG_DOORBELL), ==, 0);
    g_assert_cmphex(reg(&f, RVMRPC_REG_SIZE - 4), ==, 0);
    assert_state(&f, "disconnected");
    stop(&f);
}

static void assert_window(const char *options, uint64_t size)
{
    uint64_t mapped;
    QPCIBar window;
    Fixture f;

    start(&f, options);
    window = qpci_iomap(f.dev, RVMRPC_BAR_WINDOW, &mapped);
    g_assert_cmphex(mapped, ==, size);
    g_assert_cmphex(host_page(&f, window).id.magic, ==, RVMRPC_WINDOW_MAGIC);
    g_assert_cmphex(host_page(&f, window).id.size, ==, size);
    stop(&f);
}

static void test_windows(void)
{
    assert_window("", RVMRPC_WINDOW_SIZE_DEFAULT);
    assert_window(",window=64K,slots=1,response-bytes=4096", 64 * 1024);
    /* As large as it must be. */
    assert_window(",slots=32,response-bytes=0x100000", 64 * 1024 * 1024);
}

static void test_hello(void)
{
    struct rvmrpc_host_page page;
    QPCIBar window;
    uint64_t epoch;
    Fixture f;

    start(&f, "");
    window = qpci_iomap(f.dev, RVMRPC_BAR_WINDOW, NULL);
    epoch = host_page(&f, window).epoch;
    greet(&f, window, 7);
    page = host_page(&f, window);
    g_assert_cmphex(page.answer.nonce, ==, 7);
    g_assert_cmphex(page.answer.status, ==, RVMRPC_HELLO_OK);
    g_assert_cmphex(page.answer.epoch, ==, page.epoch);
    g_assert_cmphex(page.epoch, !=, epoch);
    assert_state(&f, "connected");
    /* Its farewell. */
    qpci_memwrite(f.dev, window, RVMRPC_GUEST_PAGE +
                  offsetof(struct rvmrpc_guest_page, bye), &page.epoch,
                  sizeof(page.epoch));
    qpci_io_writel(f.dev, f.bar, RVMRPC_REG_RING, 1);
    qtest_qmp_eventwait(f.qts, "RVMRPC_DISCONNECTED");
    assert_state(&f, "disconnected");
    /* A reset ends an epoch, and leaves the window as it is. */
    greet(&f, window, 8);
    qtest_qmp_assert_success(f.qts, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(f.qts, "RVMRPC_DISCONNECTED");
    assert_state(&f, "disconnected");
    stop(&f);
}

static void test_doorbell(void)
{
    Fixture f;

    start(&f, "");
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_NULL, 0), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER));
    g_assert_cmphex(ring(&f, FRAME_GPA, 0xffff, 0), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_GATE_BAD_OP));
    g_assert_cmphex(ring(&f, FRAME_GPA, 1ull << 32, 0), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_GATE_BAD_OP));
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_PERFORM, 0x7fffffff), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_GATE_BAD_HANDLE));
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_BIND | RVMRPC_OP_KERNEL, 0),
                    ==, RVMRPC_GATE_ANSWER(RVMRPC_GATE_NO_MODULE));
    /* Outside of a vCPU there are no guest virtual addresses. */
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_BIND, FRAME_GPA), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_GATE_FAULT));
    stop(&f);
}

/* A bad address is refused: nothing is written, nothing ends. */
static void test_bad_frames(void)
{
    struct rvmrpc_frame frame;
    Fixture f;

    start(&f, "");
    g_assert_cmphex(ring(&f, FRAME_GPA + 8, RVMRPC_OP_NULL, 0), ==, 0);
    qpci_io_writeq(f.dev, f.bar, RVMRPC_REG_DOORBELL, UINT64_MAX - 63);
    qpci_io_writeq(f.dev, f.bar, RVMRPC_REG_DOORBELL, f.bar.addr);
    qpci_io_writeq(f.dev, f.bar, RVMRPC_REG_DOORBELL, 1ull << 51);
    qpci_io_writel(f.dev, f.bar, RVMRPC_REG_DOORBELL, FRAME_GPA);
    qpci_io_writel(f.dev, f.bar, RVMRPC_REG_MAGIC, 0);
    qtest_memset(f.qts, FRAME_GPA, 0, sizeof(frame));
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_NULL, 0), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER));
    stop(&f);
}

/* What is no bus master reads and writes no memory. */
static void test_bus_master(void)
{
    uint16_t command;
    Fixture f;

    start(&f, "");
    command = qpci_config_readw(f.dev, PCI_COMMAND);
    qpci_config_writew(f.dev, PCI_COMMAND, command & ~PCI_COMMAND_MASTER);
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_NULL, 0), ==, 0);
    qpci_config_writew(f.dev, PCI_COMMAND, command);
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_NULL, 0), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER));
    stop(&f);
}

static void test_reset(void)
{
    Fixture f;

    start(&f, "");
    qtest_system_reset(f.qts);
    assert_state(&f, "disconnected");
    qpci_device_enable(f.dev);
    qpci_config_writel(f.dev, PCI_BASE_ADDRESS_0, f.bar.addr);
    g_assert_cmphex(reg(&f, RVMRPC_REG_MAGIC), ==, RVMRPC_DEV_MAGIC);
    g_assert_cmphex(ring(&f, FRAME_GPA, RVMRPC_OP_NULL, 0), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER));
    stop(&f);
}

static void test_not_connected(void)
{
    Fixture f;
    QDict *rsp;

    start(&f, "");
    rsp = qtest_qmp(f.qts, "{ 'execute': 'guest-kernel-call', 'arguments':"
                    " { 'module': 'echo', 'procedure': 0 } }");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "return"), "status"),
                    ==, "not-connected");
    qobject_unref(rsp);
    rsp = qtest_qmp(f.qts, "{ 'execute': 'guest-kernel-call', 'arguments':"
                    " { 'module': 1, 'procedure': 0, 'data': '***' } }");
    g_assert(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    stop(&f);
}

static void test_unplug(void)
{
    Fixture f;

    start(&f, ",id=rv");
    qtest_qmp_device_del_send(f.qts, "rv");
    /* The guest ejects it through ACPI. */
    qtest_outl(f.qts, 0xae08, 1u << SLOT);
    qtest_qmp_eventwait(f.qts, "DEVICE_DELETED");
    assert_state(&f, "absent");
    qtest_qmp_device_add(f.qts, "rvmrpc", "rv", "{}");
    assert_state(&f, "disconnected");
    stop(&f);
}

/* QEMU must refuse to start, and say why. */
static void assert_refused(const char *options, const char *why)
{
    g_autofree char *err = NULL;
    const char *qemu = g_getenv("QTEST_QEMU_BINARY");
    g_autofree char *cmd = NULL;
    int status = 0;

    cmd = g_strdup_printf("%s -machine pc -accel qtest -display none"
                          " -nodefaults %s", qemu, options);
    g_assert_true(g_spawn_command_line_sync(cmd, NULL, &err, &status, NULL));
    g_assert_cmpint(status, !=, 0);
    g_assert_nonnull(strstr(err, why));
}

static void test_bad_options(void)
{
    assert_refused("-device rvmrpc -device rvmrpc", "only one rvmrpc device");
    assert_refused("-device rvmrpc,slots=0", "'slots' must be between");
    assert_refused("-device rvmrpc,slots=65", "'slots' must be between");
    assert_refused("-device rvmrpc,request-bytes=100", "'request-bytes'");
    assert_refused("-device rvmrpc,response-bytes=0", "'response-bytes'");
    assert_refused("-device rvmrpc,response-bytes=0x100040",
                   "'response-bytes' must be between");
    assert_refused("-device rvmrpc,window=96K", "power of two");
    assert_refused("-device rvmrpc,window=64K", "set a larger 'window'");
    assert_refused("-device rvmrpc,default-timeout=60001",
                   "'default-timeout'");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("rvmrpc/discovery", test_discovery);
    qtest_add_func("rvmrpc/windows", test_windows);
    qtest_add_func("rvmrpc/hello", test_hello);
    qtest_add_func("rvmrpc/doorbell", test_doorbell);
    qtest_add_func("rvmrpc/bad-frames", test_bad_frames);
    qtest_add_func("rvmrpc/bus-master", test_bus_master);
    qtest_add_func("rvmrpc/reset", test_reset);
    qtest_add_func("rvmrpc/not-connected", test_not_connected);
    qtest_add_func("rvmrpc/unplug", test_unplug);
    qtest_add_func("rvmrpc/bad-options", test_bad_options);
    return g_test_run();
}
