// SPDX-License-Identifier: GPL-2.0-or-later
/* Lists of records: any bytes for the reader, any room and content for the writer. */
#include "proof.h"
#include "rvmrpc_reader.c"
#include "rvmrpc_records.c"

#ifndef WORDS
#define WORDS 1
#endif

/* ---- The reader: one step in bytes of any number ---- */

#define ANSWER_MAX	0x100000

/* Somewhere in an answer, after any number of steps. */
static void any_reader(struct rvmrpc_reader *r)
{
	size_t bytes, at, field_at, field_end;
	unsigned char *answer;

	assume(bytes <= ANSWER_MAX);
	answer = malloc(bytes);
	assume(answer && at <= bytes && field_at <= field_end && field_end <= at);
	assume((field_end - field_at) % RVMRPC_RECORD_ALIGN == 0 && (bytes - at) % RVMRPC_RECORD_ALIGN == 0);
	r->at = answer + at;
	r->end = answer + bytes;
	r->field_at = answer + field_at;
	r->field_end = answer + field_end;
}

/* PROOF unwind 2 */
void prove_record(void)
{
	struct rvmrpc_reader r, was;

	any_reader(&r);
	was = r;
	if (rvmrpc_reader_record(&r))
		claim(r.at > was.at && r.field_at > was.at && r.field_end == r.at);
	claim(r.at >= was.at && r.at <= r.end && r.end == was.end && (r.end - r.at) % RVMRPC_RECORD_ALIGN == 0);
	claim(r.field_at <= r.field_end && r.field_end <= r.at && (r.field_end - r.field_at) % RVMRPC_RECORD_ALIGN == 0);
	reached();
}

/* PROOF unwind 2 */
void prove_field(void)
{
	struct rvmrpc_reader r, was;

	any_reader(&r);
	was = r;
	if (rvmrpc_reader_field(&r)) {
		claim(r.field_at > was.field_at && r.value > was.field_at && r.value + r.length <= r.field_at);
		claim(implies(r.type == RVMRPC_FIELD_U64, r.length == 8));
	}
	claim(r.field_at <= r.field_end && (r.field_end - r.field_at) % RVMRPC_RECORD_ALIGN == 0);
	reached();
}

/* A whole answer. */
/* PROOF unwind 3 -DWORDS=1 full unwind 4 -DWORDS=2 */
void prove_open(void)
{
	struct rvmrpc_reader r;
	unsigned char answer[sizeof(struct rvmrpc_records) + WORDS * RVMRPC_RECORD_ALIGN];
	size_t bytes;

	assume(bytes <= sizeof(answer));
	if (!rvmrpc_reader_open(&r, answer, bytes))
		return;
	claim(r.end == answer + bytes && !r.malformed);
	if (rvmrpc_reader_record(&r))
		while (rvmrpc_reader_field(&r))
			claim(r.value + r.length <= r.end);
	claim(!r.malformed);
	reached();
}

/* ---- The writer ---- */

static unsigned char room[256];

static void any_writer(struct rvmrpc_record_writer *w, struct rvmrpc_response *res)
{
	assume(res->resmax <= sizeof(room) && res->resmax >= sizeof(w->head));
	res->res = room;
	w->res = res;
	assume(w->used >= sizeof(w->head) && w->used <= res->resmax && w->used % RVMRPC_RECORD_ALIGN == 0);
	assume(w->head.count < UINT32_MAX);
	rvmrpc_record_begin(w, w->kind);
	claim(w->overflow || w->at <= res->resmax);
	if (!w->overflow)
		assume(w->at >= w->used + sizeof(struct rvmrpc_record_hdr) && w->at <= res->resmax &&
		       w->at - w->used <= RECORD_MAX && w->at % RVMRPC_RECORD_ALIGN == 0);
}

/* PROOF unwind 2 */
void prove_writer(void)
{
	struct rvmrpc_record_writer w;
	struct rvmrpc_response res;
	uint16_t key;
	uint64_t value, cursor;
	uint32_t at, used;
	bool done;

	any_writer(&w, &res);
	at = w.at;
	rvmrpc_record_u64(&w, key, value);
	claim(w.overflow || (w.at == at + 16 && w.at <= res.resmax && w.at - w.used <= RECORD_MAX));
	used = w.used;
	done = rvmrpc_record_end(&w, cursor);
	claim(w.used == (done ? w.at : used) && w.used <= res.resmax);
	if (rvmrpc_records_end(&w) == RVMRPC_STATUS_OK)
		claim(res.reslen <= res.resmax && res.reslen == w.used);
	reached();
}

/* PROOF unwind 2 */
void prove_writer_text(void)
{
	struct rvmrpc_record_writer w;
	struct rvmrpc_response res;
	size_t length, there;
	char text[48];
	uint16_t key;

	any_writer(&w, &res);
	/* What is over the room must not be read either. */
	there = length < sizeof(text) ? length : sizeof(text);
	assume(length <= there || length > res.resmax);
	rvmrpc_record_string(&w, key, text, length);
	claim(w.overflow || (w.at <= res.resmax && w.at - w.used <= RECORD_MAX && w.at % RVMRPC_RECORD_ALIGN == 0));
	reached();
}

/* PROOF unwind 2 */
void prove_request(void)
{
	struct rvmrpc_record_writer w;
	struct rvmrpc_response res;
	struct rvmrpc_request req;
	uint32_t select_max;

	proof_window_bytes = req.arglen;
	req.arg = proof_window;
	if (rvmrpc_records_begin(&w, &req, &res, select_max) == RVMRPC_STATUS_OK)
		claim(w.wanted.select <= select_max && w.used <= res.resmax && w.res == &res);
	reached();
}
