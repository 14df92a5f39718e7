/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module klog: lines of the kernel's message buffer, whose own lock is held for
 * a copy only.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_log.h"
#include <sys/msgbuf.h>
#include <sys/syslog.h>

#define	KLOG_LAST_DEFAULT	64
#define	KLOG_TRIES		3	/* of a log that outruns its reader */

/* The server thread's own. */
static struct rvmrpc_log_reader klog_reader;
static struct rvmrpc_log_count klog_count;

static uint32_t
klog_peek(char *buf, uint32_t size, uint32_t *seq)
{
	return (msgbuf_peekbytes(msgbufp, buf, size, seq));
}

static void
klog_rewind(void)
{
	uint32_t seq;

	msgbuf_peekbytes(msgbufp, NULL, 0, &seq);
	rvmrpc_log_begin(&klog_reader, klog_peek, msgbufp->msg_seqmod, seq,
	    !rvmrpc_msgbuf_wraps(msgbufp));
}

static void
klog_record(struct rvmrpc_record_writer *w, uint64_t number)
{
	const struct rvmrpc_log_reader *r = &klog_reader;
	uint32_t prefix, priority = LOG_KERN;

	prefix = rvmrpc_log_prefix(r->line, r->length, &priority);
	rvmrpc_record_begin(w, RVMRPC_RECORD_LOG);
	rvmrpc_record_u64(w, RVMRPC_LOG_SEQ, number);
	if (prefix != 0)
		rvmrpc_record_u64(w, RVMRPC_LOG_LEVEL, LOG_PRI(priority));
	rvmrpc_record_u64(w, RVMRPC_LOG_FACILITY, LOG_FAC(priority));
	rvmrpc_record_string(w, RVMRPC_LOG_TEXT, r->line + prefix,
	    r->length - prefix);
}

/* Number of the first line that is wanted; first: of those in the buffer. */
static uint64_t
klog_seek(const struct rvmrpc_records_req *wanted, uint64_t first)
{
	uint64_t last = wanted->limit != 0 ? wanted->limit : KLOG_LAST_DEFAULT;
	uint64_t lines = klog_count.next - first;

	if (wanted->select == RVMRPC_KLOG_FROM)
		return (wanted->cursor);
	return (lines > last ? klog_count.next - last : first);
}

/* False: overwritten meanwhile; then some of it may be in the answer. */
static bool
klog_lines(struct rvmrpc_record_writer *w)
{
	uint64_t number, from;

	klog_rewind();
	if (!rvmrpc_log_number(&klog_count, &klog_reader, &number))
		return (false);
	from = klog_seek(&w->wanted, number);
	klog_rewind();
	/* No further: it may grow faster than it is read. */
	while (number < klog_count.next && rvmrpc_log_line(&klog_reader)) {
		if (number >= from) {
			klog_record(w, number);
			if (!rvmrpc_record_end(w, number))
				return (true);
		}
		number++;
	}
	if (klog_reader.torn && w->head.count != 0)
		rvmrpc_records_more(w, number);
	return (!klog_reader.torn);
}

int
rvmrpc_os_klog_read(struct rvmrpc_record_writer *w, uint32_t ms)
{
	int tries = KLOG_TRIES;

	while (!klog_lines(w) && w->head.count == 0)
		if (--tries == 0)
			return (RVMRPC_STATUS_BUSY);
	rvmrpc_records_later(w, klog_count.next);
	return (RVMRPC_STATUS_OK);
}

int
rvmrpc_mod_klog_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_klog_module));
}

void
rvmrpc_mod_klog_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_klog_module);
}
