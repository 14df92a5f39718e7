/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: module connect.
 */
#include "rvmrpc_builtin.h"
#include "rvmrpc_connect.h"

/* ---- Addresses ---- */

#define CONNECT_V4_AT	12	/* of an IPv4 address, in one of 16 bytes */

static const uint8_t connect_v4_prefix[CONNECT_V4_AT] = { [10] = 0xff, [11] = 0xff };

bool rvmrpc_connect_is_v4(const uint8_t address[16])
{
	return !memcmp(address, connect_v4_prefix, sizeof(connect_v4_prefix));
}

/* Bytes of a number at text, at most max; 0: there is none. */
static uint32_t connect_parse_number(const char *text, uint32_t base, uint32_t max, uint32_t *value)
{
	uint32_t n;

	*value = 0;
	for (n = 0; rvmrpc_digit(text[n]) < base; n++) {
		*value = *value * base + rvmrpc_digit(text[n]);
		if (*value > max)
			return 0;
	}
	return n;
}

static uint32_t connect_parse_v4(const char *text, uint8_t address[16])
{
	uint32_t i, n, used = 0, value;

	memcpy(address, connect_v4_prefix, sizeof(connect_v4_prefix));
	for (i = 0; i < 4; i++) {
		if (i && text[used++] != '.')
			return 0;
		n = connect_parse_number(text + used, 10, 255, &value);
		if (!n)
			return 0;
		address[CONNECT_V4_AT + i] = (uint8_t)value;
		used += n;
	}
	return used;
}

#define CONNECT_NO_GAP	17	/* no "::" */

/* What follows "::" goes to the end. */
static bool connect_v6_expand(uint8_t address[16], uint32_t length, uint32_t gap)
{
	uint32_t i;

	if (gap == CONNECT_NO_GAP || length == 16)
		return gap == CONNECT_NO_GAP && length == 16;
	for (i = 1; i <= length - gap; i++) {
		address[16 - i] = address[length - i];
		address[length - i] = 0;
	}
	return true;
}

/* Groups of hexadecimal digits; as far as "]".  An IPv4 address is not written so. */
static uint32_t connect_parse_v6(const char *text, uint8_t address[16])
{
	uint32_t used = 0, n, value, length = 0, gap = CONNECT_NO_GAP;

	memset(address, 0, 16);
	if (text[0] == ':' && text[1] == ':') {
		gap = 0;
		used = 2;
	}
	while (text[used] != ']' && length < 16) {
		n = connect_parse_number(text + used, 16, 0xffff, &value);
		if (!n || n > 4)
			return 0;
		used += n;
		address[length++] = (uint8_t)(value >> 8);
		address[length++] = (uint8_t)value;
		if (text[used] == ']')
			break;
		if (text[used++] != ':')
			return 0;
		if (text[used] == ']')
			return 0;
		if (text[used] == ':') {
			if (gap != CONNECT_NO_GAP)
				return 0;
			gap = length;
			used++;
		}
	}
	if (text[used] != ']' || !connect_v6_expand(address, length, gap) || rvmrpc_connect_is_v4(address))
		return 0;
	return used;
}

/* ---- Rules ---- */

/* Bytes of the address at text; 0: it is none. */
static uint32_t connect_parse_address(const char *text, struct rvmrpc_connect_rule *rule, uint32_t *bits_max)
{
	uint32_t n;

	*bits_max = 0;
	if (text[0] == '*') {
		rule->any = true;
		return 1;
	}
	if (text[0] == '[') {
		n = connect_parse_v6(text + 1, rule->address);
		*bits_max = 128;
		return n ? n + 2 : 0;
	}
	*bits_max = 32;
	return connect_parse_v4(text, rule->address);
}

/* Bytes of the ports at text; 0: they are none. */
static uint32_t connect_parse_ports(const char *text, struct rvmrpc_connect_rule *rule)
{
	uint32_t n, more, first, last;

	if (text[0] == '*') {
		rule->first = 1;
		rule->last = 0xffff;
		return 1;
	}
	n = connect_parse_number(text, 10, 0xffff, &first);
	last = first;
	if (n && text[n] == '-') {
		more = connect_parse_number(text + n + 1, 10, 0xffff, &last);
		if (!more)
			return 0;
		n += 1 + more;
	}
	if (!first || last < first)
		return 0;
	rule->first = (uint16_t)first;
	rule->last = (uint16_t)last;
	return n;
}

/* Bytes of the rule at text; 0: it is none. */
static uint32_t connect_parse_rule(const char *text, struct rvmrpc_connect_rule *rule)
{
	uint32_t n, used, bits, max;

	memset(rule, 0, sizeof(*rule));
	used = connect_parse_address(text, rule, &max);
	if (!used)
		return 0;
	bits = max;
	if (max && text[used] == '/') {
		n = connect_parse_number(text + used + 1, 10, max, &bits);
		if (!n)
			return 0;
		used += 1 + n;
	}
	/* Of an IPv4 address what says that it is one comes first. */
	rule->bits = bits + (max == 32 ? 8 * CONNECT_V4_AT : 0);
	if (text[used++] != ':')
		return 0;
	n = connect_parse_ports(text + used, rule);
	return n ? used + n : 0;
}

/* Into rules that are taken if all is well. */
static int connect_parse_rules(const char *text, uint32_t length, struct rvmrpc_connect_rules *rules, bool keep,
			       uint32_t *bad)
{
	struct rvmrpc_connect_rule rule;
	uint32_t at = 0, n, count = 0;

	while (at < length) {
		n = connect_parse_rule(text + at, &rule);
		if (!n || (at + n < length && text[at + n] != ',') || at + n + 1 == length) {
			*bad = at;
			return RVMRPC_STATUS_GARBAGE_ARGS;
		}
		if (count == RVMRPC_CONNECT_RULES_MAX)
			return RVMRPC_STATUS_TOO_BIG;
		if (keep)
			rules->rule[count] = rule;
		count++;
		at += n + 1;
	}
	if (keep)
		rules->n = count;
	return RVMRPC_STATUS_OK;
}

int rvmrpc_connect_rules_set(struct rvmrpc_connect_rules *rules, const char *text, uint32_t *bad)
{
	uint32_t length = (uint32_t)strlen(text);
	int status;

	if (length && text[length - 1] == '\n')
		length--;
	if (length >= sizeof(rules->text))
		return RVMRPC_STATUS_TOO_BIG;
	status = connect_parse_rules(text, length, rules, false, bad);
	if (status != RVMRPC_STATUS_OK)
		return status;
	memcpy(rules->text, text, length);
	rules->text[length] = '\0';
	return connect_parse_rules(rules->text, length, rules, true, bad);
}

static bool connect_rule_has(const struct rvmrpc_connect_rule *rule, const uint8_t address[16], uint16_t port)
{
	uint32_t bytes = rule->bits / 8, rest = rule->bits % 8;

	if (port < rule->first || port > rule->last)
		return false;
	if (rule->any)
		return true;
	/* ::/0 is all of IPv6, and nothing of IPv4. */
	if (rvmrpc_connect_is_v4(rule->address) != rvmrpc_connect_is_v4(address) || memcmp(rule->address, address, bytes))
		return false;
	return !rest || !((rule->address[bytes] ^ address[bytes]) >> (8 - rest));
}

bool rvmrpc_connect_rules_allow(const struct rvmrpc_connect_rules *rules, const uint8_t address[16], uint16_t port)
{
	uint32_t i;

	for (i = 0; i < rules->n; i++)
		if (connect_rule_has(&rules->rule[i], address, port))
			return true;
	return false;
}

/* ---- The table ---- */

static struct rvmrpc_connection *connect_table_find(const struct rvmrpc_connections *table, uint64_t session,
						    uint32_t number, uint32_t *at)
{
	uint32_t i;

	for (i = 0; i < table->n; i++) {
		struct rvmrpc_connection *c = table->at[i];

		if ((!session || c->session == session) && (!number || c->number == number)) {
			*at = i;
			return c;
		}
	}
	return NULL;
}

uint32_t rvmrpc_connections_add(struct rvmrpc_connections *table, struct rvmrpc_connection *c, uint32_t max,
				uint64_t now_ns)
{
	uint32_t at;

	if (connect_table_find(table, c->session, c->number, &at))
		return RVMRPC_CONNECT_OTHER;
	if (table->n >= max || table->n >= RVMRPC_CONNECTIONS_MAX)
		return RVMRPC_CONNECT_FULL;
	c->seen_ns = now_ns;
	table->at[table->n++] = c;
	return RVMRPC_CONNECT_FAILED_NOT;
}

struct rvmrpc_connection *rvmrpc_connections_find(struct rvmrpc_connections *table, uint64_t session, uint32_t number,
						  uint64_t now_ns)
{
	uint32_t at;
	struct rvmrpc_connection *c = session && number ? connect_table_find(table, session, number, &at) : NULL;

	if (c)
		c->seen_ns = now_ns;
	return c;
}

static struct rvmrpc_connection *connect_table_take(struct rvmrpc_connections *table, uint32_t at)
{
	struct rvmrpc_connection *c = table->at[at];

	table->at[at] = table->at[--table->n];
	return c;
}

struct rvmrpc_connection *rvmrpc_connections_take(struct rvmrpc_connections *table, uint64_t session, uint32_t number)
{
	uint32_t at;

	return connect_table_find(table, session, number, &at) ? connect_table_take(table, at) : NULL;
}

struct rvmrpc_connection *rvmrpc_connections_take_old(struct rvmrpc_connections *table, uint64_t since_ns)
{
	uint32_t i;

	for (i = 0; i < table->n; i++)
		if (table->at[i]->seen_ns < since_ns)
			return connect_table_take(table, i);
	return NULL;
}

bool rvmrpc_connections_ready(const struct rvmrpc_connections *table, uint64_t session)
{
	uint32_t i;

	for (i = 0; i < table->n; i++)
		if (table->at[i]->session == session && table->at[i]->events)
			return true;
	return false;
}

uint32_t rvmrpc_connections_tell(struct rvmrpc_connections *table, uint64_t session, struct rvmrpc_connect_ready *to,
				 uint32_t max, uint64_t now_ns)
{
	uint32_t i, n = 0;

	for (i = 0; i < table->n; i++) {
		struct rvmrpc_connection *c = table->at[i];

		if (c->session != session)
			continue;
		c->seen_ns = now_ns;
		if (!c->events || n == max)
			continue;
		to[n].connection = c->number;
		to[n++].events = c->events;
		c->events = 0;
	}
	return n;
}

/* ---- Procedures ---- */

static int connect_answer(struct rvmrpc_response *res, const struct rvmrpc_connect_res *head, uint32_t bytes)
{
	memcpy(res->res, head, sizeof(*head));
	res->reslen = sizeof(*head) + bytes;
	return RVMRPC_STATUS_OK;
}

static bool connect_is_zero(const uint8_t *bytes, uint32_t n)
{
	while (n && !bytes[n - 1])
		n--;
	return !n;
}

static int connect_open(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_connect_res head = { .failed = RVMRPC_CONNECT_FAILED_NOT };
	struct rvmrpc_connect_open_req wanted;
	int status = RVMRPC_STATUS_OK;

	memcpy(&wanted, req->arg, sizeof(wanted));
	/* The address that is none means this machine to some systems. */
	if (!wanted.session || !wanted.connection || !wanted.port || wanted.reserved ||
	    (wanted.flags & ~RVMRPC_CONNECT_CHECK) || connect_is_zero(wanted.address, 16) ||
	    (rvmrpc_connect_is_v4(wanted.address) && (wanted.scope || connect_is_zero(wanted.address + CONNECT_V4_AT, 4))))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (res->resmax < sizeof(head))
		return RVMRPC_STATUS_TOO_BIG;
	if (!rvmrpc_os_connect_allowed(wanted.address, wanted.port))
		return RVMRPC_STATUS_NOT_ALLOWED;
	if (!(wanted.flags & RVMRPC_CONNECT_CHECK))
		status = rvmrpc_os_connect_open(&wanted, &head.failed);
	return status == RVMRPC_STATUS_OK ? connect_answer(res, &head, 0) : status;
}

/* What all three of them have to look at. */
static int connect_begin(const struct rvmrpc_request *req, const struct rvmrpc_response *res, uint32_t flags,
			 struct rvmrpc_connect_req *wanted)
{
	memcpy(wanted, req->arg, sizeof(*wanted));
	if (!wanted->session || wanted->reserved || (wanted->flags & ~flags))
		return RVMRPC_STATUS_GARBAGE_ARGS;
	return res->resmax < sizeof(struct rvmrpc_connect_res) ? RVMRPC_STATUS_TOO_BIG : RVMRPC_STATUS_OK;
}

/* What the socket has already is not sent again, what does not follow it not yet. */
static void connect_send_bytes(struct rvmrpc_connection *c, const struct rvmrpc_connect_req *wanted, const char *data,
		       uint32_t length)
{
	uint64_t had = c->sent - wanted->at;	/* of a place beyond, very many */
	uint32_t taken = 0;

	if (c->failed || had > length || c->finished)
		return;
	if (length > had)
		c->failed = rvmrpc_os_connect_send(c, data + had, length - (uint32_t)had, &taken);
	c->sent += taken;
	if (!c->failed && had + taken == length && (wanted->flags & RVMRPC_CONNECT_END)) {
		rvmrpc_os_connect_finish(c);
		c->finished = true;
	}
}

static int connect_send(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_connect_res head = { .failed = RVMRPC_CONNECT_UNKNOWN };
	struct rvmrpc_connect_req wanted;
	struct rvmrpc_connection *c;
	int status;

	status = connect_begin(req, res, RVMRPC_CONNECT_END, &wanted);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (wanted.length || wanted.at > UINT64_MAX - req->arglen)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	c = rvmrpc_os_connect_get(wanted.session, wanted.connection);
	if (c) {
		connect_send_bytes(c, &wanted, (const char *)req->arg + sizeof(wanted), req->arglen - sizeof(wanted));
		head.at = c->sent;
		head.failed = c->failed;
		rvmrpc_os_connect_put(c);
	}
	return connect_answer(res, &head, 0);
}

/* False: its client never had what it says that it has. */
static bool connect_recv_bytes(struct rvmrpc_connection *c, const struct rvmrpc_connect_req *wanted,
		       struct rvmrpc_connect_res *head, char *to, uint32_t *length)
{
	const uint32_t room = *length;
	bool ended = false;

	if (wanted->at < c->received || wanted->at > c->told)
		return false;
	head->failed = rvmrpc_os_connect_recv(c, wanted->at - c->received, to, length, &ended);
	if (head->failed)
		c->failed = head->failed;
	else if (!*length && !ended)
		head->failed = c->failed;
	if (head->failed)
		*length = 0;
	c->received = wanted->at;
	c->told = wanted->at + *length;
	head->at = wanted->at;
	head->flags = (*length == room ? RVMRPC_CONNECT_MORE : 0) | (ended ? RVMRPC_CONNECT_ENDED : 0);
	return true;
}

static int connect_recv(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_connect_res head = { .failed = RVMRPC_CONNECT_UNKNOWN };
	struct rvmrpc_connect_req wanted;
	struct rvmrpc_connection *c;
	uint32_t length = 0;
	bool good = true;
	int status;

	status = connect_begin(req, res, 0, &wanted);
	if (status != RVMRPC_STATUS_OK)
		return status;
	c = rvmrpc_os_connect_get(wanted.session, wanted.connection);
	if (c) {
		length = res->resmax - sizeof(head);
		if (length > wanted.length)
			length = wanted.length;
		good = connect_recv_bytes(c, &wanted, &head, (char *)res->res + sizeof(head), &length);
		rvmrpc_os_connect_put(c);
	}
	return good ? connect_answer(res, &head, length) : RVMRPC_STATUS_GARBAGE_ARGS;
}

static int connect_wait(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_connect_wait_req wanted;
	uint32_t n = 0, ms = req->timeout_ms / 4 * 3;
	int status;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (!wanted.session || wanted.reserved)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	if (res->resmax < sizeof(struct rvmrpc_connect_ready))
		return RVMRPC_STATUS_TOO_BIG;
	if (ms > wanted.timeout_ms)
		ms = wanted.timeout_ms;
	status = rvmrpc_os_connect_wait(req->xid, wanted.session, ms, res->res,
					res->resmax / sizeof(struct rvmrpc_connect_ready), &n);
	res->reslen = n * sizeof(struct rvmrpc_connect_ready);
	return status;
}

static int connect_close(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_connect_req wanted;
	int status;

	status = connect_begin(req, res, RVMRPC_CONNECT_RESET, &wanted);
	if (status != RVMRPC_STATUS_OK)
		return status;
	if (wanted.at || wanted.length)
		return RVMRPC_STATUS_GARBAGE_ARGS;
	rvmrpc_os_connect_close(wanted.session, wanted.connection, wanted.flags & RVMRPC_CONNECT_RESET);
	return RVMRPC_STATUS_OK;
}

#define CONNECT_PROC(n, s, f, head, max, fn) {	\
		.number = (n),			\
		.name = (s),			\
		.flags = (f),			\
		.arg_min = sizeof(struct head),	\
		.arg_max = (max),		\
		.handler = (fn),		\
	}
#define CONNECT_PROC_FIXED(n, s, f, head, fn)	CONNECT_PROC(n, s, f, head, sizeof(struct head), fn)

/* Of one thread, in the order of their calls: what does not wait. */
static const struct rvmrpc_procedure connect_procs[] = {
	CONNECT_PROC_FIXED(RVMRPC_CONNECT_OPEN, "open", RVMRPC_PROC_MAY_SLEEP, rvmrpc_connect_open_req, connect_open),
	CONNECT_PROC(RVMRPC_CONNECT_SEND, "send", 0, rvmrpc_connect_req, RVMRPC_ARG_ANY, connect_send),
	CONNECT_PROC_FIXED(RVMRPC_CONNECT_RECV, "recv", 0, rvmrpc_connect_req, connect_recv),
	CONNECT_PROC_FIXED(RVMRPC_CONNECT_WAIT, "wait", RVMRPC_PROC_MAY_SLEEP, rvmrpc_connect_wait_req, connect_wait),
	CONNECT_PROC_FIXED(RVMRPC_CONNECT_CLOSE, "close", 0, rvmrpc_connect_req, connect_close),
};

struct rvmrpc_module rvmrpc_connect_module = {
	.number = RVMRPC_MOD_CONNECT,
	.version = 1,
	.name = "connect",
	.procs = connect_procs,
	.nprocs = RVMRPC_COUNT(connect_procs),
};
