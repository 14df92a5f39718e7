// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * mute-fuse FOLDER: mounts a FUSE file system there that never answers, and stays.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = open("/dev/fuse", O_RDWR);
	char options[80];

	if (argc != 2 || fd < 0) {
		perror("/dev/fuse");
		return 1;
	}
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("mute", argv[1], "fuse.mute", 0, options)) {
		perror(argv[1]);
		return 1;
	}
	for (;;)
		pause();
}
