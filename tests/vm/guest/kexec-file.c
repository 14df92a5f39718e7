// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kexec-file [-p] KERNEL INITRD WORDS: starts another kernel, with the devices as they are. Drivers are shut down before, as
 * in a reboot; firmware sees nothing of it. With -p it is started when this one panics, and nothing is shut down. Busybox has
 * no kexec.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	bool crash = argc > 1 && !strcmp(argv[1], "-p");
	int kernel, initrd;

	argc -= crash;
	argv += crash;
	if (argc != 4) {
		fprintf(stderr, "usage: kexec-file [-p] KERNEL INITRD WORDS\n");
		return 2;
	}
	kernel = open(argv[1], O_RDONLY | O_CLOEXEC);
	initrd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (kernel < 0 || initrd < 0 ||
	    syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3],
		    crash ? (unsigned long)KEXEC_FILE_ON_CRASH : 0UL)) {
		perror("kexec-file");
		return 1;
	}
	if (crash)
		return 0;
	sync();
	reboot(LINUX_REBOOT_CMD_KEXEC);
	perror("kexec-file: reboot");
	return 1;
}
