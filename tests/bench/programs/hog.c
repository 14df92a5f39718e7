// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bench_hog cpu: computes for ever. bench_hog memory KIB: takes memory until that little is available, and keeps writing it.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK	(1 << 20)
#define CHUNKS	4096

static unsigned long available_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kib = 0;
	char text[128];

	if (!f)
		err(1, "/proc/meminfo");
	while (fgets(text, sizeof(text), f)) {
		if (sscanf(text, "MemAvailable: %lu", &kib) == 1)
			break;
	}
	fclose(f);
	return kib;
}

static void use_memory(unsigned long leave)
{
	static char *chunks[CHUNKS];
	int i, n = 0;

	for (;;) {
		if (n < CHUNKS && available_kib() > leave + CHUNK / 1024) {
			char *p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (p != MAP_FAILED)
				chunks[n++] = p;
		}
		for (i = n > 8 ? n - 8 : 0; i < n; i++)
			memset(chunks[i], n, CHUNK);
	}
}

int main(int argc, char **argv)
{
	volatile unsigned long turns = 0;

	if (argc == 3 && !strcmp(argv[1], "memory"))
		use_memory(strtoul(argv[2], NULL, 10));
	if (argc != 2 || strcmp(argv[1], "cpu"))
		errx(2, "bench_hog cpu | memory KIB");
	for (;;)
		turns++;
}
