/*
 * rvmrpcd: the host's end of the windows of stock QEMUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One thread, one main loop.  A *VM* is what the configuration names: a socket for QEMU, a socket for clients.  A
 * *world* is one QEMU's connection: its window and eventfds.
 */
#ifndef RVMRPCD_H
#define RVMRPCD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>
#include "rv_channel.h"
#include "rv_server.h"

/* ---- config.c ---- */

typedef struct WindowConfig {
    uint64_t size;              /* bytes, a power of two */
    uint32_t slots;
    uint32_t request, response; /* bytes of each slot */
    uint32_t spin_us;
} WindowConfig;

typedef struct VmConfig {
    char *name;
    char *uuid;                 /* or NULL */
    char *ivshmem;              /* paths of the sockets */
    char *socket;
    mode_t ivshmem_mode, socket_mode;
    WindowConfig window;
    struct rvmrpc_layout layout;
} VmConfig;

/* VmConfig by name, of a file and its vm-dir, and of @names, which have no file.  @path NULL: the usual file if there. */
GHashTable *config_load(const char *path, char **names, GError **error);

/* ---- ivshmem.c ---- */

/* Sends what QEMU's ivshmem waits for, all at once.  False: it has gone, or is no QEMU. */
bool ivshmem_greet(int sock, int memory, int doorbell, int interrupt);

/* ---- fdstore.c ---- */

enum { FD_CONNECTION, FD_MEMORY, FD_DOORBELL, FD_INTERRUPT, NFDS };

/* systemd keeps them over our end, whatever it is; without systemd nothing happens. */
void fdstore_keep(const char *vm, unsigned world, const int fds[NFDS]);
void fdstore_forget(const char *vm, unsigned world);
/* Calls @found for each world that an earlier rvmrpcd has left; the descriptors are its from then on. */
void fdstore_restore(void (*found)(const char *vm, unsigned world, const int fds[NFDS], void *opaque), void *opaque);

/* ---- vm.c, info.c ---- */

typedef struct Vm Vm;

typedef struct World {
    Vm *vm;
    unsigned id;
    int fds[NFDS];
    pid_t pid;                  /* of QEMU, as the kernel says */
    void *base;
    uint64_t size;
    RvChannel *channel;
    GSource *watch;
} World;

struct Vm {
    VmConfig *config;
    int listener;
    RvMade made;
    GSource *watch;             /* NULL while accept() has to be spared */
    RvServer *server;
    GQueue worlds;
    World *current;             /* whose guest said hello last, or the last one; NULL without any */
};

/* Takes over @config, in any case. */
Vm *vm_new(VmConfig *config, GError **error);
/* @keep: its QEMUs are to be found again by the next rvmrpcd. */
void vm_free(Vm *vm, bool keep);
/* Takes over a world that was kept. */
void vm_adopt(Vm *vm, unsigned id, const int fds[NFDS]);
void vm_config_free(void *config);

/* The text of INFO. */
char *info_json(Vm *vm);
/* An event of QMP's form; @data is a JSON object's members. */
char *event_json(const char *event, const char *data);
const char *os_name(uint32_t os);
/* Text of the guest, of at most @len bytes, fit for a terminal and JSON. */
char *escape(const char *text, size_t len);

#endif
