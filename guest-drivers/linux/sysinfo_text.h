/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What module sysinfo makes of this kernel's texts.  No kernel is needed here, so tests/unit runs it in user space.
 */
#ifndef SYSINFO_TEXT_H
#define SYSINFO_TEXT_H

/* Bytes of a text's whole lines: the last one may have been cut, in the middle of a number. */
static inline size_t sysinfo_whole(const char *text, size_t length)
{
	while (length && text[length - 1] != '\n')
		length--;
	return length;
}

static inline const char *sysinfo_next_line(const char *line)
{
	line = strchrnul(line, '\n');
	return *line ? line + 1 : line;
}

/* Reads a decimal number after blanks; returns what follows it. */
static inline const char *sysinfo_number(const char *at, u64 *value)
{
	*value = 0;
	while (*at == ' ')
		at++;
	while (*at >= '0' && *at <= '9')
		*value = *value * 10 + (*at++ - '0');
	return at;
}

enum sysinfo_stat {
	SYSINFO_USER, SYSINFO_NICE, SYSINFO_SYSTEM, SYSINFO_IDLE, SYSINFO_IOWAIT, SYSINFO_IRQ, SYSINFO_SOFTIRQ,
	SYSINFO_STEAL, SYSINFO_STATS
};

/* "cpu3 user nice ..." or "cpu user nice ...", for all: then *index is as it was. */
static inline void sysinfo_stat_read(const char *line, u32 *index, u64 ticks[SYSINFO_STATS])
{
	u64 number;
	int i;

	line += strlen("cpu");
	if (*line != ' ') {
		line = sysinfo_number(line, &number);
		*index = number;
	}
	for (i = 0; i < SYSINFO_STATS; i++)
		line = sysinfo_number(line, &ticks[i]);
}

#endif /* SYSINFO_TEXT_H */
