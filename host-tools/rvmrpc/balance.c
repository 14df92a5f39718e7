/*
 * The rvmrpc command: balance
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Keeps the host's available memory above a target by asking the guests that
 * can best spare it.  Who is asked for how much is policy.c's.
 */
#include <stdio.h>
#include <string.h>
#include "balance.h"
#include "monitor.h"
#include "../common/crowd.h"
#include "../common/stdio.h"

#define SHRINK_TIMEOUT_MS   10000
/* Between the two looks of a first round that shall be the only one. */
#define LOOK_S              1.0
/* Rounds in a row that brought the host nothing: it is worth a word. */
#define FUTILE_ROUNDS       5

typedef struct Balance {
    BalanceConfig *config;
    char **names;               /* VMs; NULL: all */
    PolicyHost host;
    GPtrArray *all;             /* of Balanced, by name */
    gint64 looked;              /* when, us; 0: not yet */
    gboolean told_futile;
} Balance;

/* ---- The host ---- */

static gboolean read_available(guint64 *bytes)
{
    const char *path = g_getenv("RVMRPC_MEMINFO") ?: "/proc/meminfo";
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    const char *line = NULL;
    guint64 kib = 0;

    if (g_file_get_contents(path, &text, NULL, &error)) {
        line = strstr(text, "MemAvailable:");
    }
    if (!line || sscanf(line, "MemAvailable: %" G_GUINT64_FORMAT " kB", &kib) != 1) {
        fprintf(stderr, "rvmrpc: cannot tell what this host has available: "
                "%s\n", error ? error->message : "no MemAvailable");
        return FALSE;
    }
    *bytes = kib * 1024;
    return TRUE;
}

/* ---- The VMs ---- */

static void balanced_free(void *data)
{
    Balanced *b = data;

    rvmrpc_vm_unref(b->vm);
    g_clear_error(&b->error);
    g_free(b->state);
    g_free(b);
}

static gboolean is_wanted(const Balance *balance, const RvmrpcVm *vm)
{
    for (char **name = balance->names; name && *name; name++) {
        if (rvmrpc_vm_is(vm, *name)) {
            return TRUE;
        }
    }
    return !balance->names;
}

static gboolean is_same(const RvmrpcVm *a, const RvmrpcVm *b)
{
    return rvmrpc_vm_get_pid(a) == rvmrpc_vm_get_pid(b) &&
           g_strcmp0(rvmrpc_vm_get_uuid(a), rvmrpc_vm_get_uuid(b)) == 0 &&
           g_strcmp0(rvmrpc_vm_get_socket(a), rvmrpc_vm_get_socket(b)) == 0 &&
           strcmp(rvmrpc_vm_get_name(a), rvmrpc_vm_get_name(b)) == 0;
}

static Balanced *find(const Balance *balance, const RvmrpcVm *vm)
{
    for (guint i = 0; i < balance->all->len; i++) {
        Balanced *b = balance->all->pdata[i];

        if (is_same(b->vm, vm)) {
            return b;
        }
    }
    return NULL;
}

/* Takes up VMs that are new, and forgets those that are gone. */
static void refresh(Balance *balance, const GPtrArray *vms)
{
    GPtrArray *all = balance->all;

    for (guint i = 0; i < all->len; i++) {
        ((Balanced *)all->pdata[i])->seen = FALSE;
    }
    for (guint i = 0; i < vms->len; i++) {
        Balanced *b = find(balance, vms->pdata[i]);

        if (!b) {
            b = g_new0(Balanced, 1);
            b->vm = rvmrpc_vm_ref(vms->pdata[i]);
            g_ptr_array_add(all, b);
        }
        b->seen = TRUE;
    }
    for (guint i = all->len; i > 0; i--) {
        if (!((Balanced *)all->pdata[i - 1])->seen) {
            g_ptr_array_remove_index(all, i - 1);
        }
    }
}

/* ---- A look ---- */

/* Nothing counts twice, and nothing of another boot. */
static void look_at_counters(Balanced *b, const Facts *f)
{
    const RvmrpcRecord *r = facts_record(f, FACTS_LIST_VMSTAT,
                                         RVMRPC_RECORD_VMSTAT, NULL);
    guint64 page = 0, file = 0, anon = 0, swap_in = 0, stalls = 0;
    PolicyLook *look = &b->guest.look;
    double seconds = (f->time - b->time) / 1e6;

    if (!r || !rvmrpc_record_get_u64(r, RVMRPC_VMSTAT_PAGE_SIZE, &page) ||
        !rvmrpc_record_get_u64(r, RVMRPC_VMSTAT_REFAULT_FILE, &file)) {
        b->counted = FALSE;
        return;
    }
    /* Of these an OS may have none. */
    rvmrpc_record_get_u64(r, RVMRPC_VMSTAT_REFAULT_ANON, &anon);
    rvmrpc_record_get_u64(r, RVMRPC_VMSTAT_SWAP_IN, &swap_in);
    rvmrpc_record_get_u64(r, RVMRPC_VMSTAT_STALLS, &stalls);
    look->has_rates = b->counted && seconds > 0 && file + anon >= b->refaults &&
                      swap_in >= b->swap_ins && stalls >= b->stalls;
    look->first = !look->has_rates;
    if (look->has_rates) {
        look->refault = (file + anon - b->refaults) * (double)page / seconds;
        look->swap_in = (swap_in - b->swap_ins) * (double)page / seconds;
        look->stalls = (stalls - b->stalls) / seconds;
    }
    b->counted = TRUE;
    b->refaults = file + anon;
    b->swap_ins = swap_in;
    b->stalls = stalls;
    b->time = f->time;
}

static void look_at_memory(PolicyLook *look, const Facts *f)
{
    const RvmrpcRecord *psi = facts_record(f, FACTS_LIST_PSI,
                                           RVMRPC_RECORD_PSI, "memory");
    const RvmrpcMeminfo *mem = f->mem;
    guint64 average;

    look->has_memory = mem && rvmrpc_meminfo_has(mem, RVMRPC_MEM_TOTAL) &&
                       rvmrpc_meminfo_has(mem, RVMRPC_MEM_FREE) &&
                       rvmrpc_meminfo_has(mem, RVMRPC_MEM_AVAILABLE);
    if (look->has_memory) {
        look->total = mem->value[RVMRPC_MEM_TOTAL];
        look->free = mem->value[RVMRPC_MEM_FREE];
        look->available = mem->value[RVMRPC_MEM_AVAILABLE];
        look->cached = mem->value[RVMRPC_MEM_CACHED];
    }
    if (psi && rvmrpc_record_get_u64(psi, RVMRPC_PSI_SOME_AVG10, &average)) {
        look->has_psi = TRUE;
        look->psi = average / 100.0;
    }
    /* A kernel that watches none says so: its list is whole, and empty. */
    look->psi_unknown = !look->has_psi && !facts_whole(f, FACTS_LIST_PSI);
}

static void look_at(Balance *balance, Balanced *b, const Facts *f)
{
    const char *state = facts_state(f);

    /* Whose socket it is was not told in time: nor whether it has a floor. */
    if (!rvmrpc_vm_get_pid(b->vm) && !rvmrpc_vm_get_uuid(b->vm) && f->channel) {
        state = "it did not say in time which VM it is";
    }
    if (f->channel && f->channel->epoch != b->epoch) {
        b->guest = (PolicyGuest){ 0 };
        b->counted = FALSE;
        b->epoch = f->channel->epoch;
    }
    b->guest.look = (PolicyLook){ .psi_unknown = TRUE };
    b->guest.floor = balance_config_floor(balance->config, b->vm);
    g_clear_pointer(&b->state, g_free);
    if (strcmp(state, "connected") != 0) {
        b->state = g_strdup(state);
        b->counted = FALSE;
        return;
    }
    look_at_memory(&b->guest.look, f);
    look_at_counters(b, f);
}

static void look(Balance *balance)
{
    g_autoptr(GPtrArray) vms = rvmrpc_list_vms();
    g_autoptr(GPtrArray) facts = NULL;

    for (guint i = vms->len; i > 0; i--) {
        if (!is_wanted(balance, vms->pdata[i - 1])) {
            g_ptr_array_remove_index(vms, i - 1);
        }
    }
    refresh(balance, vms);
    facts = facts_gather_all(vms, FACTS_CHANNEL | FACTS_PING | FACTS_KERNEL |
                             FACTS_LIST(FACTS_LIST_PSI) |
                             FACTS_LIST(FACTS_LIST_VMSTAT),
                             timeout_or(TIMEOUT_MS), options.cancellable);
    for (guint i = 0; i < facts->len; i++) {
        const Facts *f = facts->pdata[i];

        look_at(balance, find(balance, f->vm), f);
    }
}

/* ---- Asking ---- */

static void ask(void *data, void *user_data)
{
    gint64 start = g_get_monotonic_time();
    g_autoptr(RvmrpcConn) conn = NULL;
    Balanced *b = data;

    (void)user_data;
    conn = rvmrpc_connect(b->vm, TIMEOUT_MS, options.cancellable, &b->error);
    if (conn) {
        rvmrpc_shrink(conn, b->guest.ask, timeout_or(SHRINK_TIMEOUT_MS),
                      &b->shrunk, options.cancellable, &b->error);
    }
    b->seconds = (g_get_monotonic_time() - start) / 1e6;
}

/* All at the same time: one that hangs holds up no other. */
static void ask_all(Balance *balance)
{
    GPtrArray *all = balance->all;
    g_autoptr(GPtrArray) asked = g_ptr_array_new();

    for (guint i = 0; i < all->len; i++) {
        Balanced *b = all->pdata[i];

        g_clear_error(&b->error);
        b->shrunk = (RvmrpcShrunk){ 0 };
        if (b->guest.ask) {
            g_ptr_array_add(asked, b);
        }
    }
    crowd_run(ask, asked->pdata, asked->len, NULL);
    for (guint i = 0; i < all->len; i++) {
        Balanced *b = all->pdata[i];

        if (b->guest.ask) {
            policy_told(&balance->host, &b->guest,
                        b->error ? 0 : b->shrunk.freed, b->seconds);
        }
    }
}

/* ---- Rounds ---- */

static void warn_if_futile(Balance *balance)
{
    if (balance->host.futile < FUTILE_ROUNDS || balance->told_futile) {
        return;
    }
    balance->told_futile = TRUE;
    fputs("rvmrpc: what the guests freed did not come to this host: have their "
          "balloon devices free-page-reporting=on, and is their memory neither "
          "locked nor of huge pages?\n", stderr);
}

static void decide(Balance *balance)
{
    g_autofree PolicyGuest **guests = g_new(PolicyGuest *,
                                            balance->all->len + 1);
    gint64 now = g_get_monotonic_time();

    for (guint i = 0; i < balance->all->len; i++) {
        guests[i] = &((Balanced *)balance->all->pdata[i])->guest;
    }
    policy_decide(&balance->host, guests, balance->all->len,
                  balance->looked ? (now - balance->looked) / 1e6 : 0);
    balance->looked = now;
}

/* FALSE: nothing can be told of this host, or a signal cut the look short. */
static gboolean judge(Balance *balance)
{
    look(balance);
    if (g_cancellable_is_cancelled(options.cancellable) ||
        !read_available(&balance->host.available)) {
        return FALSE;
    }
    decide(balance);
    return TRUE;
}

static gboolean one_round(Balance *balance)
{
    gboolean was_asking = balance->host.asking, first = !balance->looked, shown;

    if (!judge(balance)) {
        return FALSE;
    }
    shown = !options.json && (first || options.once || options.dry_run ||
                              balance->host.asking || was_asking);
    if (shown) {
        balance_show(&balance->host, balance->all);
    }
    if (!options.dry_run) {
        ask_all(balance);
        warn_if_futile(balance);
        if (shown) {
            balance_show_results(balance->all);
        }
    }
    if (options.json) {
        balance_show_json(&balance->host, balance->all);
    }
    return TRUE;
}

static gboolean rounds(Balance *balance)
{
    gint count = options.once ? 1 : options.count;

    /* Whoever is there is seen for the first time, and not asked. */
    if (options.once && (!judge(balance) ||
                         !monitor_sleep(options.cancellable, LOOK_S))) {
        return FALSE;
    }
    do {
        if (!one_round(balance)) {
            return FALSE;
        }
    } while (stdio_flush() && (!count || --count) &&
             monitor_sleep(options.cancellable, balance->config->interval));
    return TRUE;
}

static void note_missing(const Balance *balance)
{
    g_autoptr(GPtrArray) vms = rvmrpc_list_vms();

    for (char **name = balance->names; name && *name; name++) {
        const Balance one = { .names = (char *[]){ *name, NULL } };
        guint i = 0;

        while (i < vms->len && !is_wanted(&one, vms->pdata[i])) {
            i++;
        }
        if (i == vms->len) {
            g_autofree char *text = clean(*name);

            fprintf(stderr, "rvmrpc: no VM %s now; it is asked once it is "
                    "there\n", text);
        }
    }
}

int cmd_balance(int argc, char **argv)
{
    Balance balance = { .names = argc ? argv : NULL };
    gboolean ok;

    balance.config = balance_config_load();
    if (!balance.config) {
        return EXIT_USAGE;
    }
    balance.host.target = balance.config->target;
    balance.host.limit = balance.config->limit;
    balance.all = g_ptr_array_new_with_free_func(balanced_free);
    stdio_may_stop();
    note_missing(&balance);
    ok = rounds(&balance);
    g_ptr_array_unref(balance.all);
    balance_config_free(balance.config);
    if (g_cancellable_is_cancelled(options.cancellable)) {
        return options.once ? EXIT_INTERRUPTED : EXIT_OK;
    }
    return ok ? EXIT_OK : EXIT_OTHER;
}
