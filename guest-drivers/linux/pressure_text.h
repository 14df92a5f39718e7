/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What module pressure makes of this kernel's texts.  No kernel is needed here, so tests/unit runs it in user space.
 */
#ifndef PRESSURE_TEXT_H
#define PRESSURE_TEXT_H

#include "sysinfo_text.h"

#define PRESSURE_AVERAGES	3

struct pressure_psi {
	u64 average[PRESSURE_AVERAGES];	/* hundredths of a percent */
	u64 total;			/* us */
};

/* The number behind the next '=' of the line; NULL: there is none. */
static inline const char *pressure_value(const char *at, u64 *value)
{
	while (*at && *at != '\n' && *at != '=')
		at++;
	return *at == '=' ? sysinfo_number(at + 1, value) : NULL;
}

/* "some avg10=0.12 avg60=0.00 avg300=0.00 total=4711". */
static inline bool pressure_psi_read(const char *line, struct pressure_psi *psi)
{
	u64 whole, hundredths;
	int i;

	for (i = 0; i < PRESSURE_AVERAGES; i++) {
		line = pressure_value(line, &whole);
		if (!line || *line != '.')
			return false;
		line = sysinfo_number(line + 1, &hundredths);
		psi->average[i] = whole * 100 + hundredths;
	}
	return pressure_value(line, &psi->total);
}

/* Numbers of a line of diskstats, in its order. */
enum pressure_disk {
	PRESSURE_READS, PRESSURE_READS_MERGED, PRESSURE_READ_SECTORS, PRESSURE_READ_MS,
	PRESSURE_WRITES, PRESSURE_WRITES_MERGED, PRESSURE_WRITE_SECTORS, PRESSURE_WRITE_MS,
	PRESSURE_IN_FLIGHT, PRESSURE_BUSY_MS, PRESSURE_QUEUE_MS,
	PRESSURE_DISCARDS, PRESSURE_DISCARDS_MERGED, PRESSURE_DISCARD_SECTORS, PRESSURE_DISCARD_MS,
	PRESSURE_FLUSHES, PRESSURE_FLUSH_MS, PRESSURE_DISK_NUMBERS
};

struct pressure_disk_line {
	u64 major, minor;
	const char *name;
	size_t name_length;
	u64 number[PRESSURE_DISK_NUMBERS];
	int numbers;			/* that are there: kernels add some */
};

/* " 254       0 vda 100 0 4711 ..."; false: it is none. */
static inline bool pressure_disk_read(const char *line, struct pressure_disk_line *disk)
{
	const char *at = sysinfo_number(sysinfo_number(line, &disk->major), &disk->minor);

	while (*at == ' ')
		at++;
	disk->name = at;
	while (*at && *at != ' ' && *at != '\n')
		at++;
	disk->name_length = at - disk->name;
	for (disk->numbers = 0; *at == ' ' && disk->numbers < PRESSURE_DISK_NUMBERS; disk->numbers++)
		at = sysinfo_number(at, &disk->number[disk->numbers]);
	return disk->name_length && disk->numbers > PRESSURE_QUEUE_MS;
}

#endif /* PRESSURE_TEXT_H */
