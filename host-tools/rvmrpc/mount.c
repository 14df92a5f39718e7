/*
 * The rvmrpc command: mount, a guest's files as a file system of this host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each of FUSE's threads makes its own calls, by a connection that it takes out
 * of a few.  What the kernel does not remember is asked for anew; kept here are
 * the next parts of a file that is read in order, for a second.
 */
#define FUSE_USE_VERSION 32

#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include "ahead.h"
#include "../common/stdio.h"

#define WATCH_MS            500
#define GONE_TIMES          4           /* in a row that nobody answered */

typedef struct Mount {
    RvmrpcVm *vm;
    const char *root;           /* in the guest, "" for all */
    GAsyncQueue *conns;         /* of RvmrpcConn: those that nobody uses */
    guint nconns;               /* that there are */
    AheadPool *ahead;
    GMutex lock;                /* files */
    GHashTable *files;          /* of Ahead: those that are open */
    struct fuse *fuse;
    RvmrpcConn *watched;        /* tells whether the VM is there */
    pthread_t loop;             /* thread that waits for the end */
    int ended;                  /* atomic: it has */
} Mount;

static Mount *this_mount(void)
{
    return fuse_get_context()->private_data;
}

/* ---- Errors ---- */

/* Frees the error. */
static int error_number(GError *error)
{
    static const struct {
        int code, number;
    } numbers[] = {
        { G_IO_ERROR_NOT_FOUND, ENOENT },
        { G_IO_ERROR_NOT_DIRECTORY, ENOTDIR },
        { G_IO_ERROR_NOT_REGULAR_FILE, EINVAL },
        { G_IO_ERROR_TOO_MANY_LINKS, ELOOP },
        { G_IO_ERROR_FILENAME_TOO_LONG, ENAMETOOLONG },
        { G_IO_ERROR_PERMISSION_DENIED, EACCES },
        { G_IO_ERROR_EXISTS, EEXIST },
        { G_IO_ERROR_NOT_EMPTY, ENOTEMPTY },
        { G_IO_ERROR_IS_DIRECTORY, EISDIR },
        { G_IO_ERROR_NO_SPACE, ENOSPC },
        { G_IO_ERROR_READ_ONLY, EROFS },
        { G_IO_ERROR_MESSAGE_TOO_LARGE, EFBIG },
        { G_IO_ERROR_WOULD_RECURSE, EXDEV },
    };
    int number = EIO;

    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++) {
        if (g_error_matches(error, G_IO_ERROR, numbers[i].code)) {
            number = numbers[i].number;
        }
    }
    if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_NOT_ALLOWED)) {
        number = EACCES;
    } else if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT)) {
        number = ETIMEDOUT;
    } else if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_BUSY)) {
        number = EBUSY;
    } else if (g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_TOO_BIG)) {
        number = ENAMETOOLONG;
    }
    g_error_free(error);
    return number;
}

/* ---- Asking ---- */

static char *guest_path(const Mount *m, const char *path)
{
    if (m->root[0] && strcmp(path, "/") == 0) {
        return g_strdup(m->root);
    }
    return g_strconcat(m->root, path, NULL);
}

/* One call by one connection, FALSE and @error if it fails. */
typedef gboolean (*AskFn)(RvmrpcConn *conn, const char *path, void *data,
                          GError **error);

/*
 * A connection is kept for a call alone: who waits for a guest's file system
 * that hangs must not keep the others from theirs.
 */
static gboolean ask_once(Mount *m, const char *full, AskFn fn, void *data,
                         GError **error)
{
    RvmrpcConn *conn = g_async_queue_pop(m->conns);
    const gboolean done = fn(conn, full, data, error);

    g_async_queue_push(m->conns, conn);
    return done;
}

static gboolean ask(const char *path, AskFn fn, void *data, GError **error)
{
    Mount *m = this_mount();
    g_autofree char *full = guest_path(m, path);
    const gint64 end = g_get_monotonic_time() +
                       timeout_or(FILES_TIMEOUT_MS) * (gint64)1000;
    GError *err = NULL;
    gulong wait_us = 0;
    gboolean done;

    do {
        g_clear_error(&err);
        done = ask_once(m, full, fn, data, &err);
    } while (!done && busy_again(err, end, &wait_us));
    if (!done) {
        g_propagate_error(error, err);
    }
    return done;
}

typedef struct Files {
    guint32 procedure, select;
    RvmrpcRecords *records;
} Files;

static gboolean ask_files(RvmrpcConn *conn, const char *path, void *data,
                          GError **error)
{
    Files *files = data;

    files->records = rvmrpc_get_files(conn, files->procedure, path,
                                      files->select,
                                      timeout_or(FILES_TIMEOUT_MS),
                                      options.cancellable, error);
    return files->records != NULL;
}

/* NULL and *number. */
static RvmrpcRecords *get_files(const char *path, guint32 procedure,
                                guint32 select, int *number)
{
    Files files = { .procedure = procedure, .select = select };
    GError *error = NULL;

    if (!ask(path, ask_files, &files, &error)) {
        *number = error_number(error);
        return NULL;
    }
    /* A list may have been cut before its first name: that is no empty folder. */
    if (rvmrpc_records_get_cut(files.records) ||
        (!rvmrpc_records_get_count(files.records) &&
         procedure != RVMRPC_FILES_LIST)) {
        g_clear_pointer(&files.records, rvmrpc_records_free);
        *number = EIO;
    }
    return files.records;
}

static struct timespec time_of(const RvmrpcRecord *r, guint key)
{
    guint64 ns = 0;

    rvmrpc_record_get_u64(r, key, &ns);
    return (struct timespec) {
        .tv_sec = (gint64)ns / 1000000000 - ((gint64)ns % 1000000000 < 0),
        .tv_nsec = ((gint64)ns % 1000000000 + 1000000000) % 1000000000,
    };
}

static guint64 value_of(const RvmrpcRecord *r, guint key)
{
    guint64 value = 0;

    rvmrpc_record_get_u64(r, key, &value);
    return value;
}

static void fill_stat(const RvmrpcRecord *r, struct stat *st)
{
    const guint64 device = value_of(r, RVMRPC_FILE_DEVICE);

    *st = (struct stat) {
        .st_mode = value_of(r, RVMRPC_FILE_MODE),
        .st_size = value_of(r, RVMRPC_FILE_SIZE),
        .st_blocks = value_of(r, RVMRPC_FILE_ALLOCATED) / 512,
        .st_ino = value_of(r, RVMRPC_FILE_INODE),
        .st_nlink = value_of(r, RVMRPC_FILE_LINKS),
        .st_uid = value_of(r, RVMRPC_FILE_UID),
        .st_gid = value_of(r, RVMRPC_FILE_GID),
        .st_rdev = makedev(device >> 32, (guint32)device),
        .st_atim = time_of(r, RVMRPC_FILE_ACCESSED_NS),
        .st_mtim = time_of(r, RVMRPC_FILE_MODIFIED_NS),
        .st_ctim = time_of(r, RVMRPC_FILE_CHANGED_NS),
    };
}

/* ---- FUSE's operations ---- */

static int do_getattr(const char *path, struct stat *st,
                      struct fuse_file_info *info)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    int number;

    (void)info;
    records = get_files(path, RVMRPC_FILES_STAT, RVMRPC_FILES_NOFOLLOW,
                        &number);
    if (!records) {
        return -number;
    }
    fill_stat(rvmrpc_records_get(records, 0), st);
    return 0;
}

static int do_readlink(const char *path, char *text, size_t size)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    g_autoptr(GBytes) link = NULL;
    gsize length;
    int number;

    records = get_files(path, RVMRPC_FILES_STAT, RVMRPC_FILES_NOFOLLOW,
                        &number);
    if (!records) {
        return -number;
    }
    link = rvmrpc_record_get_bytes(rvmrpc_records_get(records, 0),
                                   RVMRPC_FILE_LINK);
    if (!link) {
        return -EINVAL;
    }
    /* What no link can say. */
    length = g_bytes_get_size(link);
    if (!length || length >= size || length > RVMRPC_FILES_PATH_MAX ||
        memchr(g_bytes_get_data(link, NULL), '\0', length)) {
        return -EIO;
    }
    memcpy(text, g_bytes_get_data(link, NULL), length);
    text[length] = '\0';
    return 0;
}

/* A guest's name; NULL: it is none that a folder can have. */
static char *entry_name(const RvmrpcRecord *r)
{
    g_autoptr(GBytes) bytes = rvmrpc_record_get_bytes(r, RVMRPC_FILE_NAME);
    g_autofree char *name = NULL;
    gsize size;
    const char *data;

    if (!bytes) {
        return NULL;
    }
    data = g_bytes_get_data(bytes, &size);
    if (!size || memchr(data, '/', size) || memchr(data, '\0', size)) {
        return NULL;
    }
    name = g_strndup(data, size);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return NULL;
    }
    return g_steal_pointer(&name);
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill,
                      off_t offset, struct fuse_file_info *info,
                      enum fuse_readdir_flags flags)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    int number;

    (void)offset;
    (void)info;
    (void)flags;
    records = get_files(path, RVMRPC_FILES_LIST, 0, &number);
    if (!records) {
        return -number;
    }
    fill(buffer, ".", NULL, 0, 0);
    fill(buffer, "..", NULL, 0, 0);
    for (guint i = 0; i < rvmrpc_records_get_count(records); i++) {
        const RvmrpcRecord *r = rvmrpc_records_get(records, i);
        g_autofree char *name = entry_name(r);
        struct stat st;

        if (name) {
            fill_stat(r, &st);
            fill(buffer, name, &st, 0, FUSE_FILL_DIR_PLUS);
        }
    }
    return 0;
}

typedef struct Part {
    guint64 offset;
    guint32 length;
    RvmrpcFileVersion version;
    GBytes *bytes;
} Part;

static gboolean ask_read(RvmrpcConn *conn, const char *path, void *data,
                         GError **error)
{
    Part *part = data;

    part->bytes = rvmrpc_read_file(conn, path, part->offset, part->length,
                                   &part->version, timeout_or(FILES_TIMEOUT_MS),
                                   options.cancellable, error);
    return part->bytes != NULL;
}

static GBytes *read_ahead(void *data, const char *path, guint64 offset,
                          guint32 length, RvmrpcFileVersion *version,
                          GError **error)
{
    Part part = { .offset = offset, .length = length };

    if (!ask_once(data, path, ask_read, &part, error)) {
        return NULL;
    }
    *version = part.version;
    return part.bytes;
}

/* Without it, a file is read as it is asked for. */
static Ahead *ahead_of(const struct fuse_file_info *info)
{
    return info ? (Ahead *)(uintptr_t)info->fh : NULL;
}

static int do_open(const char *path, struct fuse_file_info *info)
{
    Mount *m = this_mount();
    g_autofree char *full = guest_path(m, path);
    Ahead *ahead = ahead_new(m->ahead, full);

    g_mutex_lock(&m->lock);
    g_hash_table_add(m->files, ahead);
    g_mutex_unlock(&m->lock);
    info->fh = (uintptr_t)ahead;
    return 0;
}

static int do_release(const char *path, struct fuse_file_info *info)
{
    Mount *m = this_mount();

    (void)path;
    g_mutex_lock(&m->lock);
    g_hash_table_remove(m->files, ahead_of(info));
    g_mutex_unlock(&m->lock);
    return 0;
}

static int do_read(const char *path, char *buffer, size_t size, off_t offset,
                   struct fuse_file_info *info)
{
    Part part = { .version.size = G_MAXUINT64 };
    const gint64 end = g_get_monotonic_time() +
                       timeout_or(FILES_TIMEOUT_MS) * (gint64)1000;
    Ahead *ahead = ahead_of(info);
    GError *error = NULL;
    gssize done = ahead_copy(ahead, offset, buffer, size, end, &error);
    gsize got = 1;

    while (done >= 0 && done < (gssize)size && got &&
           (guint64)(offset + done) < part.version.size) {
        part.offset = offset + done;
        part.length = size - done;
        if (!ask(path, ask_read, &part, &error)) {
            done = -1;
            break;
        }
        got = g_bytes_get_size(part.bytes);
        if (got) {
            memcpy(buffer + done, g_bytes_get_data(part.bytes, NULL), got);
        }
        g_bytes_unref(part.bytes);
        done += got;
        ahead_note(ahead, part.version.size);
        /* Who reads cannot be killed: it shall not wait for a byte at a time. */
        if (g_get_monotonic_time() >= end && got < part.length) {
            return -ETIMEDOUT;
        }
    }
    return done < 0 ? -error_number(error) : done;
}

static int do_statfs(const char *path, struct statvfs *st)
{
    g_autoptr(RvmrpcRecords) records = NULL;
    const RvmrpcRecord *r;
    int number;

    records = get_files(path, RVMRPC_FILES_STATFS, 0, &number);
    if (!records) {
        return -number;
    }
    r = rvmrpc_records_get(records, 0);
    *st = (struct statvfs) {
        .f_bsize = 4096,
        .f_frsize = 4096,
        .f_blocks = value_of(r, RVMRPC_FS_SIZE) / 4096,
        .f_bfree = value_of(r, RVMRPC_FS_FREE) / 4096,
        .f_bavail = value_of(r, RVMRPC_FS_AVAILABLE) / 4096,
        .f_files = value_of(r, RVMRPC_FS_FILES),
        .f_ffree = value_of(r, RVMRPC_FS_FILES_FREE),
        .f_favail = value_of(r, RVMRPC_FS_FILES_FREE),
        .f_namemax = 255,
    };
    return 0;
}

/* ---- Those that change something ---- */

static gboolean ask_change(RvmrpcConn *conn, const char *path, void *data,
                           GError **error)
{
    RvmrpcFileChange *what = data;

    what->path = path;
    return what->procedure == RVMRPC_FILES_WRITE ?
        write_all_parts(conn, what, error) :
        rvmrpc_change_file(conn, what, NULL, timeout_or(FILES_TIMEOUT_MS),
                           options.cancellable, error);
}

/* 0 or a negative errno. */
static int change(RvmrpcFileChange *what, const char *path)
{
    AheadPool *ahead = this_mount()->ahead;
    GError *error = NULL;
    gboolean done;

    ahead_pool_changed(ahead);
    done = ask(path, ask_change, what, &error);
    ahead_pool_changed(ahead);      /* what was read meanwhile, too */
    return done ? 0 : -error_number(error);
}

static int change_name(guint32 procedure, const char *path)
{
    RvmrpcFileChange what = { .procedure = procedure };

    return change(&what, path);
}

static int make(guint32 procedure, const char *path, mode_t mode)
{
    RvmrpcFileChange what = {
        .procedure = procedure,
        .mode = mode & 07777,
    };

    return mode & (S_ISUID | S_ISGID) ? -EPERM : change(&what, path);
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    const int err = make(RVMRPC_FILES_CREATE, path, mode);

    /* The guest made it meanwhile. */
    return !err || (err == -EEXIST && !(info->flags & O_EXCL)) ?
           do_open(path, info) : err;
}

static int do_mkdir(const char *path, mode_t mode)
{
    return make(RVMRPC_FILES_MKDIR, path, mode);
}

static int do_unlink(const char *path)
{
    return change_name(RVMRPC_FILES_REMOVE, path);
}

static int do_rmdir(const char *path)
{
    return change_name(RVMRPC_FILES_RMDIR, path);
}

static int do_rename(const char *path, const char *to, unsigned int flags)
{
    g_autofree char *full = guest_path(this_mount(), to);
    RvmrpcFileChange what = {
        .procedure = RVMRPC_FILES_RENAME,
        .to = full,
        .keep = flags & RENAME_NOREPLACE,
    };

    return flags & ~(unsigned int)RENAME_NOREPLACE ? -EINVAL :
           change(&what, path);
}

static int do_write(const char *path, const char *data, size_t size,
                    off_t offset, struct fuse_file_info *info)
{
    RvmrpcFileChange what = {
        .procedure = RVMRPC_FILES_WRITE,
        .offset = offset,
        .data = data,
        .length = size,
    };
    const int err = change(&what, path);

    (void)info;
    return what.length < size ? (int)(size - what.length) : err;
}

static int do_fsync(const char *path, int data_only,
                    struct fuse_file_info *info)
{
    (void)data_only;
    (void)info;
    return change_name(RVMRPC_FILES_SYNC, path);
}

static int do_truncate(const char *path, off_t size,
                       struct fuse_file_info *info)
{
    RvmrpcFileChange what = {
        .procedure = RVMRPC_FILES_SET,
        .set = RVMRPC_FILE_SET_SIZE,
        .size = size,
    };

    (void)info;
    return change(&what, path);
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    RvmrpcFileChange what = {
        .procedure = RVMRPC_FILES_SET,
        .set = RVMRPC_FILE_SET_MODE,
        .mode = mode & 07777,
    };

    (void)info;
    return mode & (S_ISUID | S_ISGID) ? -EPERM : change(&what, path);
}

static int do_chown(const char *path, uid_t uid, gid_t gid,
                    struct fuse_file_info *info)
{
    RvmrpcFileChange what = {
        .procedure = RVMRPC_FILES_SET,
        .set = (uid == (uid_t)-1 ? 0 : RVMRPC_FILE_SET_UID) |
               (gid == (gid_t)-1 ? 0 : RVMRPC_FILE_SET_GID),
        .uid = uid,
        .gid = gid,
    };

    (void)info;
    return what.set ? change(&what, path) : 0;
}

/* What 64 bits do not hold, of before 1678 or after 2262, is the nearest time that they do. */
static gint64 ns_of(const struct timespec *time)
{
    const gint64 second = 1000000000, most = G_MAXINT64 / second;

    if (time->tv_nsec == UTIME_NOW) {
        return (gint64)RVMRPC_FILE_NOW;
    }
    return time->tv_sec >= most || time->tv_sec <= -most ?
           CLAMP(time->tv_sec, -most, most) * second :
           time->tv_sec * second + time->tv_nsec;
}

static int do_utimens(const char *path, const struct timespec times[2],
                      struct fuse_file_info *info)
{
    RvmrpcFileChange what = {
        .procedure = RVMRPC_FILES_SET,
        .set = (times[0].tv_nsec == UTIME_OMIT ? 0 : RVMRPC_FILE_SET_ACCESSED) |
               (times[1].tv_nsec == UTIME_OMIT ? 0 : RVMRPC_FILE_SET_MODIFIED),
        .accessed_ns = ns_of(&times[0]),
        .modified_ns = ns_of(&times[1]),
    };

    (void)info;
    return what.set ? change(&what, path) : 0;
}

/* What the kernel has of a file ends when size or time are others at its opening. */
static void *do_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    conn->max_readahead = AHEAD_REQUEST_BYTES;
    conn->max_read = AHEAD_REQUEST_BYTES;
    /* By truncate(), as if it were another call of the program's. */
    conn->want &= ~FUSE_CAP_ATOMIC_O_TRUNC;
    config->hard_remove = 1;
    config->use_ino = 1;
    config->auto_cache = 1;
    config->attr_timeout = AHEAD_FRESH_S;
    config->entry_timeout = AHEAD_FRESH_S;
    config->ac_attr_timeout_set = 1;
    config->ac_attr_timeout = 0;
    return this_mount();
}

static const struct fuse_operations operations = {
    .init = do_init,
    .getattr = do_getattr,
    .readlink = do_readlink,
    .readdir = do_readdir,
    .open = do_open,
    .read = do_read,
    .release = do_release,
    .statfs = do_statfs,
    .create = do_create,
    .mkdir = do_mkdir,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .rename = do_rename,
    .write = do_write,
    .fsync = do_fsync,
    .fsyncdir = do_fsync,
    .truncate = do_truncate,
    .chmod = do_chmod,
    .chown = do_chown,
    .utimens = do_utimens,
};

/* ---- Life ---- */

static void on_wake(int sig)
{
    (void)sig;
}

/* Whether the VM has gone: nobody answers by its way, and that for a while. */
static gboolean is_gone(RvmrpcConn *conn, guint *missed)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RvmrpcChannel) channel = NULL;

    channel = rvmrpc_query(conn, TIMEOUT_MS, options.cancellable, &error);
    *missed = channel ? 0 : *missed + 1;
    return *missed >= GONE_TIMES;
}

/* Ends the loop at a signal, and when the VM has gone. */
static void *watch_thread(void *data)
{
    Mount *m = data;
    guint missed = 0;

    while (!g_atomic_int_get(&m->ended) &&
           !g_cancellable_is_cancelled(options.cancellable) &&
           !is_gone(m->watched, &missed)) {
        g_usleep(WATCH_MS * 1000);
    }
    fuse_exit(m->fuse);
    /* A signal that comes just before it waits is lost. */
    while (!g_atomic_int_get(&m->ended)) {
        pthread_kill(m->loop, SIGUSR1);
        g_usleep(WATCH_MS * 1000 / 10);
    }
    return NULL;
}

/* What files are read ahead by. */
static gboolean open_ahead(Mount *m, GError **error)
{
    m->files = g_hash_table_new_full(NULL, NULL,
                                     (GDestroyNotify)ahead_free, NULL);
    m->ahead = ahead_pool_new(m->nconns - 1, read_ahead, m, error);
    return m->ahead != NULL;
}

/* The kernel does not close what was open when the mount ends. */
static void close_ahead(Mount *m)
{
    g_clear_pointer(&m->files, g_hash_table_unref);
    g_clear_pointer(&m->ahead, ahead_pool_free);
    g_mutex_clear(&m->lock);
}

/* As many as may be in flight, one for what is not of a folder that hangs, and the watch's. */
static gboolean open_conns(Mount *m, GError **error)
{
    guint n = 1;

    for (guint i = 0; i < n; i++) {
        RvmrpcConn *conn = rvmrpc_connect(m->vm, timeout_or(TIMEOUT_MS),
                                          options.cancellable, error);

        if (!conn) {
            return FALSE;
        }
        if (!i) {
            n = lanes_of(conn) + 1;
        }
        g_async_queue_push(m->conns, conn);
    }
    m->nconns = n;
    m->watched = rvmrpc_connect(m->vm, timeout_or(TIMEOUT_MS),
                                options.cancellable, error);
    return m->watched != NULL;
}

static int run_loop(Mount *m, const char *name, const char *dir)
{
    const struct sigaction wake = { .sa_handler = on_wake };
    struct fuse_loop_config config = { .clone_fd = 0, .max_idle_threads = m->nconns };
    GError *error = NULL;
    GThread *watch;
    int err;

    sigaction(SIGUSR1, &wake, NULL);
    m->loop = pthread_self();
    watch = try_thread("watch", watch_thread, m, &error);
    if (!watch) {
        return fail(error);
    }
    printf("%s is at %s\n", name, dir);
    stdio_flush();
    err = fuse_loop_mt(m->fuse, &config);
    g_atomic_int_set(&m->ended, 1);
    g_thread_join(watch);
    return err < 0 ? EXIT_OTHER : EXIT_OK;
}

static int serve(Mount *m, const char *name, const char *dir)
{
    g_autofree char *clean_name = rvmrpc_escape(name, FALSE);
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int code = EXIT_OTHER;

    fuse_opt_add_arg(&args, "rvmrpc");
    fuse_opt_add_arg(&args, options.rw ? "-orw" : "-oro");
    fuse_opt_add_arg(&args, "-onosuid,nodev,subtype=rvmrpc,fsname=rvmrpc");
    fuse_opt_add_arg(&args, "-omax_read=" G_STRINGIFY(AHEAD_REQUEST_BYTES));
    m->fuse = fuse_new(&args, &operations, sizeof(operations), m);
    /* Both say themselves what is wrong. */
    if (m->fuse && fuse_mount(m->fuse, dir) == 0) {
        code = run_loop(m, clean_name, dir);
        fuse_unmount(m->fuse);
    }
    g_clear_pointer(&m->fuse, fuse_destroy);
    fuse_opt_free_args(&args);
    return code;
}

int cmd_mount(int argc, char **argv)
{
    const char *colon = strstr(argv[0], ":/");
    g_autofree char *name = colon ? g_strndup(argv[0], colon - argv[0]) :
                            g_strdup(argv[0]);
    g_autoptr(RvmrpcVm) vm = NULL;
    Mount m = { .root = colon && colon[2] ? colon + 1 : "" };
    GError *error = NULL;
    RvmrpcConn *conn;
    int code;

    (void)argc;
    vm = rvmrpc_find_vm(name, options.cancellable, &error);
    m.vm = vm;
    m.conns = g_async_queue_new();
    g_mutex_init(&m.lock);
    code = vm && open_conns(&m, &error) && open_ahead(&m, &error) ?
           serve(&m, argv[0], argv[1]) : fail(error);
    close_ahead(&m);
    while ((conn = g_async_queue_try_pop(m.conns))) {
        rvmrpc_conn_free(conn);
    }
    g_async_queue_unref(m.conns);
    g_clear_pointer(&m.watched, rvmrpc_conn_free);
    return code;
}
