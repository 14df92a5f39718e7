/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The contract is in rvmrpc_log.h.
 */
#include "rvmrpc_log.h"

#define	LOG_FIRST	1	/* number of the first line */
#define	LOG_PRIORITY_MAX 1023	/* facility << 3 | level */

void
rvmrpc_log_begin(struct rvmrpc_log_reader *r, rvmrpc_log_peek_fn peek,
    uint32_t modulus, uint32_t seq, bool whole)
{
	r->peek = peek;
	r->modulus = modulus;
	r->seq = seq;
	r->at = 0;
	r->have = 0;
	r->whole = whole;
	r->torn = false;
}

static uint32_t
log_seq(const struct rvmrpc_log_reader *r)
{
	return ((r->seq + r->modulus - (r->have - r->at)) % r->modulus);
}

/* False: at the end, or torn. */
static bool
log_fill(struct rvmrpc_log_reader *r)
{
	uint32_t before = r->seq;

	r->at = 0;
	r->have = r->peek(r->buf, sizeof(r->buf), &r->seq);
	r->torn = (before + r->have) % r->modulus != r->seq;
	return (r->have != 0 && !r->torn);
}

/*
 * To where a line begins: behind what was never written, which is NULs, or
 * behind the end of one whose beginning was overwritten.
 */
static bool
log_skip_broken(struct rvmrpc_log_reader *r)
{
	bool unwritten = false;
	char c;

	while (!r->whole) {
		if (r->at == r->have && !log_fill(r))
			return (false);
		c = r->buf[r->at];
		if (unwritten && c != '\0')
			break;
		r->at++;
		unwritten = c == '\0';
		r->whole = c == '\n';
	}
	r->whole = true;
	return (true);
}

bool
rvmrpc_log_line(struct rvmrpc_log_reader *r)
{
	char c;

	if (!log_skip_broken(r))
		return (false);
	r->begin = log_seq(r);
	r->length = 0;
	for (;;) {
		if (r->at == r->have && !log_fill(r))
			return (false);
		c = r->buf[r->at++];
		if (c == '\n')
			break;
		if (c != '\r' && c != '\0' && r->length < sizeof(r->line))
			r->line[r->length++] = c;
	}
	r->end = log_seq(r);
	return (true);
}

bool
rvmrpc_log_number(struct rvmrpc_log_count *count, struct rvmrpc_log_reader *r,
    uint64_t *first)
{
	uint32_t end = count->seq;
	uint64_t n = 0, known = 0;
	bool found = false;

	while (rvmrpc_log_line(r)) {
		if (count->next != 0 && r->begin == count->seq) {
			found = true;
			known = n;
		}
		n++;
		end = r->end;
	}
	if (r->torn)
		return (false);
	/* The one that is known is yet to come. */
	if (count->next != 0 && end == count->seq) {
		found = true;
		known = n;
	}
	if (count->next == 0)
		*first = LOG_FIRST;
	else if (found)
		*first = count->next - known;
	else
		*first = count->next + 1;
	if (n != 0) {
		count->next = *first + n;
		count->seq = end;
	}
	return (true);
}

uint32_t
rvmrpc_log_prefix(const char *line, uint32_t length, uint32_t *priority)
{
	uint32_t at, value = 0;

	if (length < 3 || line[0] != '<')
		return (0);
	for (at = 1; at < length && line[at] >= '0' && line[at] <= '9'; at++) {
		value = 10 * value + (line[at] - '0');
		if (value > LOG_PRIORITY_MAX)
			return (0);
	}
	if (at == 1 || at == length || line[at] != '>')
		return (0);
	*priority = value;
	return (at + 1);
}
