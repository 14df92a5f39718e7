// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The shortest meminfo server on vsock that one would write: one client at a time, the file kept open.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

int main(void)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1024 };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0), file = open("/proc/meminfo", O_RDONLY), c;
	static struct {
		uint32_t length;
		char text[65536];
	} reply;
	char request;

	if (s < 0 || file < 0 || bind(s, (struct sockaddr *)&addr, sizeof(addr)) || listen(s, 8))
		err(1, "vsock");
	while ((c = accept(s, NULL, NULL)) >= 0) {
		while (read(c, &request, 1) == 1) {
			reply.length = pread(file, reply.text, sizeof(reply.text), 0);
			if (write(c, &reply, sizeof(reply.length) + reply.length) < 0)
				break;
		}
		close(c);
	}
	return 1;
}
