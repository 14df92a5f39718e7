/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, host half: reads answers that are lists of records (struct rvmrpc_records).
 *
 * They are a guest's words: pass a private copy.  Every length is checked before it is used, so that no answer makes a
 * reader look outside of its bytes; what is not known is the caller's to skip.  Allocates nothing.
 *
 *	if (!rvmrpc_reader_open(&r, answer, bytes))
 *		malformed
 *	while (rvmrpc_reader_record(&r))
 *		while (rvmrpc_reader_field(&r))
 *			r.kind, r.key, r.type, r.u64 or r.value and r.length
 */
#ifndef RVMRPC_READER_H
#define RVMRPC_READER_H

#include "rvmrpc_os.h"
#include "rvmrpc_abi.h"

struct rvmrpc_reader {
	struct rvmrpc_records head;
	const unsigned char *at, *end;			/* of the records that are left */
	const unsigned char *field_at, *field_end;	/* of the record's fields that are left */
	bool malformed;

	/* The record. */
	uint16_t kind;
	/* The field. */
	uint16_t key;
	uint16_t type;
	uint32_t length;
	uint64_t u64;			/* type U64: its value, else 0 */
	const unsigned char *value;	/* length bytes; not aligned, not NUL-terminated */
};

/* False unless the whole answer is well formed: then r is at its beginning, and neither of the others fails. */
bool rvmrpc_reader_open(struct rvmrpc_reader *r, const void *answer, size_t bytes);

/* The same of one record without a head, of at most so many bytes: r is at its first field. */
bool rvmrpc_reader_open_one(struct rvmrpc_reader *r, const void *record, size_t bytes);

/* Goes to the next record, and there to the next field.  False: there is none. */
bool rvmrpc_reader_record(struct rvmrpc_reader *r);
bool rvmrpc_reader_field(struct rvmrpc_reader *r);

#endif /* RVMRPC_READER_H */
