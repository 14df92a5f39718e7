// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bounded MASK COMMAND...: runs a command whose capabilities are at most those of the mask (hexadecimal), as a unit's
 * CapabilityBoundingSet= has it.
 */
#include <err.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	unsigned long long mask;
	int cap;

	if (argc < 3)
		errx(2, "usage: bounded MASK COMMAND...");
	mask = strtoull(argv[1], NULL, 16);
	for (cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		if (!(mask >> cap & 1) && prctl(PR_CAPBSET_DROP, cap))
			err(1, "capability %d", cap);
	}
	execvp(argv[2], argv + 2);
	err(1, "%s", argv[2]);
}
