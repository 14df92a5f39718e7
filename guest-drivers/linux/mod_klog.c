// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module klog: records of the kernel's log, by the interface for those who dump it in a panic: it takes no lock that a
 * sick kernel might hold, and allocates nothing.
 */
#include <linux/kmsg_dump.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include "klog_text.h"
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

#define KLOG_LINE_MAX		4096
#define KLOG_LAST_DEFAULT	64

static char klog_line[KLOG_LINE_MAX];	/* the server thread's own */

static void klog_record(struct rvmrpc_record_writer *w, u64 seq, size_t length)
{
	struct klog_prefix prefix;

	klog_line[length] = '\0';
	rvmrpc_record_begin(w, RVMRPC_RECORD_LOG);
	rvmrpc_record_u64(w, RVMRPC_LOG_SEQ, seq);
	if (klog_prefix_read(klog_line, &prefix)) {
		rvmrpc_record_u64(w, RVMRPC_LOG_LEVEL, prefix.priority & 7);
		rvmrpc_record_u64(w, RVMRPC_LOG_FACILITY, prefix.priority >> 3);
		if (prefix.has_time)
			rvmrpc_record_u64(w, RVMRPC_LOG_TIME_NS, prefix.us * NSEC_PER_USEC);
		length = klog_strip(klog_line, length, prefix.length);
	}
	rvmrpc_record_string(w, RVMRPC_LOG_TEXT, klog_line, length);
}

/* From where on: what there is begins at iter's record, after the last clearing. */
static void klog_seek(struct rvmrpc_kmsg_iter *iter, const struct rvmrpc_records_req *wanted)
{
	u64 last = wanted->limit ?: KLOG_LAST_DEFAULT;

	if (wanted->select == RVMRPC_KLOG_FROM)
		iter->cur_seq = max(iter->cur_seq, wanted->cursor);
	else if (iter->next_seq > last)
		iter->cur_seq = max(iter->cur_seq, iter->next_seq - last);
}

int rvmrpc_os_klog_read(struct rvmrpc_record_writer *w, u32 ms)
{
	struct rvmrpc_kmsg_iter iter = { .cur_seq = 0 };
	u64 end, next;
	size_t length;

	rvmrpc_kmsg_begin(&iter);
	/* No further: it may grow faster than it is read. */
	end = iter.next_seq;
	klog_seek(&iter, &w->wanted);
	next = min(iter.cur_seq, end);
	while (next < end && kmsg_dump_get_line(&iter, true, klog_line, KLOG_LINE_MAX - 1, &length)) {
		klog_record(w, iter.cur_seq - 1, length);
		if (!rvmrpc_record_end(w, iter.cur_seq - 1))
			break;
		next = iter.cur_seq;
	}
	rvmrpc_records_later(w, next);
	return RVMRPC_STATUS_OK;
}

int rvmrpc_mod_klog_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_klog_module);
}

void rvmrpc_mod_klog_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_klog_module);
}
