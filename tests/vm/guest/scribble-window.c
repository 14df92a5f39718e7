// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * scribble-window RESOURCE SECONDS [OFFSET [US]]: writes random words all over a PCI device's memory, from the guest's user
 * space; with OFFSET there only, as to a register; with US so many microseconds apart.
 *
 * Needs a kernel with iomem=relaxed: the driver has claimed that memory. Prints how many words.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BETWEEN_LOOKS	1024	/* at the clock */

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

int main(int argc, char **argv)
{
	uint64_t state = 88172645463325252ull, words = 0, r;
	volatile uint32_t *memory;
	struct stat st;
	time_t end;
	int fd, i;

	if (argc < 3 || argc > 5)
		errx(2, "usage: scribble-window RESOURCE SECONDS [OFFSET [US]]");
	fd = open(argv[1], O_RDWR);
	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", argv[1]);
	memory = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	end = time(NULL) + atoi(argv[2]);
	for (; argc == 5 && time(NULL) < end; words++, usleep(atoi(argv[4])))
		memory[strtoul(argv[3], NULL, 0) / 4] = (uint32_t)next(&state);
	for (; time(NULL) < end; words += BETWEEN_LOOKS) {
		for (i = 0; i < BETWEEN_LOOKS; i++) {
			r = next(&state);
			if (argc == 4) {
				memory[strtoul(argv[3], NULL, 0) / 4] = (uint32_t)r;
				continue;
			}
			/* Half of them at the pages and slots' headers, which decide most. */
			memory[(r >> 33) % (r & 1 ? st.st_size / 4 : 0x5000 / 4)] = (uint32_t)r;
		}
	}
	printf("%llu words\n", (unsigned long long)words);
	return 0;
}
