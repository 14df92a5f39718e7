/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, host half: reader of records.
 */
#include "rvmrpc_reader.h"

static bool reader_fail(struct rvmrpc_reader *r)
{
	r->malformed = true;
	r->at = r->end;
	r->field_at = r->field_end;
	return false;
}

bool rvmrpc_reader_record(struct rvmrpc_reader *r)
{
	struct rvmrpc_record_hdr record;
	size_t left = (size_t)(r->end - r->at);

	r->field_at = r->field_end;
	if (!left)
		return false;
	if (left < sizeof(record))
		return reader_fail(r);
	memcpy(&record, r->at, sizeof(record));
	if (record.length < sizeof(record) || record.length > left || record.length % RVMRPC_RECORD_ALIGN || record.reserved)
		return reader_fail(r);
	r->kind = record.kind;
	r->field_at = r->at + sizeof(record);
	r->at += record.length;
	r->field_end = r->at;
	return true;
}

bool rvmrpc_reader_field(struct rvmrpc_reader *r)
{
	struct rvmrpc_field field;
	size_t left = (size_t)(r->field_end - r->field_at);

	if (!left)
		return false;
	if (left < sizeof(field))
		return reader_fail(r);
	memcpy(&field, r->field_at, sizeof(field));
	left -= sizeof(field);
	/* left is a multiple of RVMRPC_RECORD_ALIGN, so what pads the value lies within it, too. */
	if (field.length > left || (field.type == RVMRPC_FIELD_U64 && field.length != sizeof(r->u64)))
		return reader_fail(r);
	r->key = field.key;
	r->type = field.type;
	r->length = field.length;
	r->value = r->field_at + sizeof(field);
	r->u64 = 0;
	if (field.type == RVMRPC_FIELD_U64)
		memcpy(&r->u64, r->value, sizeof(r->u64));
	r->field_at = r->value + ((size_t)field.length + RVMRPC_RECORD_ALIGN - 1) / RVMRPC_RECORD_ALIGN * RVMRPC_RECORD_ALIGN;
	return true;
}

static void reader_rewind(struct rvmrpc_reader *r, const void *answer)
{
	r->at = (const unsigned char *)answer + sizeof(r->head);
	r->end = r->at + r->head.length;
	r->field_at = r->end;
	r->field_end = r->end;
}

bool rvmrpc_reader_open(struct rvmrpc_reader *r, const void *answer, size_t bytes)
{
	uint32_t count = 0;

	memset(r, 0, sizeof(*r));
	if (bytes < sizeof(r->head))
		return false;
	memcpy(&r->head, answer, sizeof(r->head));
	if (r->head.length != bytes - sizeof(r->head) || r->head.length % RVMRPC_RECORD_ALIGN || r->head.reserved)
		return false;
	reader_rewind(r, answer);
	while (rvmrpc_reader_record(r)) {
		count++;
		while (rvmrpc_reader_field(r))
			;
	}
	reader_rewind(r, answer);
	return !r->malformed && count == r->head.count;
}

bool rvmrpc_reader_open_one(struct rvmrpc_reader *r, const void *record, size_t bytes)
{
	memset(r, 0, sizeof(*r));
	r->at = record;
	r->end = r->at + bytes;
	if (!rvmrpc_reader_record(r))
		return false;
	while (rvmrpc_reader_field(r))
		;
	r->field_at = (const unsigned char *)record + sizeof(struct rvmrpc_record_hdr);
	return !r->malformed;
}
