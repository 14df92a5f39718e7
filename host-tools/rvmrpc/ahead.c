/*
 * The rvmrpc command: reading a guest's files ahead
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The kernel asks FUSE for 128 KiB ahead at most, too little for several slots of
 * a guest.  So a file that is read in order is asked for in parts as large as a
 * slot, as many at a time as the guest runs.
 */
#include <string.h>
#include "ahead.h"

#define PART_MAX    (1u << 20)
/* Requests of the kernel's overtake each other by so much. */
#define SLACK       (4u * AHEAD_REQUEST_BYTES)
#define ORDERLY     2           /* reads in order, before it is a habit */

typedef struct Part {
    Ahead *ahead;               /* a reference while in flight; lock of all: its */
    guint64 offset;
    guint32 length;             /* that was asked for, then that came */
    gboolean ended;
    GBytes *bytes;
    GError *error;
    gint64 asked_us;
    gint changes;               /* of the pool when it was asked for */
} Part;

struct AheadPool {
    GThreadPool *threads;
    guint n;
    AheadRead read;
    void *data;
    gint busy;                  /* atomic: parts in flight */
    gint changes;               /* atomic */
    gint part_bytes;            /* atomic; what an answer holds, as far as known */
    gint known;                 /* atomic: it is */
};

/* In a g_atomic_rc_box. */
struct Ahead {
    AheadPool *pool;
    char *path;
    GMutex lock;                /* all below */
    GCond came;
    GQueue parts;               /* of Part, without a gap */
    guint64 next, asked;        /* up to where it is read, and asked for ahead */
    guint64 size;               /* the file's, as far as known */
    guint orderly;              /* reads in a row, up to ORDERLY */
    guint in_flight;            /* parts, forgotten ones too */
};

/* ---- Parts ---- */

static void part_free(Part *part)
{
    g_clear_pointer(&part->bytes, g_bytes_unref);
    g_clear_error(&part->error);
    g_free(part);
}

static void ahead_clear(void *data)
{
    Ahead *a = data;

    g_free(a->path);
    g_mutex_clear(&a->lock);
    g_cond_clear(&a->came);
}

static void ahead_unref(Ahead *a)
{
    g_atomic_rc_box_release_full(a, ahead_clear);
}

/* Called with the lock held: those in flight are freed when they end. */
static void forget(Part *part)
{
    if (part->ended) {
        part_free(part);
    }
}

static void forget_all(Ahead *a)
{
    Part *part;

    while ((part = g_queue_pop_head(&a->parts))) {
        forget(part);
    }
    a->orderly = 0;
}

static void take_answer(Part *part, GBytes *bytes,
                        const RvmrpcFileVersion *version)
{
    AheadPool *pool = part->ahead->pool;
    const gsize got = g_bytes_get_size(bytes);

    /* What came says how much an answer holds. */
    if (got && got < part->length && part->offset + got < version->size) {
        g_atomic_int_set(&pool->part_bytes, got);
    }
    g_atomic_int_set(&pool->known, TRUE);
    part->bytes = bytes;
    if (part->ahead->asked == part->offset + part->length) {
        part->ahead->asked -= part->length - got;
    }
    part->length = got;
    /* Where nothing came is its end, whatever the guest says: or it would be asked for ever. */
    part->ahead->size = got ? version->size : MIN(version->size, part->offset);
}

static void on_thread(void *data, void *user)
{
    Part *part = data;
    AheadPool *pool = user;
    Ahead *a = part->ahead;
    RvmrpcFileVersion version = { 0 };
    GError *error = NULL;
    GBytes *bytes;

    bytes = pool->read(pool->data, a->path, part->offset, part->length,
                       &version, &error);
    g_atomic_int_add(&pool->busy, -1);
    g_mutex_lock(&a->lock);
    if (bytes) {
        take_answer(part, bytes, &version);
    }
    part->error = error;
    part->ended = TRUE;
    a->in_flight--;
    if (!g_queue_find(&a->parts, part)) {
        part_free(part);     /* forgotten meanwhile */
    }
    g_cond_broadcast(&a->came);
    g_mutex_unlock(&a->lock);
    ahead_unref(a);
}

/* FALSE: as many are in flight as may be. */
static gboolean start(Ahead *a)
{
    AheadPool *pool = a->pool;
    Part *part;

    if (g_atomic_int_add(&pool->busy, 1) >= (gint)pool->n) {
        g_atomic_int_add(&pool->busy, -1);
        return FALSE;
    }
    part = g_new0(Part, 1);
    part->ahead = g_atomic_rc_box_acquire(a);
    part->offset = a->asked;
    part->length = g_atomic_int_get(&pool->part_bytes);
    part->asked_us = g_get_monotonic_time();
    part->changes = g_atomic_int_get(&pool->changes);
    a->asked += part->length;
    a->in_flight++;
    g_queue_push_tail(&a->parts, part);
    g_thread_pool_push(pool->threads, part, NULL);
    return TRUE;
}

/* ---- One file ---- */

/* Keeps what a slower thread of the kernel's may still want. */
static void drop_read(Ahead *a, guint64 offset)
{
    const Part *first;

    while ((first = g_queue_peek_head(&a->parts)) &&
           first->offset + first->length + SLACK < offset) {
        forget(g_queue_pop_head(&a->parts));
    }
}

static void ask_more(Ahead *a)
{
    const guint64 part = g_atomic_int_get(&a->pool->part_bytes);
    /* The first part alone says how large the others may be. */
    const guint64 most = g_atomic_int_get(&a->pool->known) ?
                         (a->pool->n + 1) * part : 1;

    while (a->asked < a->size && a->asked < a->next + most && start(a)) {
    }
}

static void see_order(Ahead *a, guint64 offset, gsize size)
{
    if (offset + SLACK < a->next || offset > a->next + SLACK) {
        forget_all(a);
        a->next = a->asked = offset;
    } else {
        a->orderly += a->orderly < ORDERLY;
        drop_read(a, offset);
    }
    a->next = MAX(a->next, offset + size);
}

static Part *part_at(const Ahead *a, guint64 offset)
{
    for (GList *l = a->parts.head; l; l = l->next) {
        Part *part = l->data;

        if (offset >= part->offset && offset - part->offset < part->length) {
            return part;
        }
    }
    return NULL;
}

static gboolean is_fresh(const Part *part)
{
    return part->changes == g_atomic_int_get(&part->ahead->pool->changes) &&
           g_get_monotonic_time() - part->asked_us <
           AHEAD_FRESH_S * G_USEC_PER_SEC;
}

/* The part that has it, when it has ended; NULL: nobody asks for it. */
static Part *await_part(Ahead *a, guint64 offset)
{
    while (TRUE) {
        const gboolean in_order = a->orderly == ORDERLY;
        Part *part;

        if (in_order) {
            ask_more(a);
        }
        part = part_at(a, offset);
        /* In order, it is asked for as soon as one of those in flight ends. */
        if (part ? part->ended :
            !in_order || !a->in_flight || offset < a->asked) {
            return part;
        }
        g_cond_wait(&a->came, &a->lock);
    }
}

/* NULL: what is wanted was not read ahead, or is no use; @error: that is so. */
static GBytes *wait_for_part(Ahead *a, guint64 offset, guint64 *at,
                             GError **error)
{
    Part *part = await_part(a, offset);

    if (!part) {
        return NULL;
    }
    if (part->error && !g_error_matches(part->error, RVMRPC_ERROR,
                                        RVMRPC_ERROR_BUSY)) {
        g_propagate_error(error, g_error_copy(part->error));
    }
    if (!part->bytes || !is_fresh(part)) {
        forget_all(a);
        return NULL;
    }
    *at = part->offset;
    return g_bytes_ref(part->bytes);
}

gssize ahead_copy(Ahead *a, guint64 offset, void *buffer, gsize size,
                  gint64 end, GError **error)
{
    GError *err = NULL;
    gsize done = 0;

    g_mutex_lock(&a->lock);
    see_order(a, offset, size);
    while (done < size && g_get_monotonic_time() < end) {
        guint64 at;
        GBytes *bytes = wait_for_part(a, offset + done, &at, &err);
        gsize have, skip;
        const char *data;

        if (!bytes) {
            break;
        }
        g_mutex_unlock(&a->lock);
        data = g_bytes_get_data(bytes, &have);
        skip = offset + done - at;
        have = MIN(have - skip, size - done);
        memcpy((char *)buffer + done, data + skip, have);
        done += have;
        g_bytes_unref(bytes);
        g_mutex_lock(&a->lock);
    }
    if (done < size) {
        a->asked = MAX(a->asked, offset + size);    /* by the caller */
    }
    g_mutex_unlock(&a->lock);
    if (err && !done) {
        g_propagate_error(error, err);
        return -1;
    }
    g_clear_error(&err);
    return done;
}

void ahead_note(Ahead *a, guint64 file_size)
{
    g_mutex_lock(&a->lock);
    a->size = file_size;
    g_mutex_unlock(&a->lock);
}

Ahead *ahead_new(AheadPool *pool, const char *path)
{
    Ahead *a = g_atomic_rc_box_new0(Ahead);

    a->pool = pool;
    a->path = g_strdup(path);
    g_mutex_init(&a->lock);
    g_cond_init(&a->came);
    g_queue_init(&a->parts);
    return a;
}

void ahead_free(Ahead *a)
{
    g_mutex_lock(&a->lock);
    forget_all(a);
    g_mutex_unlock(&a->lock);
    ahead_unref(a);
}

/* ---- All ---- */

AheadPool *ahead_pool_new(guint threads, AheadRead read, void *data,
                          GError **error)
{
    AheadPool *pool = g_new0(AheadPool, 1);

    pool->n = MIN(threads, LANES_MAX);
    pool->read = read;
    pool->data = data;
    pool->part_bytes = PART_MAX;
    pool->threads = g_thread_pool_new(on_thread, pool, pool->n, TRUE, error);
    if (!pool->threads) {
        g_clear_pointer(&pool, g_free);
    }
    return pool;
}

void ahead_pool_free(AheadPool *pool)
{
    g_thread_pool_free(pool->threads, FALSE, TRUE);
    g_free(pool);
}

void ahead_pool_changed(AheadPool *pool)
{
    g_atomic_int_inc(&pool->changes);
}
