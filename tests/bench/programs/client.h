/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows of the benchmark that a program can make: open once, then call many times.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stddef.h>
#include <stdint.h>

struct row {
	const char *name;
	void (*open)(const char *target);
	void (*call)(void);
};

/* Others open and call; these measure by themselves and leave ns of each in out. */
struct series {
	const char *name;
	void (*run)(const char *target, unsigned int n, uint64_t *out);
};

extern const struct row client_rows[];
extern const struct series client_series[];

uint64_t now_ns(void);
int connect_unix(const char *path);
void write_all(int fd, const void *data, size_t bytes);
void read_all(int fd, void *data, size_t bytes);

/* client_counters.c */
void counters_print(const char *pid, const char *vm);

/* client_line.c */
void qmp_open(const char *path);
void qmp_empty(void);
void qmp_null(void);
void qmp_meminfo(void);
void qmp_balloon(void);
void balloon_age(const char *path, unsigned int n, uint64_t *out);
void qga_open(const char *path);
void qga_ping(void);
void qga_read(void);
void qga_exec(void);

/* client_rvmrpc.c */
void sock_open(const char *path);
void sock_null(void);
void sock_meminfo(void);
void sock_procfs(void);
void sock_echo_open(const char *target);
void sock_echo(void);
void sock_flood(const char *target, unsigned int n, uint64_t *out);
void dev_open(const char *name);
void dev_null(void);
void dev_meminfo(void);
void file_open(const char *path);
void file_read(void);
void kernel_series(const char *command, unsigned int n, uint64_t *out);
void kernel_flood(const char *command, unsigned int n, uint64_t *out);
void pingpong(const char *cpu, unsigned int n, uint64_t *out);

/* client_peers.c */
void vsock_open(const char *cid);
void vsock_kept(void);
void vsock_new(void);
void command_open(const char *command);
void command_new(void);
void command_shell_open(const char *command);
void command_kept(void);

#endif /* BENCH_CLIENT_H */
