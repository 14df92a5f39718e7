// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bench_vsocknc CID PORT: a connection to a guest's vsock, as nc: the end of the input is told, the end of the other side ends it.
 */
#include <err.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

static char buffer[65536];

/* 0 at the end of @from. */
static ssize_t move(int from, int to)
{
	ssize_t got = read(from, buffer, sizeof(buffer)), at, done;

	if (got < 0)
		err(1, "read");
	for (at = 0; at < got; at += done) {
		done = write(to, buffer + at, got - at);
		if (done < 0)
			err(1, "write");
	}
	return got;
}

int main(int argc, char **argv)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);
	struct pollfd fds[] = { { .fd = s, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };

	if (argc != 3)
		errx(2, "usage: bench_vsocknc CID PORT");
	addr.svm_cid = atoi(argv[1]);
	addr.svm_port = atoi(argv[2]);
	if (s < 0 || connect(s, (struct sockaddr *)&addr, sizeof(addr)))
		err(1, "vsock");
	for (;;) {
		if (poll(fds, 2, -1) < 0)
			err(1, "poll");
		if (fds[0].revents && !move(s, STDOUT_FILENO))
			return 0;
		if (fds[1].revents && !move(STDIN_FILENO, s)) {
			shutdown(s, SHUT_WR);
			fds[1].fd = -1;
		}
	}
}
