/*
 * The rvmrpc command: what its files share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RVMRPC_CMD_H
#define RVMRPC_CMD_H

#include <json-glib/json-glib.h>
#include "rvmrpc.h"
#include "rvmrpc_abi.h"
#include "../common/facts.h"

/* Exit codes; documented in rvmrpc(1). */
enum {
    EXIT_OK = 0,
    EXIT_OTHER = 1,
    EXIT_USAGE = 2,
    EXIT_NO_VM = 3,
    EXIT_UNREACHABLE = 4,
    EXIT_PERMISSION = 5,
    EXIT_NO_ANSWER = 6,
    EXIT_NOT_NOW = 7,
    EXIT_REFUSED = 8,
    EXIT_MALFORMED = 9,
    EXIT_INTERRUPTED = 130,
};

typedef struct Options {
    gboolean json;
    gboolean raw;
    gboolean sync;
    gboolean follow;            /* dmesg */
    gboolean set;               /* clock */
    gboolean status;            /* freeze */
    gboolean force;             /* poweroff, reboot */
    gboolean rw;                /* mount */
    char *by;                   /* ps; NULL: as usual */
    char *output;               /* doctor's file; NULL: standard output */
    char *bytes;                /* reclaim; NULL: what can be spared */
    gboolean dry_run;           /* balance, attach, detach */
    gboolean yes;               /* attach, detach */
    char *device;               /* attach; NULL: as the emulator has it */
    gboolean once;              /* balance */
    char *target, *config;      /* balance; NULL: not given */
    char **floors;              /* balance; NULL: not given */
    int thaw_s;                 /* freeze: until the guest thaws by itself */
    int timeout_ms;             /* 0: the command's own default */
    int count;                  /* 0: without end */
    double interval;            /* seconds; 0: the command's own default */
    GCancellable *cancellable;  /* by SIGINT, SIGTERM and SIGHUP */
    void (*leave)(void);        /* atomic; before the process ends early; NULL: nothing */
} Options;

extern Options options;

/* Gives the terminal back, when the process ends wherever it is. */
void leave_screen(void);

/* Of a call that waits for nothing, and of connecting. */
#define TIMEOUT_MS 1000
/* Of a list, whatever number of answers it takes. */
#define LIST_TIMEOUT_MS 3000

guint timeout_or(guint default_ms);

/* Prints the error and returns its exit code.  Frees @error. */
int fail(GError *error);
int usage_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* NULL and @error, or NULL alone: this host lets us have no more threads. */
GThread *try_thread(const char *name, GThreadFunc func, void *data,
                    GError **error);

/* ---- Commands: argv without the command's name ---- */

int cmd_list(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_meminfo(int argc, char **argv);
int cmd_loadavg(int argc, char **argv);
int cmd_cpuinfo(int argc, char **argv);
int cmd_cpustat(int argc, char **argv);
int cmd_osinfo(int argc, char **argv);
int cmd_drop_caches(int argc, char **argv);
int cmd_df(int argc, char **argv);
int cmd_ip(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_psi(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_cat(int argc, char **argv);
int cmd_cp(int argc, char **argv);
int cmd_mkdir(int argc, char **argv);
int cmd_mv(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_forward(int argc, char **argv);
int cmd_nc(int argc, char **argv);
int cmd_dmesg(int argc, char **argv);
int cmd_vmcoreinfo(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_clock(int argc, char **argv);
int cmd_reclaim(int argc, char **argv);
int cmd_freeze(int argc, char **argv);
int cmd_thaw(int argc, char **argv);
int cmd_sysrq(int argc, char **argv);
int cmd_poweroff(int argc, char **argv);
int cmd_reboot(int argc, char **argv);
int cmd_call(int argc, char **argv);
int cmd_ping(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_balance(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_detach(int argc, char **argv);

/* ---- Asking ---- */

/* NULL and *code when it did not come to a connection. */
RvmrpcConn *open_vm(const char *what, int *code);
/* The list of the VM called @vm; NULL and *code, printed, when nothing came. */
RvmrpcRecords *ask_records(const char *vm, const RvmrpcListing *what,
                           guint timeout_ms, int *code);
/* Says on standard error why a list is not whole.  Returns the exit code. */
int end_records(const RvmrpcRecords *records);

/* ---- Files ---- */

#define FILES_TIMEOUT_MS    10000
#define LANES_MAX           8

/* Calls of a copy that a guest runs at a time: it keeps a slot for quick ones, and one for other folders. */
guint lanes_of(RvmrpcConn *conn);

/*
 * A guest may have other callers: waits a little if it was BUSY, longer than the
 * last time, 0 at first; FALSE: no use.
 */
gboolean busy_again(const GError *error, gint64 end, gulong *wait_us);
/* All of it, in as many calls as it takes; @write has the rest of it then. */
gboolean write_all_parts(RvmrpcConn *conn, RvmrpcFileChange *write,
                         GError **error);

/* Copies a file of this host into the guest's folder or file @to. */
int copy_in(const char *from, RvmrpcVm *vm, const char *to);

/* ---- Tables ---- */

typedef struct Table Table;

/* @heads: NULL at the end; a column whose head begins with > is ranged right. */
Table *table_new(const char *const *heads);
void table_free(Table *table);
/* Cells go row by row.  Takes @cell, which must be fit for a terminal. */
void table_add(Table *table, char *cell);
/* The record's value of a key, or "-". */
void table_add_u64(Table *table, const RvmrpcRecord *record, guint key);
void table_add_size(Table *table, const RvmrpcRecord *record, guint key);
void table_add_text(Table *table, const RvmrpcRecord *record, guint key);
/* Lines that stand below the row that was added last.  Takes @lines. */
void table_below(Table *table, char *lines);
guint table_rows(const Table *table);
char *table_text(const Table *table, const char *indent);

Table *filesystems_table(const RvmrpcRecords *records);
Table *pressure_table(const RvmrpcRecords *records);
/* @stacks: of threads, with the stack below each; @max: most rows. */
Table *tasks_table(const RvmrpcRecords *records, gboolean stacks, guint max);
/* A task's name, escaped. */
char *task_name(const RvmrpcRecord *record);
/* Lines of a message of the kernel, escaped. */
char *message_text(const RvmrpcRecord *record);

/* Why an FS_SKIPPED was not asked, in a word. */
const char *skipped_text(guint64 skipped);
/* Bytes as "52:54:00:12:34:56"; NULL: not told. */
char *mac_text(const RvmrpcRecord *record, guint key);
char *address_text(const RvmrpcRecord *record);
/* Bytes that are a file's name, as UTF-8; NULL: not told. */
char *record_bytes_text(const RvmrpcRecord *record, guint key);
gboolean is_address_of(const RvmrpcRecord *address,
                       const RvmrpcRecord *interface);

#define NO_PSI_TEXT "its kernel does not watch pressure (Linux: boot it with psi=1)"

/* ---- Output ---- */

/* Of standard output, which is a terminal; "" elsewhere. */
const char *color_of(const char *state);
const char *color_off(void);
/* "231.6M" */
char *human_size(guint64 bytes);
/* "231.6 MiB", "0 B" */
char *size_words(guint64 bytes);
/* A guest's text, escaped; newly allocated, "-" for NULL. */
char *clean(const char *text);

/* The local time; with the date, and fit for programs, where JSON is wanted. */
char *clock_text(void);

/* An object, and its end: prints it, frees the builder, and returns EXIT_OK. */
JsonBuilder *begin_json(void);
int end_json(JsonBuilder *b);
/* Prints what the builder has, as one line or pretty; frees it. */
void print_json(JsonBuilder *builder, gboolean pretty);
void json_string(JsonBuilder *b, const char *name, const char *value);
void json_u64(JsonBuilder *b, const char *name, guint64 value);
void json_i64(JsonBuilder *b, const char *name, gint64 value);
void json_bool(JsonBuilder *b, const char *name, gboolean value);
void json_double(JsonBuilder *b, const char *name, double value);
void json_mem(JsonBuilder *b, const RvmrpcMeminfo *mem);
void json_vm(JsonBuilder *b, const RvmrpcVm *vm);
/* Members of what a record tells. */
void json_record(JsonBuilder *b, const RvmrpcRecord *record);
/* An array of the records of a kind; of interfaces with their addresses. */
void json_records(JsonBuilder *b, const char *name,
                  const RvmrpcRecords *records, guint kind);
void json_interfaces(JsonBuilder *b, const char *name,
                     const RvmrpcRecords *records);
/* Whether the list is whole, and why it is not. */
void json_records_state(JsonBuilder *b, const RvmrpcRecords *records);

/* Busy share of all CPUs, in percent, between two; FALSE: not known. */
gboolean cpu_percent(const Facts *before, const Facts *now, double *percent);

#endif
