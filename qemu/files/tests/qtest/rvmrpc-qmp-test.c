/*
 * QTest testcase for rvmrpc's QMP commands: the test is the guest's kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/sockets.h"
#include "qemu/units.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "rvmrpc-fixture.h"

#define MALFORMED       "system-error: the guest's answer is malformed"

/* ---- The guest's end of the window ---- */

static void hello(Guest *g, uint64_t nonce)
{
    greet(&g->f, g->window, nonce);
    take_answer(g);
}

/* On a busy host it may take its time. */
static void guest_start_with(Guest *g, const char *more)
{
    g_autofree char *options = g_strdup_printf(",default-timeout=%d%s",
                                               PATIENCE_MS, more);

    start(&g->f, options);
    g->window = qpci_iomap(g->f.dev, RVMRPC_BAR_WINDOW, NULL);
    hello(g, 1);
}

static void guest_start(Guest *g)
{
    guest_start_with(g, "");
}

static void guest_stop(Guest *g)
{
    qpci_iounmap(g->f.dev, g->window);
    stop(&g->f);
}

static Request take_any(Guest *g)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_US;
    Request r = { };

    while (!look(g, &r)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(500);
    }
    g->seq = r.seq;
    g_assert_cmpuint(r.hdr.length, <=, sizeof(r.arg));
    qpci_memread(g->f.dev, g->window,
                 g->layout.req + r.slot * g->layout.stride, &r.arg,
                 r.hdr.length);
    return r;
}

/*
 * The next request, which must come, but for QEMU's own, which asks for the
 * list of modules after each hello.
 */
static Request take(Guest *g)
{
    Request r = take_any(g);

    while (r.hdr.module == RVMRPC_MOD_CORE) {
        reply(g, &r, RVMRPC_STATUS_PROCEDURE_UNAVAILABLE, NULL, 0);
        r = take_any(g);
    }
    return r;
}

/* ---- Lists of records ---- */

typedef struct Page {
    GByteArray *bytes;
    struct rvmrpc_records head;
    guint record;               /* where the last one begins */
} Page;

static Page page_new(void)
{
    Page p = { .bytes = g_byte_array_new() };

    g_byte_array_append(p.bytes, (guint8 *)&p.head, sizeof(p.head));
    return p;
}

static void record(Page *p, uint16_t kind)
{
    struct rvmrpc_record_hdr hdr = { .length = sizeof(hdr), .kind = kind };

    p->record = p->bytes->len;
    p->head.count++;
    g_byte_array_append(p->bytes, (guint8 *)&hdr, sizeof(hdr));
}

static void field(Page *p, uint16_t key, uint16_t type, const void *value,
                  uint32_t length)
{
    const uint8_t zeros[RVMRPC_RECORD_ALIGN] = { };
    struct rvmrpc_field hdr = { .key = key, .type = type, .length = length };
    uint16_t all;

    g_byte_array_append(p->bytes, (guint8 *)&hdr, sizeof(hdr));
    g_byte_array_append(p->bytes, value, length);
    g_byte_array_append(p->bytes, zeros, -length % RVMRPC_RECORD_ALIGN);
    all = p->bytes->len - p->record;
    memcpy(p->bytes->data + p->record, &all, sizeof(all));
}

static void number(Page *p, uint16_t key, uint64_t value)
{
    field(p, key, RVMRPC_FIELD_U64, &value, sizeof(value));
}

static void text(Page *p, uint16_t key, const char *value)
{
    field(p, key, RVMRPC_FIELD_STRING, value, strlen(value));
}

/* Answers the request with the page, and frees it. */
static void reply_page(Guest *g, Page *p, const Request *r)
{
    p->head.length = p->bytes->len - sizeof(p->head);
    memcpy(p->bytes->data, &p->head, sizeof(p->head));
    reply(g, r, RVMRPC_STATUS_OK, p->bytes->data, p->bytes->len);
    g_byte_array_unref(p->bytes);
}

/* The same with the next one. */
static void send_page(Guest *g, Page *p, Request *r)
{
    *r = take(g);
    reply_page(g, p, r);
}

/* What a command returns; to be unref'd. */
static QDict *returned(Guest *g)
{
    QDict *rsp = qtest_qmp_receive(g->f.qts);
    QDict *ret;

    if (!qdict_haskey(rsp, "return")) {
        g_test_message("%s", qdict_get_str(qdict_get_qdict(rsp, "error"),
                                           "desc"));
    }
    g_assert(qdict_haskey(rsp, "return"));
    ret = qobject_ref(qdict_get_qdict(rsp, "return"));
    qobject_unref(rsp);
    return ret;
}

/* The error that a command must end with. */
static void assert_error(Guest *g, const char *desc)
{
    QDict *rsp = qtest_qmp_receive(g->f.qts);

    g_assert(qdict_haskey(rsp, "error"));
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"), ==,
                    desc);
    qobject_unref(rsp);
}

/* Sends the command, which is answered by the page alone. */
static QDict *list(Guest *g, const char *command, Page *p)
{
    Request r;

    qtest_qmp_send(g->f.qts, "{ 'execute': %s }", command);
    send_page(g, p, &r);
    return returned(g);
}

static void list_fails(Guest *g, const char *command, Page *p)
{
    Request r;

    qtest_qmp_send(g->f.qts, "{ 'execute': %s }", command);
    send_page(g, p, &r);
    assert_error(g, MALFORMED);
}

static QDict *element(QDict *answer, const char *name, int i)
{
    const QListEntry *e = qlist_first(qdict_get_qlist(answer, name));

    while (i-- && e) {
        e = qlist_next(e);
    }
    g_assert_nonnull(e);
    return qobject_to(QDict, qlist_entry_obj(e));
}

static void assert_count(QDict *answer, const char *name, size_t count)
{
    g_assert_cmpuint(qlist_size(qdict_get_qlist(answer, name)), ==, count);
}

/* ---- Members: each key is the one that it should be ---- */

#define VALUE(key)      (1000 + (key))

typedef struct Member {
    uint16_t key;
    const char *name;
} Member;

static void numbers(Page *p, const Member *members)
{
    for (; members->name; members++) {
        number(p, members->key, VALUE(members->key));
    }
}

static void assert_numbers(QDict *object, const Member *members, int factor)
{
    for (; members->name; members++) {
        g_assert_cmpint(qdict_get_int(object, members->name), ==,
                        VALUE(members->key) * factor);
    }
}

static const Member fs_numbers[] = {
    { RVMRPC_FS_SIZE, "size" }, { RVMRPC_FS_FREE, "free" },
    { RVMRPC_FS_AVAILABLE, "available" }, { RVMRPC_FS_FILES, "inodes" },
    { RVMRPC_FS_FILES_FREE, "inodes-free" }, { }
};

static void test_filesystems(void)
{
    Page p = page_new();
    QDict *answer, *fs;
    Guest g;

    guest_start(&g);
    record(&p, RVMRPC_RECORD_FILESYSTEM);
    numbers(&p, fs_numbers);
    text(&p, RVMRPC_FS_TARGET, "/a");
    text(&p, RVMRPC_FS_SOURCE, "b");
    text(&p, RVMRPC_FS_TYPE, "c");
    text(&p, RVMRPC_FS_ROOT, "/d");
    number(&p, RVMRPC_FS_DEVICE, 7ull << 32 | 0xffffffff);
    number(&p, RVMRPC_FS_READ_ONLY, 1);
    number(&p, RVMRPC_FS_CACHED, 1);
    number(&p, RVMRPC_FS_SKIPPED, RVMRPC_FS_SKIPPED_FAILED);
    /* What it does not know, or not of this type, it leaves out. */
    record(&p, 999);
    record(&p, RVMRPC_RECORD_FILESYSTEM);
    text(&p, RVMRPC_FS_TARGET, "/e");
    text(&p, RVMRPC_FS_SIZE, "large");
    number(&p, RVMRPC_FS_SOURCE, 1);
    number(&p, RVMRPC_FS_SKIPPED, 0);
    number(&p, 999, 1);
    field(&p, RVMRPC_FS_TYPE, 7, "x", 1);
    answer = list(&g, "guest-filesystems", &p);
    assert_count(answer, "filesystems", 2);
    fs = element(answer, "filesystems", 0);
    assert_numbers(fs, fs_numbers, 1);
    g_assert_cmpstr(qdict_get_str(fs, "mountpoint"), ==, "/a");
    g_assert_cmpstr(qdict_get_str(fs, "source"), ==, "b");
    g_assert_cmpstr(qdict_get_str(fs, "type"), ==, "c");
    g_assert_cmpstr(qdict_get_str(fs, "root"), ==, "/d");
    g_assert_cmpstr(qdict_get_str(fs, "skipped"), ==, "failed");
    g_assert_cmpint(qdict_get_int(fs, "device-major"), ==, 7);
    g_assert_cmpint(qdict_get_int(fs, "device-minor"), ==, 0xffffffff);
    g_assert_true(qdict_get_bool(fs, "read-only"));
    g_assert_true(qdict_get_bool(fs, "cached"));
    g_assert_cmpuint(qdict_size(element(answer, "filesystems", 1)), ==, 1);
    qobject_unref(answer);
    guest_stop(&g);
}

static const Member net_numbers[] = {
    { RVMRPC_NET_INDEX, "index" }, { RVMRPC_NET_MTU, "mtu" },
    { RVMRPC_NET_RX_BYTES, "rx-bytes" },
    { RVMRPC_NET_RX_PACKETS, "rx-packets" },
    { RVMRPC_NET_RX_ERRORS, "rx-errors" },
    { RVMRPC_NET_RX_DROPPED, "rx-dropped" },
    { RVMRPC_NET_TX_BYTES, "tx-bytes" },
    { RVMRPC_NET_TX_PACKETS, "tx-packets" },
    { RVMRPC_NET_TX_ERRORS, "tx-errors" },
    { RVMRPC_NET_TX_DROPPED, "tx-dropped" }, { }
};

static void address(Page *p, uint64_t interface, uint32_t length)
{
    const uint8_t bytes[20] = { 192, 0, 2, 7 };

    record(p, RVMRPC_RECORD_ADDRESS);
    number(p, RVMRPC_ADDRESS_INTERFACE, interface);
    number(p, RVMRPC_ADDRESS_PREFIX, 25);
    text(p, RVMRPC_ADDRESS_SCOPE, length == 4 ? "link" : "universe");
    field(p, RVMRPC_ADDRESS_BYTES, RVMRPC_FIELD_BYTES, bytes, length);
}

static void test_interfaces(void)
{
    const uint8_t mac[] = { 0x52, 0x54, 0, 0x12, 0x34, 0xff };
    const uint64_t mine = VALUE(RVMRPC_NET_INDEX);
    QDict *answer, *net, *inner;
    Page p = page_new();
    Guest g;

    guest_start(&g);
    address(&p, mine, 4);       /* of none */
    record(&p, RVMRPC_RECORD_INTERFACE);
    numbers(&p, net_numbers);
    text(&p, RVMRPC_NET_NAME, "eth0");
    field(&p, RVMRPC_NET_MAC, RVMRPC_FIELD_BYTES, mac, sizeof(mac));
    number(&p, RVMRPC_NET_UP, 1);
    text(&p, RVMRPC_NET_STATE, "lowerlayerdown");
    number(&p, RVMRPC_NET_LOOPBACK, 1);
    address(&p, mine, 4);
    address(&p, mine, 16);
    address(&p, mine, 20);      /* of no family that we know */
    address(&p, mine + 1, 4);   /* of another */
    record(&p, RVMRPC_RECORD_INTERFACE);
    text(&p, RVMRPC_NET_NAME, "lo");
    text(&p, RVMRPC_NET_STATE, "sideways");
    field(&p, RVMRPC_NET_MAC, RVMRPC_FIELD_BYTES, mac, 0);
    answer = list(&g, "guest-interfaces", &p);
    net = element(answer, "interfaces", 0);
    assert_numbers(net, net_numbers, 1);
    g_assert_cmpstr(qdict_get_str(net, "mac"), ==, "52:54:00:12:34:ff");
    g_assert_cmpstr(qdict_get_str(net, "state"), ==, "lowerlayerdown");
    g_assert_true(qdict_get_bool(net, "up"));
    g_assert_true(qdict_get_bool(net, "loopback"));
    assert_count(net, "addresses", 2);
    inner = element(net, "addresses", 0);
    g_assert_cmpstr(qdict_get_str(inner, "address"), ==, "192.0.2.7");
    g_assert_cmpint(qdict_get_int(inner, "prefix"), ==, 25);
    g_assert_cmpstr(qdict_get_str(inner, "scope"), ==, "link");
    inner = element(net, "addresses", 1);
    g_assert_cmpstr(qdict_get_str(inner, "address"), ==, "c000:207::");
    g_assert_false(qdict_haskey(inner, "scope"));
    /* name, loopback and addresses */
    g_assert_cmpuint(qdict_size(element(answer, "interfaces", 1)), ==, 3);
    qobject_unref(answer);
    guest_stop(&g);
}

static const Member vmstat_numbers[] = {
    { RVMRPC_VMSTAT_PAGE_SIZE, "page-size" },
    { RVMRPC_VMSTAT_FAULTS, "faults" },
    { RVMRPC_VMSTAT_MAJOR_FAULTS, "major-faults" },
    { RVMRPC_VMSTAT_SWAP_IN, "swap-in" },
    { RVMRPC_VMSTAT_SWAP_OUT, "swap-out" },
    { RVMRPC_VMSTAT_SCAN_BACKGROUND, "scan-background" },
    { RVMRPC_VMSTAT_SCAN_DIRECT, "scan-direct" },
    { RVMRPC_VMSTAT_STEAL_BACKGROUND, "steal-background" },
    { RVMRPC_VMSTAT_STEAL_DIRECT, "steal-direct" },
    { RVMRPC_VMSTAT_REFAULT_ANON, "refault-anonymous" },
    { RVMRPC_VMSTAT_REFAULT_FILE, "refault-file" },
    { RVMRPC_VMSTAT_STALLS, "stalls" },
    { RVMRPC_VMSTAT_OOM_KILLS, "oom-kills" }, { }
};

static const Member vmstat_kib[] = {
    { RVMRPC_VMSTAT_IN, "in-bytes" }, { RVMRPC_VMSTAT_OUT, "out-bytes" }, { }
};

static const Member disk_numbers[] = {
    { RVMRPC_DISK_READS, "reads" },
    { RVMRPC_DISK_READS_MERGED, "reads-merged" },
    { RVMRPC_DISK_READ_BYTES, "read-bytes" },
    { RVMRPC_DISK_READ_NS, "read-ns" },
    { RVMRPC_DISK_WRITES, "writes" },
    { RVMRPC_DISK_WRITES_MERGED, "writes-merged" },
    { RVMRPC_DISK_WRITE_BYTES, "write-bytes" },
    { RVMRPC_DISK_WRITE_NS, "write-ns" },
    { RVMRPC_DISK_IN_FLIGHT, "in-flight" },
    { RVMRPC_DISK_BUSY_NS, "busy-ns" },
    { RVMRPC_DISK_QUEUE_NS, "queue-ns" },
    { RVMRPC_DISK_DISCARDS, "discards" },
    { RVMRPC_DISK_DISCARDS_MERGED, "discards-merged" },
    { RVMRPC_DISK_DISCARD_BYTES, "discard-bytes" },
    { RVMRPC_DISK_DISCARD_NS, "discard-ns" },
    { RVMRPC_DISK_FLUSHES, "flushes" },
    { RVMRPC_DISK_FLUSH_NS, "flush-ns" }, { }
};

static const char *const averages[] = { "avg10", "avg60", "avg300" };

static void psi_record(Page *p, const char *resource, int keys)
{
    record(p, RVMRPC_RECORD_PSI);
    text(p, RVMRPC_PSI_RESOURCE, resource);
    for (int key = RVMRPC_PSI_SOME_AVG10; keys--; key++) {
        number(p, key, VALUE(key));
    }
}

static void assert_psi(QDict *psi, const char *name, int key)
{
    QDict *times = qdict_get_qdict(psi, name);

    for (size_t i = 0; i < ARRAY_SIZE(averages); i++) {
        g_assert_cmpfloat(qdict_get_double(times, averages[i]), ==,
                          VALUE(key + i) / 100.0);
    }
    g_assert_cmpint(qdict_get_int(times, "total-ns"), ==, VALUE(key + 3));
}

static void test_pressure(void)
{
    Page psi = page_new(), vmstat = page_new(), disks = page_new();
    QDict *answer, *inner;
    Request r;
    Guest g;

    guest_start(&g);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-pressure' }");
    psi_record(&psi, "io", 8);
    psi_record(&psi, "io", 8);
    psi_record(&psi, "cpu", 4);
    psi_record(&psi, "patience", 8);
    send_page(&g, &psi, &r);
    g_assert_cmpuint(r.hdr.procedure, ==, RVMRPC_PRESSURE_PSI);
    record(&vmstat, RVMRPC_RECORD_VMSTAT);
    numbers(&vmstat, vmstat_numbers);
    numbers(&vmstat, vmstat_kib);
    send_page(&g, &vmstat, &r);
    g_assert_cmpuint(r.hdr.procedure, ==, RVMRPC_PRESSURE_VMSTAT);
    record(&disks, RVMRPC_RECORD_DISK);
    text(&disks, RVMRPC_DISK_NAME, "vda");
    number(&disks, RVMRPC_DISK_DEVICE, 254ull << 32 | 3);
    numbers(&disks, disk_numbers);
    send_page(&g, &disks, &r);
    g_assert_cmpuint(r.hdr.procedure, ==, RVMRPC_PRESSURE_DISKS);
    answer = returned(&g);
    assert_psi(qdict_get_qdict(answer, "io"), "some", RVMRPC_PSI_SOME_AVG10);
    assert_psi(qdict_get_qdict(answer, "io"), "full", RVMRPC_PSI_FULL_AVG10);
    inner = qdict_get_qdict(answer, "cpu");
    assert_psi(inner, "some", RVMRPC_PSI_SOME_AVG10);
    g_assert_false(qdict_haskey(inner, "full"));
    g_assert_false(qdict_haskey(answer, "memory"));
    inner = qdict_get_qdict(answer, "vmstat");
    assert_numbers(inner, vmstat_numbers, 1);
    assert_numbers(inner, vmstat_kib, KiB);
    inner = element(answer, "disks", 0);
    assert_numbers(inner, disk_numbers, 1);
    g_assert_cmpint(qdict_get_int(inner, "device-major"), ==, 254);
    g_assert_cmpint(qdict_get_int(inner, "device-minor"), ==, 3);
    qobject_unref(answer);
    guest_stop(&g);
}

static const Member task_numbers[] = {
    { RVMRPC_TASK_PID, "pid" }, { RVMRPC_TASK_THREAD, "thread" },
    { RVMRPC_TASK_PARENT, "parent" }, { RVMRPC_TASK_UID, "uid" },
    { RVMRPC_TASK_THREADS, "threads" }, { RVMRPC_TASK_RSS, "rss" },
    { RVMRPC_TASK_CPU_NS, "cpu-ns" }, { RVMRPC_TASK_STARTED_NS, "started-ns" },
    { }
};

static void test_tasks(void)
{
    QDict *answer, *task;
    Page p = page_new();
    Request r;
    Guest g;

    guest_start(&g);
    record(&p, RVMRPC_RECORD_TASK);
    numbers(&p, task_numbers);
    text(&p, RVMRPC_TASK_NAME, "kworker");
    text(&p, RVMRPC_TASK_STATE, "D");
    text(&p, RVMRPC_TASK_WAIT, "biord");
    number(&p, RVMRPC_TASK_KERNEL, 1);
    number(&p, RVMRPC_TASK_FROZEN, 1);
    for (int i = 0; i < 100; i++) {
        text(&p, RVMRPC_TASK_STACK, i ? "schedule" : "__schedule");
    }
    record(&p, RVMRPC_RECORD_TASK);
    number(&p, RVMRPC_TASK_PID, 1);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-tasks', 'arguments':"
                   " { 'select': 'cpu', 'max': 1 } }");
    send_page(&g, &p, &r);
    g_assert_cmpuint(r.arg.records.select, ==, RVMRPC_TASKS_BY_CPU);
    g_assert_cmpuint(r.arg.records.limit, ==, 1);
    answer = returned(&g);
    assert_count(answer, "tasks", 1);   /* whatever the guest sends */
    task = element(answer, "tasks", 0);
    assert_numbers(task, task_numbers, 1);
    g_assert_cmpstr(qdict_get_str(task, "name"), ==, "kworker");
    g_assert_cmpstr(qdict_get_str(task, "state"), ==, "D");
    g_assert_cmpstr(qdict_get_str(task, "wait"), ==, "biord");
    g_assert_true(qdict_get_bool(task, "kernel"));
    g_assert_true(qdict_get_bool(task, "frozen"));
    assert_count(task, "stack", 64);
    g_assert_cmpstr(qstring_get_str(qobject_to(
        QString, qlist_peek(qdict_get_qlist(task, "stack")))), ==,
        "__schedule");
    qobject_unref(answer);
    guest_stop(&g);
}

/* ---- What a guest can do to a reader ---- */

static const Member log_numbers[] = {
    { RVMRPC_LOG_SEQ, "seq" }, { RVMRPC_LOG_FACILITY, "facility" },
    { RVMRPC_LOG_TIME_NS, "time-ns" }, { }
};

/* Text that is none, and such that would change what a terminal shows. */
static void test_text(void)
{
    const char bad[] = "a\xff\xc3(\\\n\t\x1b[2J\xe2\x80\xae\xc3\xa9\"";
    const char *good = "a\\377\\303(\\\\\\n\\t\\033[2J\\342\\200\\256\xc3\xa9\"";
    Page p = page_new();
    QDict *answer, *message;
    Request r;
    Guest g;

    guest_start(&g);
    record(&p, RVMRPC_RECORD_LOG);
    numbers(&p, log_numbers);
    number(&p, RVMRPC_LOG_LEVEL, 7);
    text(&p, RVMRPC_LOG_TEXT, bad);
    record(&p, RVMRPC_RECORD_LOG);
    number(&p, RVMRPC_LOG_SEQ, UINT64_MAX);
    number(&p, RVMRPC_LOG_LEVEL, 8);
    field(&p, RVMRPC_LOG_TEXT, RVMRPC_FIELD_STRING, "x\0y", 3);
    p.head.next = 77;
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-kernel-log' }");
    send_page(&g, &p, &r);
    g_assert_cmpuint(r.arg.records.select, ==, RVMRPC_KLOG_LAST);
    g_assert_cmpuint(r.arg.records.limit, ==, 64);
    answer = returned(&g);
    g_assert_cmpint(qdict_get_int(answer, "next"), ==, 77);
    message = element(answer, "messages", 0);
    assert_numbers(message, log_numbers, 1);
    g_assert_cmpstr(qdict_get_str(message, "level"), ==, "debug");
    g_assert_cmpstr(qdict_get_str(message, "text"), ==, good);
    message = element(answer, "messages", 1);
    g_assert_false(qdict_haskey(message, "level"));
    g_assert_cmpstr(qdict_get_str(message, "text"), ==, "x");
    qobject_unref(answer);
    guest_stop(&g);
}

static Page good_page(void)
{
    Page p = page_new();

    record(&p, RVMRPC_RECORD_FILESYSTEM);
    text(&p, RVMRPC_FS_TARGET, "/a");
    return p;
}

static void test_malformed(void)
{
    const uint16_t nothing = 0, odd = 12, beyond = 4096;
    const uint32_t length = 1 << 30;
    Request r;
    Guest g;
    Page p;

    guest_start(&g);
    p = good_page();
    p.head.count = 2;
    list_fails(&g, "guest-filesystems", &p);
    p = good_page();
    p.head.reserved = 1;
    list_fails(&g, "guest-filesystems", &p);
    for (int i = 0; i < 3; i++) {
        p = good_page();
        memcpy(p.bytes->data + p.record, i == 0 ? &nothing : i == 1 ? &odd :
               &beyond, sizeof(nothing));
        list_fails(&g, "guest-filesystems", &p);
    }
    /* A field that leads out of its record. */
    p = good_page();
    memcpy(p.bytes->data + p.record + sizeof(struct rvmrpc_record_hdr) +
           offsetof(struct rvmrpc_field, length), &length, sizeof(length));
    list_fails(&g, "guest-filesystems", &p);
    /* One that lacks what all have. */
    p = page_new();
    record(&p, RVMRPC_RECORD_FILESYSTEM);
    list_fails(&g, "guest-filesystems", &p);
    /* No list at all. */
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-filesystems' }");
    r = take(&g);
    reply(&g, &r, RVMRPC_STATUS_OK, &length, sizeof(length));
    assert_error(&g, MALFORMED);
    /* One that goes in circles. */
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-filesystems' }");
    for (int i = 1; i < 4; i++) {
        p = good_page();
        p.head.flags = RVMRPC_RECORDS_MORE;
        p.head.next = i % 3;
        send_page(&g, &p, &r);
        g_assert_cmpuint(r.arg.records.cursor, ==, i - 1);
    }
    assert_error(&g, MALFORMED);
    guest_stop(&g);
}

/* More than a list may have, of elements or of bytes: it ends, and says so. */
static void test_bounds(void)
{
    static uint8_t junk[60000];
    uint64_t cursor = 0;
    QDict *answer;
    Request r;
    Guest g;

    guest_start(&g);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-filesystems', 'arguments':"
                   " { 'timeout': 60000 } }");
    do {
        Page p = page_new();

        while (p.head.count < 2000) {
            record(&p, RVMRPC_RECORD_FILESYSTEM);
            text(&p, RVMRPC_FS_TARGET, "/");
        }
        p.head.flags = RVMRPC_RECORDS_MORE | RVMRPC_RECORDS_PARTIAL;
        p.head.next = ++cursor;
        send_page(&g, &p, &r);
    } while (r.arg.records.limit > 2000);
    answer = returned(&g);
    assert_count(answer, "filesystems", 8192);
    g_assert_true(qdict_get_bool(answer, "more"));
    g_assert_true(qdict_get_bool(answer, "partial"));
    g_assert_false(qdict_haskey(answer, "cut"));
    qobject_unref(answer);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-filesystems', 'arguments':"
                   " { 'timeout': 60000 } }");
    for (int i = 0; i < 2 * MiB / sizeof(junk) + 1; i++) {
        Page p = page_new();

        record(&p, 999);
        field(&p, 1, RVMRPC_FIELD_BYTES, junk, sizeof(junk));
        p.head.flags = RVMRPC_RECORDS_MORE;
        p.head.next = ++cursor;
        send_page(&g, &p, &r);
    }
    answer = returned(&g);
    assert_count(answer, "filesystems", 0);
    g_assert_cmpstr(qdict_get_str(answer, "cut"), ==, "too-big");
    qobject_unref(answer);
    guest_stop(&g);
}

/* ---- The time, and what comes of a list that breaks off ---- */

/* A guest that takes its time for the first of two answers. */
static void begin_list(Guest *g, uint32_t us)
{
    Request r;
    Page p = good_page();

    qtest_qmp_send(g->f.qts, "{ 'execute': 'guest-filesystems', 'arguments':"
                   " { 'timeout': 6000 } }");
    p.head.flags = RVMRPC_RECORDS_MORE;
    p.head.next = 5;
    r = take(g);
    g_usleep(us);
    reply_page(g, &p, &r);
}

static void assert_cut(Guest *g, const char *status)
{
    QDict *answer = returned(g);

    assert_count(answer, "filesystems", 1);
    g_assert_cmpstr(qdict_get_str(answer, "cut"), ==, status);
    g_assert_true(qdict_get_bool(answer, "more"));
    qobject_unref(answer);
}

static void test_cut(void)
{
    int64_t begin;
    Request r;
    Guest g;

    guest_start(&g);
    begin = g_get_monotonic_time();
    begin_list(&g, 500 * 1000);
    r = take(&g);
    g_assert_cmpuint(r.arg.records.cursor, ==, 5);
    /* One time for both. */
    g_assert_cmpuint(r.hdr.timeout_ms, <=, 5500);
    assert_cut(&g, "timed-out");
    g_assert_cmpint(g_get_monotonic_time() - begin, >=,
                    6 * G_USEC_PER_SEC);
    reply(&g, &r, RVMRPC_STATUS_OK, NULL, 0);
    begin_list(&g, 0);
    r = take(&g);
    reply(&g, &r, RVMRPC_STATUS_BUSY, NULL, 0);
    assert_cut(&g, "busy");
    /* When nothing came it is an error. */
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-filesystems' }");
    r = take(&g);
    reply(&g, &r, RVMRPC_STATUS_NOT_ALLOWED, NULL, 0);
    assert_error(&g, "not-allowed: the guest's allow-list does not have the"
                 " procedure");
    guest_stop(&g);
}

/* ---- Answers of one structure ---- */

/* The command is answered with such a payload, and must be malformed. */
static void assert_refused(Guest *g, const char *command, const void *payload,
                           uint32_t length, const char *desc)
{
    Request r;

    qtest_qmp_send(g->f.qts, "{ 'execute': %s }", command);
    r = take(g);
    reply(g, &r, RVMRPC_STATUS_OK, payload, length);
    assert_error(g, desc);
}

static void test_structures(void)
{
    static const char *const commands[] = {
        "guest-freeze", "guest-thaw", "guest-freeze-status", "guest-compact",
    };
    struct rvmrpc_freeze_res frozen = {
        .state = RVMRPC_FREEZE_EXPIRED, .count = 1, .skipped = 2, .lost = 3,
        .left_ms = 4,
    };
    const struct rvmrpc_shrink_res shrunk = { .end = 3 };
    QDict *answer;
    Request r;
    Guest g;

    guest_start(&g);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        assert_refused(&g, commands[i], &frozen, 8,
                       "system-error: the guest's answer is too short");
    }
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-freeze', 'arguments':"
                   " { 'thaw-ms': 1234 } }");
    r = take(&g);
    g_assert_cmpuint(r.arg.freeze.timeout_ms, ==, 1234);
    reply(&g, &r, RVMRPC_STATUS_OK, &frozen, sizeof(frozen));
    answer = returned(&g);
    g_assert_cmpstr(qdict_get_str(answer, "state"), ==, "expired");
    g_assert_cmpint(qdict_get_int(answer, "count"), ==, 1);
    g_assert_cmpint(qdict_get_int(answer, "skipped"), ==, 2);
    g_assert_cmpint(qdict_get_int(answer, "lost"), ==, 3);
    g_assert_cmpint(qdict_get_int(answer, "left-ms"), ==, 4);
    qobject_unref(answer);
    frozen.state = RVMRPC_FREEZE_EXPIRED + 1;
    assert_refused(&g, "guest-thaw", &frozen, sizeof(frozen), MALFORMED);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-reclaim', 'arguments':"
                   " { 'bytes': 5 } }");
    r = take(&g);
    g_assert_cmpuint(r.arg.bytes, ==, 5);
    reply(&g, &r, RVMRPC_STATUS_OK, &shrunk, sizeof(shrunk));
    assert_error(&g, MALFORMED);
    guest_stop(&g);
}

static void clock_record(Page *p, uint64_t realtime)
{
    record(p, RVMRPC_RECORD_CLOCK);
    number(p, RVMRPC_CLOCK_REALTIME, realtime);
    number(p, RVMRPC_CLOCK_MONOTONIC, 8);
    number(p, RVMRPC_CLOCK_BOOTTIME, 9);
}

static void test_clock(void)
{
    const struct rvmrpc_clock_res stepped = { .before_ns = 1, .after_ns = 2 };
    int64_t now = g_get_real_time() * 1000;
    QDict *answer;
    Request r;
    Guest g;
    Page p;

    guest_start(&g);
    p = page_new();
    list_fails(&g, "guest-clock", &p);
    p = page_new();
    clock_record(&p, 1ull << 63);
    list_fails(&g, "guest-clock", &p);
    p = page_new();
    record(&p, RVMRPC_RECORD_CLOCK);
    number(&p, RVMRPC_CLOCK_REALTIME, 1);
    list_fails(&g, "guest-set-clock", &p);
    p = page_new();
    clock_record(&p, 1000);
    answer = list(&g, "guest-clock", &p);
    g_assert_cmpint(qdict_get_int(answer, "realtime-ns"), ==, 1000);
    g_assert_cmpint(qdict_get_int(answer, "monotonic-ns"), ==, 8);
    g_assert_cmpint(qdict_get_int(answer, "boottime-ns"), ==, 9);
    g_assert_cmpint(qdict_get_int(answer, "host-ns"), >=, now);
    g_assert_cmpint(qdict_get_int(answer, "skew-ns"), ==,
                    1000 - qdict_get_int(answer, "host-ns"));
    qobject_unref(answer);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-set-clock' }");
    p = page_new();
    clock_record(&p, 1000);
    send_page(&g, &p, &r);
    r = take(&g);
    g_assert_cmpuint(r.hdr.procedure, ==, RVMRPC_CLOCK_SET);
    g_assert_cmpuint(r.arg.clock.realtime_ns, >=, now);
    g_assert_cmpuint(r.arg.clock.boottime_ns, ==, 9);
    reply(&g, &r, RVMRPC_STATUS_OK, &stepped, sizeof(stepped));
    answer = returned(&g);
    g_assert_cmpint(qdict_get_int(answer, "before-ns"), ==, 1);
    g_assert_cmpint(qdict_get_int(answer, "after-ns"), ==, 2);
    qobject_unref(answer);
    guest_stop(&g);
}

/* A kernel that a key ends does not answer: another one says hello. */
static void test_sysrq(void)
{
    QDict *answer;
    Request r;
    Guest g;

    guest_start(&g);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-sysrq', 'arguments':"
                   " { 'key': 'b' } }");
    r = take(&g);
    g_assert_cmpuint(r.arg.sysrq.key, ==, 'b');
    hello(&g, 2);
    answer = returned(&g);
    g_assert_cmpuint(qdict_size(answer), ==, 0);
    qobject_unref(answer);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-sysrq', 'arguments':"
                   " { 'key': 'w' } }");
    take(&g);
    hello(&g, 3);
    assert_error(&g, "reset: the guest was reset, migrated or registered"
                 " again");
    guest_stop(&g);
}

static void say(int fd, const char *line)
{
    g_assert_cmpint(write(fd, line, strlen(line)), ==, strlen(line));
}

static int64_t stat_of(Guest *g, const char *name)
{
    QDict *rsp = qtest_qmp(g->f.qts, "{ 'execute': 'query-rvmrpc' }");
    QDict *stats = qdict_get_qdict(qdict_get_qdict(rsp, "return"), "stats");
    int64_t n = qdict_get_int(stats, name);

    qobject_unref(rsp);
    return n;
}

/* Strings may overlap: what they are together is bounded by what each is. */
static void test_long_name(void)
{
    struct {
        struct rvmrpc_info head;
        struct rvmrpc_item item;
        char text[30000];
    } cpu = {
        .head = { .count = 1, .text_length = sizeof(cpu.text) },
        .item = { .key = RVMRPC_CPU_MODEL_NAME, .type = RVMRPC_ITEM_STRING,
                  .value = (uint64_t)sizeof(cpu.text) << 32 },
    };
    QDict *answer;
    QList *cpus;
    Request r;
    Guest g;

    memset(cpu.text, 'x', sizeof(cpu.text));
    guest_start(&g);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-cpuinfo' }");
    r = take(&g);
    reply(&g, &r, RVMRPC_STATUS_OK, &cpu, sizeof(cpu));
    answer = returned(&g);
    cpus = qdict_get_qlist(answer, "cpus");
    g_assert_cmpuint(strlen(qdict_get_str(qobject_to(QDict, qlist_peek(cpus)),
                                          "model-name")), ==, 1024);
    qobject_unref(answer);
    guest_stop(&g);
}

/* ---- Another monitor ---- */

typedef struct Second {
    char *dir, *path;
    int fd;
} Second;

/* The guest starts, and a client is there that says @line. */
static void second_start(Second *s, Guest *g, const char *line)
{
    g_autofree char *options = NULL;

    s->dir = g_dir_make_tmp("rvmrpc-XXXXXX", NULL);
    s->path = g_build_filename(s->dir, "qmp", NULL);
    options = g_strdup_printf(
        " -chardev socket,id=second,server=on,wait=off,path=%s"
        " -mon chardev=second,mode=control", s->path);
    guest_start_with(g, options);
    s->fd = unix_connect(s->path, &error_abort);
    say(s->fd, "{\"execute\": \"qmp_capabilities\"}\n");
    say(s->fd, line);
}

static void second_stop(Second *s, Guest *g)
{
    guest_stop(g);
    unlink(s->path);
    rmdir(s->dir);
    g_free(s->path);
    g_free(s->dir);
}

/* The client of another monitor goes: of its command's calls no more come. */
static void test_gone(void)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_US;
    Page p = page_new();
    int64_t calls;
    Request r;
    Second s;
    Guest g;

    second_start(&s, &g, "{\"execute\": \"guest-pressure\"}\n");
    send_page(&g, &p, &r);
    take(&g);
    calls = stat_of(&g, "calls");
    close(s.fd);
    while (!stat_of(&g, "cancelled")) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    g_usleep(50 * 1000);
    g_assert_cmpint(stat_of(&g, "calls"), ==, calls);
    second_stop(&s, &g);
}

/* What was said so far has it. */
static bool has_said(int fd, GString *said, const char *text)
{
    char bytes[4096];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    g_string_append_len(said, bytes, MAX(n, 0));
    return strstr(said->str, text);
}

/* A list of modules without end, each page of it in time, holds nobody up. */
static void test_endless(void)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_US;
    g_autoptr(GString) said = g_string_new(NULL);
    const struct {
        struct rvmrpc_list head;
        struct rvmrpc_list_entry entry;
    } page = {
        .head = { .count = 1, .total = 4000 },
        .entry = { .kind = RVMRPC_LIST_MODULE, .name = "known" },
    };
    Request r;
    Second s;
    Guest g;

    second_start(&s, &g, "{\"execute\": \"guest-kernel-call\", \"arguments\":"
                 " {\"module\": \"unknown\", \"procedure\": 0,"
                 " \"timeout\": 500}}\n");
    while (!has_said(s.fd, said, "\"timed-out\"")) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(50 * 1000);
        if (look(&g, &r)) {
            g.seq = r.seq;
            reply(&g, &r, RVMRPC_STATUS_OK, &page, sizeof(page));
        }
    }
    close(s.fd);
    second_stop(&s, &g);
}

/* QEMU ends while the second of a command's calls is under way. */
static void test_quit(void)
{
    Page p = page_new();
    Request r;
    Guest g;

    guest_start(&g);
    qtest_qmp_send(g.f.qts, "{ 'execute': 'guest-pressure', 'arguments':"
                   " { 'timeout': 60000 } }");
    send_page(&g, &p, &r);
    take(&g);
    guest_stop(&g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("rvmrpc-qmp/filesystems", test_filesystems);
    qtest_add_func("rvmrpc-qmp/interfaces", test_interfaces);
    qtest_add_func("rvmrpc-qmp/pressure", test_pressure);
    qtest_add_func("rvmrpc-qmp/tasks", test_tasks);
    qtest_add_func("rvmrpc-qmp/text", test_text);
    qtest_add_func("rvmrpc-qmp/malformed", test_malformed);
    qtest_add_func("rvmrpc-qmp/bounds", test_bounds);
    qtest_add_func("rvmrpc-qmp/cut", test_cut);
    qtest_add_func("rvmrpc-qmp/structures", test_structures);
    qtest_add_func("rvmrpc-qmp/clock", test_clock);
    qtest_add_func("rvmrpc-qmp/sysrq", test_sysrq);
    qtest_add_func("rvmrpc-qmp/long-name", test_long_name);
    qtest_add_func("rvmrpc-qmp/gone", test_gone);
    qtest_add_func("rvmrpc-qmp/endless", test_endless);
    qtest_add_func("rvmrpc-qmp/quit", test_quit);
    return g_test_run();
}
