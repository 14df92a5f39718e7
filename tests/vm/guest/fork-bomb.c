// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * fork-bomb SECONDS: processes that do nothing but make others, each until the time is over.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

int main(int argc, char **argv)
{
	time_t end = now() + (argc > 1 ? atoi(argv[1]) : 1);

	while (now() < end)
		/* Each that fails leaves memory that the kernel frees later: 600 processes with less patience fill 200 MiB. */
		if (fork() < 0)
			usleep(200000);
	return 0;
}
