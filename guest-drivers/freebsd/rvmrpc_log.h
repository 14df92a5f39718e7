/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Lines out of a message buffer, and numbers for them.  FreeBSD's is a ring of
 * bytes.  No kernel is needed here, so tests/unit runs it in user space.
 */
#ifndef RVMRPC_LOG_H
#define	RVMRPC_LOG_H

#include "rvmrpc_server.h"

#define	RVMRPC_LOG_LINE_MAX	1024	/* what is longer is cut */
#define	RVMRPC_LOG_CHUNK	512

/*
 * Copies from *seq on and moves it behind what was copied, as
 * msgbuf_peekbytes() does; when that is overwritten, from the oldest byte on.
 * Returns how many bytes, 0 at the end.
 */
typedef uint32_t (*rvmrpc_log_peek_fn)(char *buf, uint32_t size,
	    uint32_t *seq);

struct rvmrpc_log_reader {
	rvmrpc_log_peek_fn peek;
	uint32_t	modulus;	/* of sequence numbers */
	uint32_t	seq;		/* of the byte behind buf */
	uint32_t	at, have;	/* in buf */
	bool		whole;		/* the next byte begins a line */
	bool		torn;		/* bytes were overwritten meanwhile */
	char		buf[RVMRPC_LOG_CHUNK];
	uint32_t	begin;		/* of the line, */
	uint32_t	end;		/* and behind it: sequence numbers */
	uint32_t	length;		/* without its newline */
	char		line[RVMRPC_LOG_LINE_MAX];
};

/* Which number a line has, from one look to the next; zero at first. */
struct rvmrpc_log_count {
	uint64_t	next;		/* number of the next line; 0: none yet */
	uint32_t	seq;		/* where it will begin */
};

/* seq: of the oldest byte.  whole: a line begins there, for sure. */
void	rvmrpc_log_begin(struct rvmrpc_log_reader *r, rvmrpc_log_peek_fn peek,
	    uint32_t modulus, uint32_t seq, bool whole);

/* Goes to the next whole line.  False: there is none, or r->torn. */
bool	rvmrpc_log_line(struct rvmrpc_log_reader *r);

/*
 * Counts the lines.  *first: number of the first.  What was lost since the
 * last look makes a gap, of one number, as nobody knows how many lines it was.
 * False: torn.
 */
bool	rvmrpc_log_number(struct rvmrpc_log_count *count,
	    struct rvmrpc_log_reader *r, uint64_t *first);

/*
 * "<6>text": returns the length of what stands before the text, 0 for what the
 * kernel printed without a level.
 */
uint32_t rvmrpc_log_prefix(const char *line, uint32_t length,
	    uint32_t *priority);

#endif /* RVMRPC_LOG_H */
