/*
 * QTest testcase for rvmrpc: the device and its QMP commands, at random
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * RVMRPC_FUZZ_S seconds (10) each.  glib prints the seed; --seed SEED makes the
 * same steps again, as far as their time lets it, and QTEST_LOG=1 shows them.
 */
#include "qemu/osdep.h"
#include "hw/pci/msi.h"
#include "hw/pci/pci_regs.h"
#include "qapi/error.h"
#include "qemu/sockets.h"
#include "qobject/qbool.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnull.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "libqmp.h"
#include "rvmrpc-fixture.h"

#define RAM_BYTES       (128u << 20)    /* of any PC */
#define LIFE_STEPS      2000            /* of one QEMU */
#define WINDOW_AT       0xe4000000u     /* where one of any size fits */

static uint32_t below(uint32_t n)
{
    return g_test_rand_int_range(0, n);
}

static bool one_in(uint32_t n)
{
    return !below(n);
}

static uint64_t bits(void)
{
    return (uint64_t)(uint32_t)g_test_rand_int() << 32 |
           (uint32_t)g_test_rand_int();
}

static void random_bytes(void *to, size_t bytes)
{
    for (uint8_t *p = to; bytes--; p++) {
        *p = g_test_rand_int();
    }
}

static int64_t end_of_fuzzing(void)
{
    const char *text = g_getenv("RVMRPC_FUZZ_S") ?: "10";
    int64_t seconds = g_ascii_strtoll(text, NULL, 10);

    if (seconds < 1) {
        g_error("RVMRPC_FUZZ_S=%s is no number of seconds, as 10", text);
    }
    return g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
}

/* A guest that says hello until it is heard, as a driver does. */
static void guest_greet(Guest *g)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_US, again = 0;
    uint64_t nonce = bits() | 1;

    do {
        int64_t now = g_get_monotonic_time();

        g_assert_cmpint(now, <, end);
        if (now >= again) {
            /* It may not be answered, for an epoch that ended meanwhile. */
            say_hello(&g->f, g->window, ++nonce);
            again = now + G_USEC_PER_SEC / 2;
        }
        g_usleep(1000);
    } while (host_page(&g->f, g->window).answer.nonce != nonce);
    g_assert_cmpuint(host_page(&g->f, g->window).answer.status, ==,
                     RVMRPC_HELLO_OK);
    take_answer(g);
}

/* ---- The device ---- */

typedef struct Bar {
    uint64_t address;
    uint64_t size;
} Bar;

typedef struct Device {
    Guest g;
    QPCIBar msix;
    Bar bars[3];                /* where they are put, as RVMRPC_BAR_* */
    uint64_t steps;
} Device;

/* The PCI configuration as firmware would have it. */
static void settle(Device *d)
{
    QPCIDevice *dev = d->g.f.dev;

    qpci_config_writel(dev, PCI_BASE_ADDRESS_0, d->bars[0].address);
    qpci_config_writel(dev, PCI_BASE_ADDRESS_1, d->bars[1].address);
    qpci_config_writel(dev, PCI_BASE_ADDRESS_2, d->bars[2].address);
    qpci_config_writel(dev, PCI_BASE_ADDRESS_3, d->bars[2].address >> 32);
    qpci_device_enable(dev);
}

static void device_start(Device *d)
{
    static const char *const options[] = {
        ",id=rv,default-timeout=5",
        ",id=rv,default-timeout=5,window=64K,slots=1,response-bytes=4096",
        ",id=rv,default-timeout=5,log=4096,slots=64",
    };
    Fixture *f = &d->g.f;

    start(f, options[below(ARRAY_SIZE(options))]);
    d->msix = qpci_iomap(f->dev, RVMRPC_BAR_MSIX,
                         &d->bars[RVMRPC_BAR_MSIX].size);
    d->g.window = qpci_iomap(f->dev, RVMRPC_BAR_WINDOW,
                             &d->bars[RVMRPC_BAR_WINDOW].size);
    d->bars[RVMRPC_BAR_REGS] = (Bar) { f->bar.addr, RVMRPC_REG_SIZE };
    d->bars[RVMRPC_BAR_MSIX].address = d->msix.addr;
    d->g.window.addr = WINDOW_AT;
    d->bars[RVMRPC_BAR_WINDOW].address = WINDOW_AT;
    settle(d);
}

/* Addresses and values at which something changes, and any. */
static uint64_t value(Device *d)
{
    const uint64_t edges[] = {
        0, 1, 63, RAM_BYTES - 64, RAM_BYTES, 0xfee00000, 0xfec00000,
        UINT32_MAX - 63, UINT32_MAX, 1ull << 32, 1ull << 51, INT64_MAX,
        UINT64_MAX - 63, UINT64_MAX, d->bars[0].address + RVMRPC_REG_RING,
        d->bars[0].address + RVMRPC_REG_DOORBELL, d->bars[1].address,
        d->bars[2].address, d->bars[2].address + d->bars[2].size - 64,
    };

    switch (below(4)) {
    case 0:
        return edges[below(ARRAY_SIZE(edges))];
    case 1:
        return edges[below(ARRAY_SIZE(edges))] + below(129) - 64;
    case 2:
        return below(RAM_BYTES / 64) * 64ull;
    default:
        return bits() >> below(64);
    }
}

/* A read or a write, of any size, at any place of a BAR. */
static void step_access(Device *d)
{
    const Bar *bar = &d->bars[below(ARRAY_SIZE(d->bars))];
    uint64_t at = bar->address +
                  below(one_in(2) ? MIN(bar->size, 0x30) : bar->size);
    QTestState *qts = d->g.f.qts;
    uint64_t v = value(d);

    switch (below(8)) {
    case 0:
        qtest_readb(qts, at);
        break;
    case 1:
        qtest_readw(qts, at);
        break;
    case 2:
        qtest_readl(qts, at);
        break;
    case 3:
        qtest_readq(qts, at);
        break;
    case 4:
        qtest_writeb(qts, at, v);
        break;
    case 5:
        qtest_writew(qts, at, v);
        break;
    case 6:
        qtest_writel(qts, at, v);
        break;
    default:
        qtest_writeq(qts, at, v);
        break;
    }
}

/* A call by the doorbell, with a frame of any content at any address. */
static void step_frame(Device *d)
{
    struct rvmrpc_frame frame = {
        .op = below(5) | (one_in(3) ? RVMRPC_OP_KERNEL : 0),
        .a0 = value(d), .a1 = value(d), .a2 = value(d),
    };
    uint64_t at = value(d);

    if (one_in(8)) {
        random_bytes(&frame, sizeof(frame));
    }
    if (at <= RAM_BYTES - sizeof(frame)) {
        qtest_memwrite(d->g.f.qts, at, &frame, sizeof(frame));
    }
    qtest_writeq(d->g.f.qts, d->bars[0].address + RVMRPC_REG_DOORBELL, at);
}

/* What a guest can write into its window, and a ring. */
static void step_window(Device *d)
{
    const uint64_t base = d->bars[RVMRPC_BAR_WINDOW].address;
    uint8_t bytes[192];
    uint32_t most = one_in(2) ? RVMRPC_GUEST_PAGE + 0x1000 :
                    d->bars[RVMRPC_BAR_WINDOW].size;

    random_bytes(bytes, sizeof(bytes));
    switch (below(4)) {
    case 0:
        say_hello(&d->g.f, d->g.window, bits());
        return;
    case 1:
        /* A hello that has something amiss. */
        say_hello(&d->g.f, d->g.window, bits());
        qtest_memwrite(d->g.f.qts, base + RVMRPC_GUEST_PAGE +
                       below(sizeof(struct rvmrpc_guest_page) / 4) * 4, bytes,
                       4);
        break;
    case 2:
        /* Words of its page that say that something is new. */
        qtest_writel(d->g.f.qts, base + RVMRPC_GUEST_PAGE + 128 +
                     below(4) * 64, value(d));
        break;
    default:
        qtest_memwrite(d->g.f.qts, base + below(most - sizeof(bytes)), bytes,
                       1 + below(sizeof(bytes)));
        break;
    }
    qtest_writel(d->g.f.qts, d->bars[0].address + RVMRPC_REG_RING, 0);
}

static void step_config(Device *d)
{
    QPCIDevice *dev = d->g.f.dev;
    uint8_t at = below(256);
    uint32_t v = value(d);

    if (one_in(2)) {
        /* Command, BARs, MSI-X. */
        at = one_in(2) ? below(0x28) : 0x40 + below(16);
    }
    switch (below(6)) {
    case 0:
        qpci_config_readb(dev, at);
        break;
    case 1:
        qpci_config_readw(dev, at & ~1);
        break;
    case 2:
        qpci_config_readl(dev, at & ~3);
        break;
    case 3:
        qpci_config_writeb(dev, at, v);
        break;
    case 4:
        qpci_config_writew(dev, at & ~1, v);
        break;
    default:
        qpci_config_writel(dev, at & ~3, v);
        break;
    }
}

/* The vector's entry, to somewhere, enabled. */
static void step_msix(Device *d)
{
    QTestState *qts = d->g.f.qts;
    uint64_t at = d->bars[RVMRPC_BAR_MSIX].address, to = value(d);
    uint8_t cap = qpci_find_capability(d->g.f.dev, PCI_CAP_ID_MSIX, 0);

    qtest_writel(qts, at + PCI_MSIX_ENTRY_LOWER_ADDR, to & ~3);
    qtest_writel(qts, at + PCI_MSIX_ENTRY_UPPER_ADDR, to >> 32);
    qtest_writel(qts, at + PCI_MSIX_ENTRY_DATA, bits());
    qtest_writel(qts, at + PCI_MSIX_ENTRY_VECTOR_CTRL, one_in(4));
    qpci_config_writew(d->g.f.dev, cap + PCI_MSIX_FLAGS,
                       one_in(4) ? bits() : PCI_MSIX_FLAGS_ENABLE);
}

static void step(Device *d);

/* What happens from outside; a call goes on while the guest does its worst. */
static void step_outside(Device *d)
{
    QTestState *qts = d->g.f.qts;
    QDict *rsp;

    switch (below(8)) {
    case 0:
        qtest_qmp_assert_success(qts, "{ 'execute': 'system_reset' }");
        settle(d);
        return;
    case 1:
        qtest_qmp_assert_success(qts, "{ 'execute': 'stop' }");
        return;
    case 2:
        qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
        return;
    case 3:
        qtest_qmp_assert_success(qts, "{ 'execute': 'query-rvmrpc' }");
        return;
    case 4:
        g_free(qtest_hmp(qts, "info rvmrpc"));
        return;
    default:
        qtest_qmp_send(qts, "{ 'execute': 'guest-kernel-call', 'arguments':"
                       " { 'module': 1, 'procedure': 0, 'timeout': 5 } }");
        for (int i = 0; i < 20; i++) {
            step(d);
        }
        rsp = qtest_qmp_receive(qts);
        g_assert(qdict_haskey(rsp, "return"));
        qobject_unref(rsp);
    }
}

/* One step that the guest can do by itself. */
static void step(Device *d)
{
    static void (*const steps[])(Device *d) = {
        step_access, step_frame, step_window, step_config, step_msix, settle,
    };

    steps[below(ARRAY_SIZE(steps))](d);
    d->steps++;
}

/* It is plugged out under the guest, and in again. */
static void replug(Device *d)
{
    QTestState *qts = d->g.f.qts;

    qtest_qmp_device_del_send(qts, "rv");
    /* The guest ejects it through ACPI. */
    qtest_outl(qts, 0xae08, 1u << SLOT);
    qtest_qmp_eventwait(qts, "DEVICE_DELETED");
    qtest_qmp_device_add(qts, "rvmrpc", "rv", "{ 'addr': '4.0', "
                         "'default-timeout': 5 }");
    d->bars[RVMRPC_BAR_WINDOW].size = RVMRPC_WINDOW_SIZE_DEFAULT;
    settle(d);
}

/* After all that the device serves a guest that behaves. */
static void assert_serves(Device *d)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_US;
    QTestState *qts = d->g.f.qts;
    Request r;
    QDict *rsp;

    qtest_system_reset(qts);
    settle(d);
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    g_assert_cmphex(ring(&d->g.f, FRAME_GPA, RVMRPC_OP_NULL, 0), ==,
                    RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER));
    guest_greet(&d->g);
    qtest_qmp_send(qts, "{ 'execute': 'guest-kernel-call', 'arguments':"
                   " { 'module': 77, 'procedure': 5, 'timeout': 10000 } }");
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        if (look(&d->g, &r)) {
            d->g.seq = r.seq;
            reply(&d->g, &r, RVMRPC_STATUS_OK, "fine", 4);
        }
    } while (r.hdr.module != 77);
    rsp = qtest_qmp_receive(qts);
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "return"), "data"), ==,
                    "ZmluZQ==");
    qobject_unref(rsp);
}

static void test_device(void)
{
    int64_t end = end_of_fuzzing();
    unsigned lives = 0;
    Device d = { };

    do {
        device_start(&d);
        for (int i = 0; i < LIFE_STEPS; i++) {
            if (one_in(32)) {
                step_outside(&d);
            } else if (one_in(256)) {
                replug(&d);
            } else {
                step(&d);
            }
        }
        assert_serves(&d);
        qpci_iounmap(d.g.f.dev, d.g.window);
        qpci_iounmap(d.g.f.dev, d.msix);
        stop(&d.g.f);
        lives++;
    } while (g_get_monotonic_time() < end);
    g_test_message("%" PRIu64 " steps, %u devices that served after them",
                   d.steps, lives);
}

/* ---- The commands ---- */

typedef struct Monitor {
    Guest g;
    uint64_t epoch;             /* of the guest's hello */
    int fd;
    char *dir;
    char *path;
    GHashTable *types;          /* of the schema by name; refer to it */
    GPtrArray *commands;        /* SchemaInfo of each */
    QList *schema;
    bool mute;                  /* the guest does not answer */
    uint64_t sent;
    uint64_t returned;
    uint64_t named;             /* errors that name an argument */
} Monitor;

static void load_schema(Monitor *m)
{
    QDict *rsp = qtest_qmp(m->g.f.qts, "{ 'execute': 'query-qmp-schema' }");
    const QListEntry *e;

    m->schema = qobject_ref(qdict_get_qlist(rsp, "return"));
    qobject_unref(rsp);
    m->types = g_hash_table_new(g_str_hash, g_str_equal);
    m->commands = g_ptr_array_new();
    QLIST_FOREACH_ENTRY(m->schema, e) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(e));
        const char *name = qdict_get_str(info, "name");

        g_hash_table_insert(m->types, (char *)name, info);
        if (g_str_has_prefix(name, "guest-")) {
            g_ptr_array_add(m->commands, info);
        }
    }
    g_assert_cmpuint(m->commands->len, >, 20);
}

/* With the end of its line: else there would seem to be more. */
static QDict *receive(Monitor *m)
{
    QDict *message = qmp_fd_receive(m->fd);
    char c;

    do {
        g_assert_cmpint(read(m->fd, &c, 1), ==, 1);
    } while (c != '\n');
    return message;
}

static void monitor_connect(Monitor *m)
{
    m->fd = unix_connect(m->path, &error_abort);
    qobject_unref(receive(m));
    qmp_fd_send(m->fd, "{ 'execute': 'qmp_capabilities' }");
    qobject_unref(receive(m));
}

static void monitor_start(Monitor *m)
{
    g_autofree char *options = NULL;

    m->dir = g_dir_make_tmp("rvmrpc-XXXXXX", NULL);
    m->path = g_build_filename(m->dir, "qmp", NULL);
    options = g_strdup_printf(",default-timeout=20 -chardev"
                              " socket,id=second,server=on,wait=off,path=%s"
                              " -mon chardev=second,mode=control", m->path);
    start(&m->g.f, options);
    m->g.window = qpci_iomap(m->g.f.dev, RVMRPC_BAR_WINDOW, NULL);
    load_schema(m);
    monitor_connect(m);
}

static void monitor_stop(Monitor *m)
{
    close(m->fd);
    qpci_iounmap(m->g.f.dev, m->g.window);
    stop(&m->g.f);
    g_hash_table_unref(m->types);
    g_ptr_array_unref(m->commands);
    qobject_unref(m->schema);
    unlink(m->path);
    rmdir(m->dir);
    g_free(m->path);
    g_free(m->dir);
}

/* An answer that is one by its header, whatever is in it. */
static void guest_answers(Monitor *m)
{
    static uint8_t payload[512];
    struct rvmrpc_records head = { .count = below(3) };
    uint32_t length = one_in(4) ? 0 : below(sizeof(payload));
    Request r;

    if (m->mute || !look(&m->g, &r)) {
        g_usleep(100);
        return;
    }
    m->g.seq = r.seq;
    random_bytes(payload, length);
    if (one_in(2)) {
        /* Words that are small, as numbers, keys and lengths are. */
        for (uint32_t i = 0; i < length; i++) {
            payload[i] = i % 4 ? 0 : payload[i] % 16;
        }
    }
    if (length >= sizeof(head) && one_in(2)) {
        head.length = (length - sizeof(head)) & ~(RVMRPC_RECORD_ALIGN - 1);
        length = sizeof(head) + head.length;
        memcpy(payload, &head, sizeof(head));
    }
    reply(&m->g, &r, one_in(2) ? RVMRPC_STATUS_OK :
          below(RVMRPC_STATUS_MAX + 2), payload, length);
}

/* The next answer of the monitor, no event. */
static QDict *next_answer(Monitor *m)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_US;
    GPollFD pfd = { .fd = m->fd, .events = G_IO_IN };

    for (;;) {
        while (g_poll(&pfd, 1, 0) > 0) {
            QDict *rsp = receive(m);

            if (!qdict_haskey(rsp, "event")) {
                return rsp;
            }
            qobject_unref(rsp);
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        guest_answers(m);
    }
}

/* ---- Values ---- */

static QObject *any_int(void)
{
    static const int64_t edges[] = {
        0, 1, 2, 20, 63, 1 << 16, UINT32_MAX, 1ll << 32, INT64_MAX, INT64_MIN,
        -1,
    };

    return one_in(8) ? QOBJECT(qnum_from_uint(UINT64_MAX - below(2))) :
           QOBJECT(qnum_from_int(edges[below(ARRAY_SIZE(edges))]));
}

/* Text in UTF-8, or what looks like base64. */
static QObject *any_text(void)
{
    static const char base64[] = "ABCDxyz019+/==\n ";
    uint32_t length = below(one_in(64) ? 100000 : one_in(2) ? 4 : 40);
    GString *text = g_string_new(NULL);
    bool encoded = one_in(2);
    QString *string;

    while (length--) {
        g_string_append_unichar(text, encoded ?
                                base64[below(sizeof(base64) - 1)] :
                                one_in(8) ? 1 + below(0xd7ff) :
                                1 + below(127));
    }
    string = qstring_from_str(text->str);
    g_string_free(text, TRUE);
    return QOBJECT(string);
}

static QObject *any_list(int depth)
{
    QList *list = qlist_new();

    qlist_append_obj(list, depth ? any_list(depth - 1) : any_int());
    return QOBJECT(list);
}

/* Of that JSON type. */
static QObject *any_json(const char *type)
{
    static const char *const types[] = {
        "int", "string", "boolean", "null", "list", "number",
    };

    if (!strcmp(type, "value")) {
        type = types[below(ARRAY_SIZE(types))];
    }
    return !strcmp(type, "int") ? any_int() :
           !strcmp(type, "string") ? any_text() :
           !strcmp(type, "boolean") ? QOBJECT(qbool_from_bool(one_in(2))) :
           !strcmp(type, "null") ? QOBJECT(qnull()) :
           !strcmp(type, "list") ? any_list(below(100)) :
           QOBJECT(qnum_from_double(below(1000) / 7.0 + 0.01));
}

/* The JSON type of a type of the schema, "string" of an enumeration. */
static const char *json_type(Monitor *m, const char *type)
{
    QDict *info = g_hash_table_lookup(m->types, type);

    g_assert_nonnull(info);
    return qdict_get_try_str(info, "json-type") ?: "string";
}

/* One that the schema lets through; @safe: that the command takes, too. */
static QObject *good_value(Monitor *m, const char *name, const char *type,
                           bool safe)
{
    QDict *info = g_hash_table_lookup(m->types, type);
    const char *json = json_type(m, type);

    if (!strcmp(qdict_get_str(info, "meta-type"), "enum")) {
        QList *values = qdict_get_qlist(info, "values");
        const QListEntry *e = qlist_first(values);

        for (uint32_t n = below(qlist_size(values)); n; n--) {
            e = qlist_next(e);
        }
        return qobject_ref(qlist_entry_obj(e));
    }
    if (!strcmp(name, "timeout") && !one_in(4)) {
        return QOBJECT(qnum_from_int(1 + below(20)));
    }
    if (safe) {
        return !strcmp(json, "string") ? QOBJECT(qstring_from_str("")) :
               !strcmp(json, "boolean") ? any_json(json) :
               QOBJECT(qnum_from_int(1 + below(60)));
    }
    /* Longer than the guest may be mute, or than this has time. */
    return !strcmp(name, "timeout") ? QOBJECT(qnum_from_int(-below(2))) :
           any_json(json);
}

/* One of a type that the member has not. */
static QObject *bad_value(Monitor *m, const char *type)
{
    const char *json = json_type(m, type);

    return !strcmp(json, "value") ? one_in(2) ? any_list(3) :
           any_json("boolean") :
           !strcmp(json, "boolean") || !strcmp(json, "int") ? any_text() :
           one_in(2) ? any_int() : any_list(3);
}

/* ---- Requests ---- */

typedef enum Fault {
    FAULT_NONE, FAULT_TYPE, FAULT_MISSING, FAULT_EXTRA, FAULTS,
} Fault;

/* Members for the command; with a fault, *@culprit is the one that has it. */
static QDict *make_arguments(Monitor *m, QDict *command, Fault fault,
                             const char **culprit)
{
    QDict *type = g_hash_table_lookup(m->types,
                                      qdict_get_str(command, "arg-type"));
    QList *members = qdict_get_qlist(type, "members");
    uint32_t chosen = below(MAX(qlist_size(members), 1));
    QDict *args = qdict_new();
    const QListEntry *e;

    *culprit = NULL;
    QLIST_FOREACH_ENTRY(members, e) {
        QDict *member = qobject_to(QDict, qlist_entry_obj(e));
        const char *name = qdict_get_str(member, "name");
        bool optional = qdict_haskey(member, "default");
        bool hit = !chosen--;

        if (hit && fault == FAULT_TYPE) {
            qdict_put_obj(args, name,
                          bad_value(m, qdict_get_str(member, "type")));
            *culprit = name;
        } else if (hit && fault == FAULT_MISSING && !optional) {
            *culprit = name;
        } else if (!optional || one_in(2)) {
            qdict_put_obj(args, name, good_value(m, name,
                          qdict_get_str(member, "type"), fault));
        }
    }
    if (fault == FAULT_EXTRA) {
        *culprit = "none-of-these";
        qdict_put_obj(args, *culprit, any_json("value"));
    }
    return args;
}

/* An error of the command itself begins with a status. */
static bool has_status(const char *desc)
{
    static const char *const statuses[] = {
        "module-unavailable: ", "version-mismatch: ",
        "procedure-unavailable: ", "garbage-args: ", "too-big: ",
        "not-allowed: ", "busy: ", "not-connected: ", "stopped: ",
        "timed-out: ", "cancelled: ", "reset: ", "system-error: ",
    };

    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        if (g_str_has_prefix(desc, statuses[i])) {
            return true;
        }
    }
    return false;
}

static bool names_any(const char *desc, const QDict *args)
{
    for (const QDictEntry *e = qdict_first(args); e; e = qdict_next(args, e)) {
        if (strstr(desc, qdict_entry_key(e))) {
            return true;
        }
    }
    return false;
}

/* A reply, or an error that says what is wrong with what. */
static void check_answer(Monitor *m, QDict *rsp, const char *text,
                         const QDict *args, const char *culprit)
{
    const char *desc;

    if (qdict_haskey(rsp, "return") && !culprit) {
        m->returned++;
        return;
    }
    desc = qdict_haskey(rsp, "error") ?
           qdict_get_str(qdict_get_qdict(rsp, "error"), "desc") : NULL;
    if (desc && (culprit ? strstr(desc, culprit) != NULL :
                 has_status(desc) || names_any(desc, args))) {
        m->named += !has_status(desc);
        return;
    }
    g_test_message("%s: %s, and should name %s", text,
                   desc ?: "no error", culprit ?: "an argument or a status");
    g_test_fail();
}

/* Bytes of the request that are others, more, or gone. */
static void spoil(GString *text)
{
    for (uint32_t n = 1 + below(4); n && text->len; n--) {
        uint32_t at = below(text->len);

        switch (below(3)) {
        case 0:
            text->str[at] = g_test_rand_int();
            break;
        case 1:
            g_string_insert_c(text, at, "{}[]\",:\\'%0e-"[below(13)]);
            break;
        default:
            g_string_truncate(text, at);
            break;
        }
    }
}

static void say(Monitor *m, const char *bytes, size_t length)
{
    g_assert_cmpint(qemu_write_full(m->fd, bytes, length), ==, length);
    m->sent++;
}

/* No JSON, perhaps: the next request is answered, whatever comes before. */
static void say_spoilt(Monitor *m, const char *request)
{
    g_autofree char *id = g_strdup_printf("after %" PRIu64, m->sent);
    /* A byte that is in no text makes the parser begin anew. */
    g_autofree char *next = g_strdup_printf(
        "\xff\n{\"execute\": \"query-rvmrpc\", \"id\": \"%s\"}\n", id);
    GString *text = g_string_new(request);
    bool there = false;

    spoil(text);
    say(m, text->str, text->len);
    say(m, next, strlen(next));
    g_string_free(text, TRUE);
    while (!there) {
        QDict *rsp = next_answer(m);

        there = !g_strcmp0(qdict_get_try_str(rsp, "id"), id);
        g_assert(qdict_haskey(rsp, "return") || qdict_haskey(rsp, "error"));
        qobject_unref(rsp);
    }
}

static void one_request(Monitor *m)
{
    QDict *command = g_ptr_array_index(m->commands, below(m->commands->len));
    Fault fault = below(FAULTS);
    QDict *request = qdict_new(), *args;
    const char *culprit;
    GString *text;

    args = make_arguments(m, command, fault, &culprit);
    /* Only with a time of its own, which is short. */
    m->mute = qdict_haskey(args, "timeout") && one_in(16);
    qdict_put_str(request, "execute", qdict_get_str(command, "name"));
    qdict_put(request, "arguments", args);
    text = qobject_to_json(QOBJECT(request));
    if (one_in(8)) {
        say_spoilt(m, text->str);
    } else {
        QDict *rsp;

        say(m, text->str, text->len);
        rsp = next_answer(m);
        check_answer(m, rsp, text->str, args, culprit);
        qobject_unref(rsp);
    }
    g_string_free(text, TRUE);
    qobject_unref(request);
}

static void test_commands(void)
{
    int64_t end = end_of_fuzzing();
    Monitor m = { };

    monitor_start(&m);
    while (g_get_monotonic_time() < end) {
        /* Many calls that were not answered: the host has it register anew. */
        if (host_page(&m.g.f, m.g.window).epoch != m.epoch && !one_in(8)) {
            guest_greet(&m.g);
            m.epoch = host_page(&m.g.f, m.g.window).epoch;
        }
        if (one_in(200)) {
            close(m.fd);
            monitor_connect(&m);
        }
        one_request(&m);
    }
    g_test_message("%" PRIu64 " requests, %" PRIu64 " replies, %" PRIu64
                   " errors that name an argument", m.sent, m.returned,
                   m.named);
    monitor_stop(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("rvmrpc-fuzz/device", test_device);
    qtest_add_func("rvmrpc-fuzz/commands", test_commands);
    return g_test_run();
}
