/*
 * Reverse VMRPC: no command that controls the VM waits for a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One dispatcher runs the commands of all QMP monitors one after another.  A
 * guest-* command waits for the guest; one that controls the VM and is queued
 * behind it must not.  So the guest-* command gives way.
 */
#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qobject/qdict.h"
#include "hw/rvmrpc/giveway.h"

static const char *const control_commands[] = {
    "stop", "cont", "quit", "system_reset", "system_powerdown",
    "system_wakeup", "savevm", "loadvm", "delvm", "snapshot-save",
    "snapshot-load", "snapshot-delete", "migrate", "migrate_cancel",
    "migrate-incoming", "migrate-continue", "device_add", "device_del",
    "inject-nmi",
};

static QemuMutex lock;
static void (*giveway)(void *opaque);       /* lock */
static void *giveway_opaque;                /* lock */
static const char *gave_way_to;             /* lock */
static unsigned queued;                     /* control commands; lock */
static const char *last_queued;             /* lock */

static void __attribute__((constructor)) giveway_init(void)
{
    qemu_mutex_init(&lock);
}

static const char *find_command(const char *name, size_t len)
{
    for (int i = 0; i < ARRAY_SIZE(control_commands); i++) {
        const char *c = control_commands[i];

        if (strlen(c) == len && !memcmp(c, name, len)) {
            return c;
        }
    }
    return NULL;
}

/* The command's name if it controls the VM, by QMP or as HMP inside QMP. */
static const char *control_command(QObject *req)
{
    QDict *qdict = qobject_to(QDict, req);
    const char *name = qdict ? qdict_get_try_str(qdict, "execute") : NULL;
    QDict *args;

    if (!name) {
        return NULL;
    }
    if (!strcmp(name, "human-monitor-command")) {
        args = qobject_to(QDict, qdict_get(qdict, "arguments"));
        name = args ? qdict_get_try_str(args, "command-line") : NULL;
        if (!name) {
            return NULL;
        }
        name += strspn(name, " \t");
    }
    return find_command(name, strcspn(name, " \t"));
}

/* Lock held. */
static void give_way(void)
{
    if (giveway && !gave_way_to) {
        gave_way_to = last_queued;
        giveway(giveway_opaque);
    }
}

void rvmrpc_giveway_queued(QObject *req)
{
    const char *name = control_command(req);

    if (name) {
        QEMU_LOCK_GUARD(&lock);
        queued++;
        last_queued = name;
        give_way();
    }
}

void rvmrpc_giveway_freed(QObject *req)
{
    if (control_command(req)) {
        QEMU_LOCK_GUARD(&lock);
        queued--;
    }
}

void rvmrpc_giveway_begin(void (*cb)(void *opaque), void *opaque)
{
    QEMU_LOCK_GUARD(&lock);
    assert(!giveway);
    giveway = cb;
    giveway_opaque = opaque;
    gave_way_to = NULL;
    if (queued) {
        give_way();
    }
}

const char *rvmrpc_giveway_end(void)
{
    QEMU_LOCK_GUARD(&lock);
    giveway = NULL;
    return gave_way_to;
}
