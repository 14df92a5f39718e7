// SPDX-License-Identifier: GPL-2.0-or-later
/* unix-file bind|connect|unlink PATH: what a process may do to a UNIX socket's file; prints "ok" or why not. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	int failed;

	if (argc != 3 || strlen(argv[2]) >= sizeof(addr.sun_path))
		return 2;
	strcpy(addr.sun_path, argv[2]);
	if (strcmp(argv[1], "bind") == 0)
		failed = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	else if (strcmp(argv[1], "connect") == 0)
		failed = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	else
		failed = unlink(argv[2]);
	puts(failed ? strerror(errno) : "ok");
	return 0;
}
