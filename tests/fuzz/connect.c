/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Module connect: any text of connect_allow= is refused, or taken and allows what it says; any requests, on sockets that take
 * and give what they like, keep to their memory and to the order of the stream.
 */
#include "rvmrpc_connect.h"
#include "input.h"

#define ROOM	64

static struct input in;
static struct rvmrpc_connect_rules rules;
static struct rvmrpc_connection conn;
static uint64_t os_sent, os_base, os_have;	/* bytes that the socket took, has let go, and has */

bool rvmrpc_os_connect_allowed(const uint8_t address[16], uint16_t port)
{
	return rvmrpc_connect_rules_allow(&rules, address, port);
}

int rvmrpc_os_connect_open(const struct rvmrpc_connect_open_req *wanted, uint32_t *failed)
{
	CHECK(wanted->session && wanted->connection && wanted->port);
	*failed = input_u8(&in) % 8;
	return RVMRPC_STATUS_OK;
}

struct rvmrpc_connection *rvmrpc_os_connect_get(uint64_t session, uint32_t number)
{
	return session == 1 && number == 1 ? &conn : NULL;
}

void rvmrpc_os_connect_put(struct rvmrpc_connection *c)
{
	CHECK(c == &conn);
}

uint32_t rvmrpc_os_connect_send(struct rvmrpc_connection *c, const void *data, uint32_t length, uint32_t *taken)
{
	const uint8_t *byte = data;
	uint32_t i;

	CHECK(!c->finished && !c->failed);
	*taken = input_u8(&in) % (length + 1);
	/* Each byte is its place's. */
	for (i = 0; i < *taken; i++)
		CHECK(byte[i] == (uint8_t)(os_sent + i));
	os_sent += *taken;
	return input_u8(&in) ? RVMRPC_CONNECT_FAILED_NOT : RVMRPC_CONNECT_BROKEN;
}

void rvmrpc_os_connect_finish(struct rvmrpc_connection *c)
{
	CHECK(!c->finished);
}

uint32_t rvmrpc_os_connect_recv(struct rvmrpc_connection *c, uint64_t drop, void *to, uint32_t *length, bool *ended)
{
	(void)c;
	CHECK(drop <= os_have);
	os_base += drop;
	os_have -= drop;
	os_have += input_u8(&in);
	if (*length > os_have)
		*length = (uint32_t)os_have;
	memset(to, (uint8_t)os_base, *length);
	*ended = !*length && input_u8(&in) == 1;
	return input_u8(&in) == 2 ? RVMRPC_CONNECT_BROKEN : RVMRPC_CONNECT_FAILED_NOT;
}

void rvmrpc_os_connect_close(uint64_t session, uint32_t number, bool reset)
{
	(void)number;
	(void)reset;
	CHECK(session);
}

int rvmrpc_os_connect_wait(uint64_t xid, uint64_t session, uint32_t ms, struct rvmrpc_connect_ready *to, uint32_t max,
			   uint32_t *n)
{
	(void)xid;
	CHECK(session && ms <= 1000 && max);
	memset(to, 1, max * sizeof(*to));
	*n = max;
	return input_u8(&in) ? RVMRPC_STATUS_OK : RVMRPC_STATUS_BUSY;
}

static void try_rules(void)
{
	char text[ROOM];
	uint8_t address[16];
	uint32_t bad = 0;
	int status;

	input_bytes(&in, text, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	status = rvmrpc_connect_rules_set(&rules, text, &bad);
	CHECK(status == RVMRPC_STATUS_OK || bad <= strlen(text));
	CHECK(rules.n <= RVMRPC_CONNECT_RULES_MAX);
	input_bytes(&in, address, sizeof(address));
	/* Nothing is allowed by no rule. */
	if (rvmrpc_connect_rules_allow(&rules, address, (uint16_t)input_u32(&in)))
		CHECK(rules.n);
}

/* In memory of exactly its size. */
static void call(uint32_t number, const void *arg, uint32_t length, uint32_t room)
{
	const struct rvmrpc_procedure *proc = &rvmrpc_connect_module.procs[number];
	void *copy = malloc(length), *to = malloc(room + 1);
	struct rvmrpc_request req = { .arg = copy, .arglen = length, .timeout_ms = 1000 };
	struct rvmrpc_response res = { .resmax = room, .res = to };
	int status;

	CHECK(copy && to && length >= proc->arg_min && length <= proc->arg_max);
	memcpy(copy, arg, length);
	status = proc->handler(&req, &res);
	CHECK(status != RVMRPC_STATUS_OK || res.reslen <= room);
	CHECK(conn.sent == os_sent && conn.received <= os_base + os_have);
	free(copy);
	free(to);
}

static void try_call(void)
{
	struct {
		struct rvmrpc_connect_req req;
		uint8_t bytes[ROOM];
	} arg = { .req = { .session = 1, .connection = 1 } };
	uint32_t number = input_u8(&in) % 5, length = number == RVMRPC_CONNECT_SEND ? input_u8(&in) % ROOM : 0, i;
	const struct rvmrpc_procedure *proc = &rvmrpc_connect_module.procs[number];

	if (number == RVMRPC_CONNECT_SEND)
		arg.req.at = conn.sent - input_u8(&in) % 4 + input_u8(&in) % 4;
	else if (number == RVMRPC_CONNECT_RECV)
		arg.req.at = conn.received + input_u8(&in) % ROOM;
	arg.req.flags = input_u8(&in) % 4;
	arg.req.length = number == RVMRPC_CONNECT_RECV ? input_u8(&in) : 0;
	for (i = 0; i < length; i++)
		arg.bytes[i] = (uint8_t)(arg.req.at + i);
	if (input_u8(&in) < 32)
		input_corrupt(&in, &arg.req, offsetof(struct rvmrpc_connect_req, at));
	if (number == RVMRPC_CONNECT_OPEN || number == RVMRPC_CONNECT_WAIT)
		input_bytes(&in, &arg, proc->arg_min);
	call(number, &arg, proc->arg_min + length, input_u8(&in) % (2 * ROOM));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	in = (struct input){ data, size };
	memset(&conn, 0, sizeof(conn));
	os_sent = os_base = os_have = 0;
	rules.n = 0;
	while (in.left) {
		if (input_u8(&in) & 7)
			try_call();
		else
			try_rules();
	}
	return 0;
}
