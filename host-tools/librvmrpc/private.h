/*
 * librvmrpc: what its files share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_PRIVATE_H
#define RVMRPC_PRIVATE_H

#include <sys/socket.h>
#include "../common/json.h"
#include "rvmrpc.h"
#include "rvmrpc_abi.h"

/* What a caller waits at most, and who may end it before. */
typedef struct Until {
    gint64 end;                 /* us, monotonic */
    GCancellable *cancellable;
} Until;

static inline Until until_ms(guint ms, GCancellable *cancellable)
{
    return (Until) { g_get_monotonic_time() + ms * (gint64)1000, cancellable };
}

/* FALSE and *error: G_IO_ERROR_TIMED_OUT, or G_IO_ERROR_CANCELLED. */
gboolean until_ready(const Until *until, int fd, short events, GError **error);
/* Whole milliseconds left, at least 0. */
guint until_left(const Until *until);
/* For who always gets something, and not what is waited for.  TRUE and *error: TIMED_OUT. */
gboolean until_over(const Until *until, GError **error);

/* A connected UNIX socket, nonblocking; -1 and *error. */
int unix_connect(const char *path, const Until *until, GError **error);
/* Who listens at its other end. */
gboolean unix_peer(int fd, struct ucred *peer, GError **error);
gboolean write_all(int fd, const void *data, gsize size, const Until *until,
                   GError **error);

/* Written while it is looked for only, by one thread. */
struct RvmrpcVm {
    gatomicrefcount refs;
    char *name, *uuid, *socket, *qmp;
    char *label;                /* to show */
    gint64 pid;
    gint64 peer;                /* who listens at its socket; 0: not known */
    guint64 kernel_id;          /* in /dev/rvmrpc; 0: not there */
    gboolean libvirt;           /* virsh knows it */
    gboolean of_process;        /* paths are those that process pid sees */
    gboolean of_folder;         /* found by its socket, not by a user's word */
    gboolean stranger;          /* of a user who may run no VMs */
};

/* What is called. */
typedef struct Target {
    guint32 module, procedure;
    guint32 list;               /* generation of the list that told them; 0: any */
    const char *names[2];       /* as the caller has them; for ways that resolve */
} Target;

typedef struct Way {
    const char *name;
    gboolean resolves;          /* names go with the call, and hold for it */
    gboolean (*possible)(const RvmrpcVm *vm);
    gboolean (*open)(RvmrpcConn *conn, const Until *until, GError **error);
    void (*close)(RvmrpcConn *conn);
    /* The status is in *status when it returns TRUE. */
    gboolean (*call)(RvmrpcConn *conn, const Target *target, GBytes *arg,
                     guint timeout_ms, const Until *until, guint32 *status,
                     GBytes **answer, guint64 *elapsed_ns, GError **error);
    RvmrpcChannel *(*query)(RvmrpcConn *conn, const Until *until,
                            GError **error);
    char *(*next_event)(RvmrpcConn *conn, const Until *until, GError **error);
} Way;

extern const Way way_socket, way_kernel, way_qmp, way_libvirt;

struct RvmrpcConn {
    RvmrpcVm *vm;
    const Way *way;
    int turn;                   /* eventfd: 1 while nobody uses it */
    int fd;                     /* this and all below: of whose turn it is */
    guint64 cookie;             /* of the last request */
    GByteArray *in;             /* read and not yet used */
    GQueue events;              /* of JSON text */
    gboolean subscribed;
    gboolean broken;
};

struct rvmrpc_sock_hdr;
/* What all frames have in common. */
void frame_begin(struct rvmrpc_sock_hdr *hdr, gsize length);
gboolean frame_is_good(const struct rvmrpc_sock_hdr *hdr);

GError *status_error(const RvmrpcVm *vm, guint32 status);
GError *malformed_error(const RvmrpcVm *vm);

/* Whether what needs several answers may ask for one more, after the first.  FALSE and *error: TIMED_OUT. */
static inline gboolean until_more(const Until *until, const RvmrpcVm *vm,
                                  GError **error)
{
    if (until_left(until)) {
        return TRUE;
    }
    g_propagate_error(error, status_error(vm, RVMRPC_STATUS_TIMED_OUT));
    return FALSE;
}

/* Of query-rvmrpc's answer; @vm_running is known beside it. */
RvmrpcChannel *channel_from_json(JsonObject *obj, gboolean vm_running);

/* As rvmrpc_call(). */
GBytes *call_target(RvmrpcConn *conn, const Target *target, GBytes *arg,
                    guint timeout_ms, guint64 *elapsed_ns,
                    GCancellable *cancellable, GError **error);
/* Whether @err may mean that the list of that generation is no more. */
gboolean call_is_stale(guint32 generation, const GError *err);

/* A part of the guest's list. */
typedef struct ListPage {
    guint32 total;              /* entries there are */
    guint32 count;              /* entries here */
    guint32 generation;         /* of the list; 0: the guest tells none, or none are here */
} ListPage;

/* Appends what an answer to core.list holds. */
gboolean modules_parse(GPtrArray *modules, GBytes *answer, ListPage *page,
                       GError **error);
GPtrArray *modules_new(void);

/*
 * What virsh prints; NULL and *error when it does not end in time.
 * *complaint: what it says when it fails, else NULL.
 */
char *virsh_output(const char *const *argv, const Until *until,
                   char **complaint, GError **error);
/* Adds VMs that /dev/rvmrpc has and the array has not. */
void kernel_list(GPtrArray *vms);
RvmrpcVm *vm_new(void);

/* Root, ourselves, and those of $RVMRPC_USERS. */
gboolean user_runs_vms(uid_t uid);
/* Adds VMs by their processes. */
void process_list(GPtrArray *vms);
/* As unix_connect(), to a path as process @pid sees it, and to it alone. */
int process_connect(gint64 pid, const char *path, const Until *until,
                    GError **error);

/* The VM, with what @socket says of itself when it is one of ours. */
gboolean socket_identify(RvmrpcVm *vm, const Until *until, gboolean *is_qmp,
                         GError **error);

/* ---- files.c: what a guest answered ---- */

GBytes *files_parse_read(const RvmrpcConn *conn, const char *path,
                         GBytes *answer, guint32 length,
                         RvmrpcFileVersion *version, GError **error);
gboolean files_parse_change(const RvmrpcConn *conn,
                            const RvmrpcFileChange *change, GBytes *answer,
                            guint32 *written, GError **error);

#endif
