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
    int timeout_ms;             /* 0: the command's own default */
    int count;                  /* 0: without end */
    double interval;            /* seconds; 0: the command's own default */
    GCancellable *cancellable;  /* by SIGINT and SIGTERM */
} Options;

extern Options options;

guint timeout_or(guint default_ms);

/* Prints the error and returns its exit code.  Frees @error. */
int fail(GError *error);
int usage_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* ---- Commands: argv without the command's name ---- */

int cmd_list(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_meminfo(int argc, char **argv);
int cmd_loadavg(int argc, char **argv);
int cmd_cpuinfo(int argc, char **argv);
int cmd_cpustat(int argc, char **argv);
int cmd_osinfo(int argc, char **argv);
int cmd_drop_caches(int argc, char **argv);
int cmd_call(int argc, char **argv);
int cmd_ping(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_top(int argc, char **argv);

/* ---- Output ---- */

/* Of standard output, which is a terminal; "" elsewhere. */
const char *color_of(const char *state);
const char *color_off(void);
/* "231.6M" */
char *human_size(guint64 bytes);
/* A guest's text, escaped; newly allocated, "-" for NULL. */
char *clean(const char *text);

/* The local time; with the date, and fit for programs, where JSON is wanted. */
char *clock_text(void);

/* Prints what the builder has, as one line or pretty; frees it. */
void print_json(JsonBuilder *builder, gboolean pretty);
void json_string(JsonBuilder *b, const char *name, const char *value);
void json_u64(JsonBuilder *b, const char *name, guint64 value);
void json_bool(JsonBuilder *b, const char *name, gboolean value);
void json_double(JsonBuilder *b, const char *name, double value);
void json_mem(JsonBuilder *b, const RvmrpcMeminfo *mem);
void json_vm(JsonBuilder *b, const RvmrpcVm *vm);

/* Busy share of all CPUs, in percent, between two; FALSE: not known. */
gboolean cpu_percent(const Facts *before, const Facts *now, double *percent);

#endif
