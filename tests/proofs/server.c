// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest half's registry and dispatch, whatever header comes, and whatever a procedure returns. */
#include "proof.h"
#include "rvmrpc_server.c"

#ifndef TEXT
#define TEXT 4
#endif

static uint32_t ran, ran_length;

static int any_procedure(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	uint32_t reslen;
	int status;

	claim(!req->arglen || proof_ok(req->arg, req->arglen));
	claim(!res->resmax || proof_ok(res->res, res->resmax));
	ran++;
	ran_length = req->arglen;
	res->reslen = reslen;
	return status;
}

/* PROOF unwind 2 --no-sat-preprocessor --reachability-slice */
void prove_judge(void)
{
	struct rvmrpc_procedure proc;
	struct rvmrpc_accepted a;
	struct rvmrpc_module m;
	struct rvmrpc_hdr hdr, reply;
	struct rvmrpc_lookup l;
	uint32_t req_bytes, res_bytes;
	uint64_t epoch;
	uint16_t abi;
	bool known, has;

	assume(req_bytes <= RVMRPC_SLOT_BYTES_MAX && res_bytes <= RVMRPC_SLOT_BYTES_MAX);
	proof_window_bytes = req_bytes;
	proof_answers_bytes = res_bytes;
	proc.handler = has ? any_procedure : NULL;
	m.dispatch = any_procedure;
	l.module = known || l.status == RVMRPC_STATUS_OK ? &m : NULL;
	l.proc = known ? &proc : NULL;
	if (!rvmrpc_server_judge(&l, &hdr, epoch, abi, req_bytes, &a))
		return;
	claim(epoch && hdr.epoch == epoch && hdr.xid && hdr.magic == RVMRPC_CALL_MAGIC && hdr.abi == abi && !hdr.flags &&
	      !hdr.status && !hdr.reserved2);
	rvmrpc_server_run(&a, proof_window, proof_answers, res_bytes, &reply);
	if (ran) {
		claim(ran == 1 && l.status == RVMRPC_STATUS_OK && hdr.timeout_ms && ran_length <= req_bytes);
		claim(implies(hdr.list, hdr.list == l.list) && implies(hdr.version, hdr.version == l.version));
		claim(implies(known, ran_length >= proc.arg_min && ran_length <= proc.arg_max));
	}
	claim(reply.length <= res_bytes && implies(reply.status != RVMRPC_STATUS_OK, !reply.length));
	claim(implies(ran, RVMRPC_STATUS_IS_GUESTS(reply.status)));
	claim(reply.magic == hdr.magic && reply.epoch == epoch && reply.xid == hdr.xid && reply.module == hdr.module &&
	      reply.procedure == hdr.procedure && reply.version == l.version);
	reached();
}

/* ---- The allow-list ---- */

/* An item, or what is none, is read up to the end of its text and no further. */
/* PROOF unwind 6, text_length.0:9 */
void prove_item(void)
{
	struct allow_item item;
	char text[TEXT + 1];
	uint32_t n, end;
	bool good;

	text[TEXT] = '\0';
	good = parse_item(text, &item, &n);
	end = text_length(text);
	claim(n <= end && implies(good, n && item_ends(text[n])));
	claim(implies(good && item.module.kind == PART_NAME, item.module.length && item.module.length < n));
	reached();
}

/* PROOF full unwind 5 -DTEXT=2, text_length.0:9 */
void prove_normal_form(void)
{
	uint32_t length = 0, bad = 0;
	char text[TEXT + 1];

	text[TEXT] = '\0';
	if (normalize(text, NULL, &length, &bad))
		claim(length <= text_length(text));
	else
		claim(bad <= text_length(text));
	reached();
}

/* PROOF unwind 13 */
void prove_number(void)
{
	uint32_t number, length;
	char text[12];

	text[11] = '\0';
	length = parse_number(text, &number);
	claim(length <= 11);
	reached();
}

/* ---- Answers ---- */

/* PROOF unwind 7, text_length.0:9 */
void prove_list(void)
{
	static const struct rvmrpc_procedure procs[] = { { .number = 1, .name = "c" }, { .number = 2, .name = "d-0" } };
	static struct rvmrpc_module m = { .number = 7, .name = "ab", .procs = procs, .nprocs = 2 };
	static struct rvmrpc_server s = { .modules = { &m }, .nmodules = 1, .allow = "none" };
	uint32_t first, bytes;

	proof_answers_bytes = bytes;
	claim(rvmrpc_server_list(&s, first, proof_answers, bytes) <= bytes);
	reached();
}

/* PROOF unwind 2 --no-sat-preprocessor */
void prove_info(void)
{
	uint32_t text_max, index, length, raw, resmax;
	struct rvmrpc_info_writer w;
	struct rvmrpc_response res;
	uint64_t value;
	uint16_t key;
	char text[32], from[32];

	assume(text_max <= sizeof(text) && resmax <= RVMRPC_SLOT_BYTES_MAX);
	assume(length <= sizeof(from) || length > text_max);
	proof_answers_bytes = resmax;
	res.res = proof_answers;
	res.resmax = resmax;
	rvmrpc_info_begin(&w, &res, text, text_max);
	rvmrpc_info_raw(&w, raw);
	rvmrpc_info_u64(&w, key, index, value);
	rvmrpc_info_string(&w, key, index, from, length);
	if (rvmrpc_info_end(&w, &res) == RVMRPC_STATUS_OK)
		claim(res.reslen <= resmax);
	reached();
}
