/*
 * Unit tests: what `rvmrpc mount` reads ahead
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include "ahead.h"

#define REQUEST     AHEAD_REQUEST_BYTES
#define THREADS     4

/* A guest's file; what the pool's threads share is atomic. */
typedef struct File {
    guint64 size;
    guint64 more;               /* bytes that it is said to have beside them */
    guint32 slot;               /* bytes of an answer */
    gint salt;                  /* another one, other bytes */
    gint error;                 /* of RVMRPC_ERROR, 0: none */
    gint delay_us;
    gint calls, at_once, most, held;
    gsize read;
} File;

/* librvmrpc is not linked. */
GQuark rvmrpc_error_quark(void)
{
    return g_quark_from_static_string("rvmrpc-error-quark");
}

static guint8 byte_at(guint64 i, gint salt)
{
    return (i * 2654435761u >> 13) + salt;
}

static GBytes *read_file(File *f, guint64 offset, guint32 length)
{
    const guint64 left = offset < f->size ? f->size - offset : 0;
    const gsize n = MIN(MIN(length, f->slot), left);
    const gint salt = g_atomic_int_get(&f->salt);
    guint8 *data = g_malloc(n + 1);

    for (gsize i = 0; i < n; i++) {
        data[i] = byte_at(offset + i, salt);
    }
    return g_bytes_new_take(data, n);
}

static GBytes *on_read(void *data, const char *path, guint64 offset,
                       guint32 length, RvmrpcFileVersion *version,
                       GError **error)
{
    File *f = data;
    const gint n = g_atomic_int_add(&f->at_once, 1) + 1;
    GBytes *bytes = NULL;

    g_assert_cmpstr(path, ==, "/file");
    g_atomic_int_inc(&f->calls);
    if (n > g_atomic_int_get(&f->most)) {
        g_atomic_int_set(&f->most, n);
    }
    do {
        g_usleep(g_atomic_int_get(&f->delay_us));
    } while (g_atomic_int_get(&f->held));
    if (g_atomic_int_get(&f->error)) {
        g_set_error_literal(error, RVMRPC_ERROR, g_atomic_int_get(&f->error),
                            "as told");
    } else {
        bytes = read_file(f, offset, length);
        *version = (RvmrpcFileVersion) { .size = f->size + f->more };
        g_atomic_pointer_add(&f->read, g_bytes_get_size(bytes));
    }
    g_atomic_int_add(&f->at_once, -1);
    return bytes;
}

/* As FUSE's thread does: what was not read ahead is asked for.  Returns those bytes. */
static gsize read_and_check(File *f, Ahead *a, guint64 offset, gsize size)
{
    const gsize want = offset < f->size ? MIN(size, f->size - offset) : 0;
    const gint salt = g_atomic_int_get(&f->salt);
    g_autofree guint8 *buffer = g_malloc(size);
    GError *error = NULL;
    gssize done = ahead_copy(a, offset, buffer, size, G_MAXINT64, &error);

    g_assert_no_error(error);
    g_assert_cmpint(done, >=, 0);
    g_assert_cmpuint(done, <=, want);
    for (gssize i = 0; i < done; i++) {
        g_assert_cmpuint(buffer[i], ==, byte_at(offset + i, salt));
    }
    if ((gsize)done < size) {
        ahead_note(a, f->size + f->more);
    }
    return want - done;
}

static AheadPool *pool_of(File *f, guint n)
{
    GError *error = NULL;
    AheadPool *pool = ahead_pool_new(n, on_read, f, &error);

    g_assert_no_error(error);
    return pool;
}

/*
 * FALSE: it took longer than what was read ahead is believed, as on a busy
 * machine, and some of it may have been asked for again.
 */
static gboolean read_in_order(gsize slot)
{
    File f = { .size = (8 << 20) + 12345, .slot = slot };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *a = ahead_new(pool, "/file");
    const gint64 begin = g_get_monotonic_time();
    gsize asked = 0;

    for (guint64 at = 0; at < f.size; at += REQUEST) {
        asked += read_and_check(&f, a, at, REQUEST);
    }
    /* At its end, and behind it. */
    g_assert_cmpuint(read_and_check(&f, a, f.size, REQUEST), ==, 0);
    ahead_free(a);
    ahead_pool_free(pool);
    if (g_get_monotonic_time() - begin >= AHEAD_FRESH_S * G_USEC_PER_SEC) {
        return FALSE;
    }
    /* The first request, and what it takes to see that it is in order. */
    g_assert_cmpuint(asked, <=, 2 * REQUEST);
    g_assert_cmpuint(f.read, <=, f.size);
    g_assert_cmpint(f.most, <=, THREADS);
    g_assert_cmpint(f.calls, <=, f.size / f.slot + 3);
    return TRUE;
}

static void test_in_order(gconstpointer data)
{
    guint left = 5;

    while (!read_in_order(GPOINTER_TO_UINT(data))) {
        g_assert_cmpuint(--left, >, 0);
    }
}

static void test_jumps(void)
{
    File f = { .size = 64 << 20, .slot = 65504 };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *a = ahead_new(pool, "/file");

    /* 5 MiB apart, to and fro. */
    for (guint i = 0; i < 100; i++) {
        read_and_check(&f, a, (i * 37 % 12) * (guint64)(5 << 20), 4096);
    }
    ahead_free(a);
    ahead_pool_free(pool);
    g_assert_cmpint(f.calls, ==, 0);
}

typedef struct Reader {
    File *f;
    Ahead *a;
    gint *next;                 /* atomic: request */
    gint *asked;                /* atomic: bytes */
} Reader;

static void *reader_thread(void *data)
{
    const Reader *r = data;
    guint64 at;

    while ((at = g_atomic_int_add(r->next, 1) * (guint64)REQUEST) < r->f->size) {
        g_atomic_int_add(r->asked, read_and_check(r->f, r->a, at, REQUEST));
    }
    return NULL;
}

/* The kernel's requests come by several threads, and overtake each other. */
static void test_threads(void)
{
    File f = { .size = 32 << 20, .slot = 65504, .delay_us = 100 };
    AheadPool *pool = pool_of(&f, THREADS);
    gint next = 0, asked = 0;
    Reader r = { &f, ahead_new(pool, "/file"), &next, &asked };
    GThread *threads[3];

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        threads[i] = g_thread_new("reader", reader_thread, &r);
    }
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
    }
    ahead_free(r.a);
    ahead_pool_free(pool);
    g_test_message("%u bytes were asked for, %zu read ahead", asked, f.read);
    g_assert_cmpuint(asked, <, f.size / 4);
}

/* Reads until something is read ahead; returns where it goes on. */
static guint64 read_a_while(File *f, Ahead *a)
{
    guint64 at = 0;

    for (; at < 16 * REQUEST; at += REQUEST) {
        read_and_check(f, a, at, REQUEST);
    }
    g_assert_cmpint(g_atomic_int_get(&f->calls), >, 0);
    return at;
}

static void test_changed(void)
{
    File f = { .size = 64 << 20, .slot = 65504 };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *a = ahead_new(pool, "/file");
    guint64 at = read_a_while(&f, a);

    g_atomic_int_set(&f.salt, 7);
    ahead_pool_changed(pool);
    for (guint i = 0; i < 16; i++) {
        read_and_check(&f, a, at + i * REQUEST, REQUEST);
    }
    ahead_free(a);
    ahead_pool_free(pool);
}

static void test_old(void)
{
    File f = { .size = 64 << 20, .slot = 65504 };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *a = ahead_new(pool, "/file");
    guint64 at = read_a_while(&f, a);

    g_usleep(G_USEC_PER_SEC + G_USEC_PER_SEC / 10);
    g_atomic_int_set(&f.salt, 7);
    for (guint i = 0; i < 16; i++) {
        read_and_check(&f, a, at + i * REQUEST, REQUEST);
    }
    ahead_free(a);
    ahead_pool_free(pool);
}

static void test_busy(void)
{
    File f = { .size = 8 << 20, .slot = 65504, .error = RVMRPC_ERROR_BUSY };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *a = ahead_new(pool, "/file");

    for (guint64 at = 0; at < f.size; at += REQUEST) {
        g_assert_cmpuint(read_and_check(&f, a, at, REQUEST), ==, REQUEST);
    }
    ahead_free(a);
    ahead_pool_free(pool);
    g_assert_cmpint(f.calls, >, 0);
}

static void test_fails(void)
{
    File f = { .size = 8 << 20, .slot = 65504, .error = RVMRPC_ERROR_TIMED_OUT };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *a = ahead_new(pool, "/file");
    guint8 *buffer = g_malloc(REQUEST);
    GError *error = NULL;
    gssize got = 0;

    for (guint64 at = 0; got >= 0 && at < f.size; at += REQUEST) {
        got = ahead_copy(a, at, buffer, REQUEST, G_MAXINT64, &error);
        ahead_note(a, f.size);
    }
    g_assert_error(error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT);
    g_error_free(error);
    g_free(buffer);
    ahead_free(a);
    ahead_pool_free(pool);
}

/* One file's calls hang: another's are asked for as they are wanted. */
static void test_hangs(void)
{
    File f = { .size = 8 << 20, .slot = 65504 };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *other = ahead_new(pool, "/file");
    gint next = 0, asked = 0;
    Reader r = { &f, ahead_new(pool, "/file"), &next, &asked };
    GThread *thread;

    /* How large parts are is known, so that all threads are taken. */
    read_a_while(&f, r.a);
    next = 16;
    g_atomic_int_set(&f.held, TRUE);
    thread = g_thread_new("reader", reader_thread, &r);
    while (g_atomic_int_get(&f.at_once) < THREADS) {
        g_usleep(100);
    }
    for (guint i = 0; i < 8; i++) {
        g_assert_cmpuint(read_and_check(&f, other, i * REQUEST, REQUEST), ==,
                         REQUEST);
    }
    g_atomic_int_set(&f.held, FALSE);
    g_thread_join(thread);
    ahead_free(other);
    ahead_free(r.a);
    ahead_pool_free(pool);
}

/* What ends before it is said to is asked for once more at each read, not for ever. */
static void test_empty(gconstpointer data)
{
    const guint threads = GPOINTER_TO_UINT(data);
    File f = { .size = 8 << 20, .more = 1 << 30, .slot = 65504 };
    AheadPool *pool = pool_of(&f, threads);
    Ahead *a = ahead_new(pool, "/file");
    guint64 at;
    gint calls;

    for (at = 0; at < f.size; at += REQUEST) {
        read_and_check(&f, a, at, REQUEST);
    }
    calls = g_atomic_int_get(&f.calls);
    for (guint i = 0; i < 16; i++) {
        g_assert_cmpuint(read_and_check(&f, a, at + i * REQUEST, REQUEST), ==, 0);
    }
    ahead_free(a);
    ahead_pool_free(pool);
    g_assert_cmpint(f.calls - calls, <=, 16 * threads);
}

/* With calls in flight. */
static void test_closed(void)
{
    File f = { .size = 64 << 20, .slot = 65504, .delay_us = 20000 };
    AheadPool *pool = pool_of(&f, THREADS);
    Ahead *a = ahead_new(pool, "/file");

    for (guint64 at = read_a_while(&f, a); !g_atomic_int_get(&f.at_once);
         at += REQUEST) {
        g_assert_cmpuint(at, <, f.size);
        read_and_check(&f, a, at, REQUEST);
    }
    ahead_free(a);
    ahead_pool_free(pool);
    g_assert_cmpint(f.at_once, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/ahead/order/64K", GUINT_TO_POINTER(65504), test_in_order);
    g_test_add_data_func("/ahead/order/1M", GUINT_TO_POINTER(1048544), test_in_order);
    g_test_add_data_func("/ahead/order/5000", GUINT_TO_POINTER(5000), test_in_order);
    g_test_add_func("/ahead/jumps", test_jumps);
    g_test_add_func("/ahead/threads", test_threads);
    g_test_add_func("/ahead/changed", test_changed);
    g_test_add_func("/ahead/old", test_old);
    g_test_add_func("/ahead/busy", test_busy);
    g_test_add_func("/ahead/fails", test_fails);
    g_test_add_func("/ahead/hangs", test_hangs);
    g_test_add_data_func("/ahead/empty/1", GUINT_TO_POINTER(1), test_empty);
    g_test_add_data_func("/ahead/empty/4", GUINT_TO_POINTER(THREADS), test_empty);
    g_test_add_func("/ahead/closed", test_closed);
    return g_test_run();
}
