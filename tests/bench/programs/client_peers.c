// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Peers that are no part of QEMU: a server on vsock, and commands such as ssh.
 */
#define _GNU_SOURCE
#include <err.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include "client.h"

#define PORT	1024

static char answer[65536];
static const char *command;
static int fd, to, from;
static unsigned int cid;

/* ---- vsock ---- */

static void vsock_connect(void)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = PORT };

	fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		err(1, "vsock %u", cid);
}

void vsock_open(const char *target)
{
	cid = atoi(target);
	vsock_connect();
}

void vsock_kept(void)
{
	uint32_t length;

	write_all(fd, "m", 1);
	read_all(fd, &length, sizeof(length));
	if (length > sizeof(answer))
		errx(1, "vsock: %u bytes", length);
	read_all(fd, answer, length);
}

void vsock_new(void)
{
	close(fd);
	vsock_connect();
	vsock_kept();
}

/* ---- Commands ---- */

static pid_t start(const char *text)
{
	char *argv[] = { "sh", "-c", (char *)text, NULL };
	posix_spawn_file_actions_t actions;
	int in[2], out[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		err(1, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	if (posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ))
		errx(1, "%s", text);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	to = in[1];
	from = out[0];
	return pid;
}

void command_open(const char *target)
{
	command = target;
}

void command_new(void)
{
	pid_t pid = start(command);
	size_t length = 0;
	ssize_t got;
	int status;

	close(to);
	while ((got = read(from, answer + length, sizeof(answer) - length)) > 0)
		length += got;
	close(from);
	if (waitpid(pid, &status, 0) != pid || status || !length)
		errx(1, "%s: status %d, %zu bytes", command, status, length);
}

/* The command starts a shell at the far end, which is kept. */
void command_shell_open(const char *target)
{
	start(target);
	command_kept();
}

void command_kept(void)
{
	static const char text[] = "cat /proc/meminfo; echo =\n";
	size_t length = 0;

	write_all(to, text, sizeof(text) - 1);
	do {
		ssize_t got = read(from, answer + length, sizeof(answer) - length);

		if (got <= 0)
			errx(1, "the shell ended");
		length += got;
	} while (length < 2 || memcmp(answer + length - 2, "=\n", 2));
}
