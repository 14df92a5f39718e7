/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What module klog makes of this kernel's texts.  No kernel is needed here, so tests/unit runs it in user space.
 */
#ifndef KLOG_TEXT_H
#define KLOG_TEXT_H

#include "sysinfo_text.h"

struct klog_prefix {
	u64 priority;		/* facility << 3 | level */
	u64 us;
	bool has_time;
	size_t length;		/* of the prefix, the same on each line of a record */
};

/* "[   12.345678]" */
static inline const char *klog_time(const char *at, struct klog_prefix *p)
{
	u64 seconds, us;
	const char *end = sysinfo_number(at + 1, &seconds);

	if (*end != '.')
		return at;
	end = sysinfo_number(end + 1, &us);
	if (*end != ']')
		return at;
	p->us = seconds * 1000000 + us;
	p->has_time = true;
	return end + 1;
}

/* "<6>", then perhaps a time, then perhaps "[    T1]", the caller, and a blank if there was either. */
static inline bool klog_prefix_read(const char *line, struct klog_prefix *p)
{
	const char *at, *end;

	p->has_time = false;
	if (*line != '<')
		return false;
	at = sysinfo_number(line + 1, &p->priority);
	if (*at != '>')
		return false;
	end = ++at;
	if (*end == '[')
		end = klog_time(end, p);
	/* A caller stands behind a time only in what a kernel writes; a text may begin so, too. */
	if (p->has_time && *end == '[') {
		end = strchrnul(end, ']');
		end += *end == ']';
	}
	if (p->has_time)
		at = end + (*end == ' ');
	p->length = at - line;
	return true;
}

/* Takes the prefix from each line of a record, and the last newline; returns what is left. */
static inline size_t klog_strip(char *text, size_t length, size_t prefix)
{
	size_t from = 0, to = 0, line;

	while (from < length) {
		line = strchrnul(text + from, '\n') - (text + from) + 1;
		if (line > length - from)
			line = length - from;
		if (prefix > line)
			prefix = line;
		memmove(text + to, text + from + prefix, line - prefix);
		to += line - prefix;
		from += line;
	}
	return to && text[to - 1] == '\n' ? to - 1 : to;
}

#endif /* KLOG_TEXT_H */
