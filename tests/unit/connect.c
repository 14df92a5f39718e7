/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Module connect: where it may connect to, the table of connections, and its procedures on sockets that are all lies. */
#include <arpa/inet.h>
#include <glib.h>

#include "rvmrpc_connect.h"

#define SESSION	0x1122334455667788ull

static struct rvmrpc_connect_rules rules;

/* ---- Rules ---- */

/* As whoever asks has it: IPv4 in IPv6's form. */
static void address_of(const char *text, uint8_t address[16])
{
	memset(address, 0, 16);
	if (inet_pton(AF_INET, text, address + 12) == 1)
		address[10] = address[11] = 0xff;
	else
		g_assert_cmpint(inet_pton(AF_INET6, text, address), ==, 1);
}

static bool allows(const char *text, uint16_t port)
{
	uint8_t address[16];

	address_of(text, address);
	return rvmrpc_connect_rules_allow(&rules, address, port);
}

static void set_rules(const char *text)
{
	uint32_t bad;

	g_assert_cmpint(rvmrpc_connect_rules_set(&rules, text, &bad), ==, RVMRPC_STATUS_OK);
}

static void test_rules(void)
{
	static const struct {
		const char *text;
		uint32_t bad;
	} bad[] = {
		{ "a", 0 }, { "127.0.0.1", 0 }, { "127.0.0.1:", 0 }, { "127.0.0.1:0", 0 }, { "127.0.0.1:65536", 0 },
		{ "127.0.0:1", 0 }, { "127.0.0.256:1", 0 }, { "127.0.0.1.1:1", 0 }, { "1.2.3.4/33:1", 0 }, { "1.2.3.4/:1", 0 },
		{ "*/8:1", 0 }, { "*", 0 }, { ":22", 0 }, { "*:22,", 0 }, { "*:22,,*:23", 5 }, { "*:22 ", 0 }, { "*:9-8", 0 },
		{ "*:9-", 0 }, { "*:-9", 0 }, { "*:1,::1:22", 4 }, { "[::1:22", 0 }, { "[::1]22", 0 }, { "[::1]/129:22", 0 },
		{ "[1:2:3:4:5:6:7]:1", 0 }, { "[1:2:3:4:5:6:7:8:9]:1", 0 }, { "[1::2::3]:1", 0 }, { "[12345::]:1", 0 },
		{ "[1:]:1", 0 }, { "[:1]:1", 0 }, { "[:::1]:1", 0 }, { "[g::]:1", 0 }, { "[]:1", 0 }, { "[::ffff:0102:0304]:1", 0 },
		{ "[1:2:3:4:5:6:7:8::]:1", 0 }, { "99999999999:1", 0 }, { "*:1-99999999999", 0 },
	};
	g_autofree char *large = g_strnfill(RVMRPC_CONNECT_RULES_TEXT, '1');
	uint32_t at;

	set_rules("*:7\n");
	for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
		at = 99;
		g_test_message("%s", bad[i].text);
		g_assert_cmpint(rvmrpc_connect_rules_set(&rules, bad[i].text, &at), ==, RVMRPC_STATUS_GARBAGE_ARGS);
		g_assert_cmpuint(at, ==, bad[i].bad);
		g_assert_cmpstr(rules.text, ==, "*:7");
		g_assert_cmpuint(rules.n, ==, 1);
	}
	g_assert_cmpint(rvmrpc_connect_rules_set(&rules, large, &at), ==, RVMRPC_STATUS_TOO_BIG);
	for (gsize i = 0; i <= RVMRPC_CONNECT_RULES_MAX; i++)
		memcpy(large + 4 * i, "*:1,", 4);
	large[4 * RVMRPC_CONNECT_RULES_MAX + 3] = '\0';
	g_assert_cmpint(rvmrpc_connect_rules_set(&rules, large, &at), ==, RVMRPC_STATUS_TOO_BIG);
	large[4 * RVMRPC_CONNECT_RULES_MAX - 1] = '\0';
	set_rules(large);
	set_rules("");
	g_assert_cmpuint(rules.n, ==, 0);
}

static void test_allow(void)
{
	set_rules("");
	g_assert_false(allows("127.0.0.1", 22));
	set_rules("127.0.0.1:22,10.0.0.0/8:*,192.168.7.0/25:80-90,[::1]:5432,[fd00:1::]/31:1");
	g_assert_true(allows("127.0.0.1", 22) && allows("10.255.0.1", 1) && allows("10.0.0.0", 65535));
	g_assert_false(allows("127.0.0.1", 23) || allows("127.0.0.2", 22) || allows("11.0.0.1", 22) || allows("::1", 22));
	g_assert_true(allows("192.168.7.127", 80) && allows("192.168.7.0", 90));
	g_assert_false(allows("192.168.7.128", 80) || allows("192.168.7.1", 79) || allows("192.168.7.1", 91));
	g_assert_true(allows("::1", 5432) && allows("fd00:1::7", 1) && allows("fd00:0:ffff::", 1));
	g_assert_false(allows("::2", 5432) || allows("fd00:2::", 1) || allows("::", 5432));
	set_rules("0.0.0.0/0:1");
	g_assert_true(allows("1.2.3.4", 1));
	g_assert_false(allows("::1", 1) || allows("::", 1));
	set_rules("[::]/0:1");
	g_assert_true(allows("::1", 1));
	g_assert_false(allows("1.2.3.4", 1));
	set_rules("*:5");
	g_assert_true(allows("1.2.3.4", 5) && allows("fe80::1", 5));
	g_assert_false(allows("1.2.3.4", 6));
	set_rules("[1:2:3:4:5:6:7:8]:1,[a::b:c]:1,[d::]:1,[E:F::]:1");
	g_assert_true(allows("1:2:3:4:5:6:7:8", 1) && allows("a::b:c", 1) && allows("d::", 1) && allows("e:f::", 1));
	g_assert_false(allows("1:2:3:4:5:6:7:9", 1) || allows("a::c", 1) || allows("d::1", 1));
}

/* ---- The table ---- */

static void test_table(void)
{
	static struct rvmrpc_connections table;
	struct rvmrpc_connection c[4] = {
		{ .session = 1, .number = 7 }, { .session = 2, .number = 7 }, { .session = 1, .number = 8 },
		{ .session = 1, .number = 7 },
	};
	struct rvmrpc_connect_ready ready[2];

	table.n = 0;
	for (gsize i = 0; i < 3; i++)
		g_assert_cmpuint(rvmrpc_connections_add(&table, &c[i], 3, 100 + i), ==, RVMRPC_CONNECT_FAILED_NOT);
	g_assert_cmpuint(rvmrpc_connections_add(&table, &c[3], 9, 0), ==, RVMRPC_CONNECT_OTHER);
	c[3].number = 9;
	g_assert_cmpuint(rvmrpc_connections_add(&table, &c[3], 3, 0), ==, RVMRPC_CONNECT_FULL);
	g_assert_true(rvmrpc_connections_find(&table, 2, 7, 101) == &c[1]);
	g_assert_null(rvmrpc_connections_find(&table, 2, 8, 0));
	g_assert_null(rvmrpc_connections_find(&table, 0, 7, 0));
	g_assert_null(rvmrpc_connections_find(&table, 1, 0, 0));
	/* Each event once, and no more than fit. */
	g_assert_false(rvmrpc_connections_ready(&table, 1));
	c[0].events = RVMRPC_CONNECT_READ;
	c[2].events = RVMRPC_CONNECT_WRITE;
	g_assert_true(rvmrpc_connections_ready(&table, 1));
	g_assert_false(rvmrpc_connections_ready(&table, 2));
	g_assert_cmpuint(rvmrpc_connections_tell(&table, 1, ready, 1, 200), ==, 1);
	g_assert_true(ready[0].connection == 7 && ready[0].events == RVMRPC_CONNECT_READ);
	g_assert_cmpuint(rvmrpc_connections_tell(&table, 1, ready, 2, 200), ==, 1);
	g_assert_true(ready[0].connection == 8 && ready[0].events == RVMRPC_CONNECT_WRITE);
	g_assert_false(rvmrpc_connections_ready(&table, 1));
	/* The wait has spoken of session 1. */
	g_assert_null(rvmrpc_connections_take_old(&table, 101));
	g_assert_true(rvmrpc_connections_take_old(&table, 200) == &c[1]);
	g_assert_null(rvmrpc_connections_take_old(&table, 200));
	g_assert_null(rvmrpc_connections_take(&table, 2, 0));
	g_assert_true(rvmrpc_connections_take(&table, 1, 8) == &c[2]);
	g_assert_true(rvmrpc_connections_take(&table, 0, 0) == &c[0]);
	g_assert_cmpuint(table.n, ==, 0);
}

/* ---- The OS: one connection, number 5 ---- */

static struct rvmrpc_connection conn;
static uint32_t os_failed;		/* what every procedure of the OS says */
static char os_sent[64], os_received[64];
static uint32_t os_room, os_nsent, os_nreceived, os_held, os_finished, os_closed, os_waited;
static bool os_ended;

bool rvmrpc_os_connect_allowed(const uint8_t address[16], uint16_t port)
{
	return rvmrpc_connect_rules_allow(&rules, address, port);
}

int rvmrpc_os_connect_open(const struct rvmrpc_connect_open_req *wanted, uint32_t *failed)
{
	conn = (struct rvmrpc_connection){ .session = wanted->session, .number = wanted->connection };
	*failed = os_failed;
	return RVMRPC_STATUS_OK;
}

struct rvmrpc_connection *rvmrpc_os_connect_get(uint64_t session, uint32_t number)
{
	if (session != conn.session || number != conn.number)
		return NULL;
	os_held++;
	return &conn;
}

void rvmrpc_os_connect_put(struct rvmrpc_connection *c)
{
	g_assert_true(c == &conn);
	os_held--;
}

uint32_t rvmrpc_os_connect_send(struct rvmrpc_connection *c, const void *data, uint32_t length, uint32_t *taken)
{
	(void)c;
	*taken = os_failed ? 0 : MIN(length, os_room);
	memcpy(os_sent + os_nsent, data, *taken);
	os_nsent += *taken;
	os_room -= *taken;
	return os_failed;
}

void rvmrpc_os_connect_finish(struct rvmrpc_connection *c)
{
	(void)c;
	os_finished++;
}

uint32_t rvmrpc_os_connect_recv(struct rvmrpc_connection *c, uint64_t drop, void *to, uint32_t *length, bool *ended)
{
	(void)c;
	g_assert_cmpuint(drop, <=, os_nreceived);
	memmove(os_received, os_received + drop, os_nreceived - drop);
	os_nreceived -= drop;
	*length = MIN(*length, os_nreceived);
	memcpy(to, os_received, *length);
	*ended = os_ended && !os_nreceived;
	return os_failed;
}

void rvmrpc_os_connect_close(uint64_t session, uint32_t number, bool reset)
{
	g_assert_cmpuint(session, ==, SESSION);
	os_closed = number + (reset ? 1000 : 0);
}

int rvmrpc_os_connect_wait(uint64_t xid, uint64_t session, uint32_t ms, struct rvmrpc_connect_ready *to, uint32_t max,
			   uint32_t *n)
{
	(void)xid;
	(void)session;
	os_waited = ms;
	for (*n = 0; *n < MIN(max, 3); (*n)++)
		to[*n] = (struct rvmrpc_connect_ready){ 5, RVMRPC_CONNECT_READ };
	return RVMRPC_STATUS_OK;
}

/* ---- Procedures ---- */

static struct rvmrpc_response res;
static struct rvmrpc_connect_res head;

/* Runs one in memory of exactly its size. */
static int run(uint32_t number, const void *arg, uint32_t length, uint32_t room)
{
	const struct rvmrpc_procedure *proc = &rvmrpc_connect_module.procs[number];
	g_autofree void *copy = g_memdup2(arg, length);
	struct rvmrpc_request req = { .arg = copy, .arglen = length, .timeout_ms = 1000 };
	int status;

	g_assert_cmpuint(proc->number, ==, number);
	g_assert_true(length >= proc->arg_min && length <= proc->arg_max);
	g_free(res.res);
	res = (struct rvmrpc_response){ .resmax = room, .res = g_malloc(room) };
	status = proc->handler(&req, &res);
	g_assert_cmpuint(os_held, ==, 0);
	if (status == RVMRPC_STATUS_OK && res.reslen >= sizeof(head))
		memcpy(&head, res.res, sizeof(head));
	return status;
}

static int open_with(struct rvmrpc_connect_open_req wanted)
{
	return run(RVMRPC_CONNECT_OPEN, &wanted, sizeof(wanted), 100);
}

static void setup(void)
{
	struct rvmrpc_connect_open_req wanted = { .session = SESSION, .connection = 5, .port = 22 };

	address_of("127.0.0.1", wanted.address);
	set_rules("127.0.0.1:22,[fe80::]/10:22");
	os_failed = os_nsent = os_nreceived = os_finished = 0;
	os_ended = false;
	g_assert_cmpint(open_with(wanted), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(head.failed, ==, RVMRPC_CONNECT_FAILED_NOT);
	g_assert_cmpuint(res.reslen, ==, sizeof(head));
}

static void test_open(void)
{
	const struct rvmrpc_connect_open_req good = {
		.session = SESSION, .connection = 5, .port = 22,
		.address = { [10] = 255, [11] = 255, [12] = 127, [15] = 1 },
	};
	struct rvmrpc_connect_open_req wanted[9];

	setup();
	for (gsize i = 0; i < G_N_ELEMENTS(wanted); i++)
		wanted[i] = good;
	wanted[0].session = 0;
	wanted[1].connection = 0;
	wanted[2].port = 0;
	wanted[3].reserved = 1;
	wanted[4].flags = 2;
	wanted[5].scope = 1;
	address_of("0.0.0.0", wanted[6].address);
	address_of("::", wanted[7].address);
	for (gsize i = 0; i < 8; i++)
		g_assert_cmpint(open_with(wanted[i]), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	wanted[8].port = 23;
	g_assert_cmpint(open_with(wanted[8]), ==, RVMRPC_STATUS_NOT_ALLOWED);
	os_failed = RVMRPC_CONNECT_REFUSED;
	g_assert_cmpint(open_with(good), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(head.failed, ==, RVMRPC_CONNECT_REFUSED);
	/* Only asks. */
	wanted[8].flags = RVMRPC_CONNECT_CHECK;
	g_assert_cmpint(open_with(wanted[8]), ==, RVMRPC_STATUS_NOT_ALLOWED);
	wanted[8].port = 22;
	conn.session = 0;
	g_assert_cmpint(open_with(wanted[8]), ==, RVMRPC_STATUS_OK);
	g_assert_true(!head.failed && !conn.session);
	address_of("fe80::1", wanted[8].address);
	wanted[8].scope = 2;
	g_assert_cmpint(open_with(wanted[8]), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(run(RVMRPC_CONNECT_OPEN, &good, sizeof(good), sizeof(head) - 1), ==, RVMRPC_STATUS_TOO_BIG);
}

static int send_at(uint64_t at, const char *text, uint32_t flags)
{
	const struct rvmrpc_connect_req wanted = { .session = SESSION, .connection = 5, .at = at, .flags = flags };
	g_autofree char *arg = g_malloc(sizeof(wanted) + strlen(text));

	memcpy(arg, &wanted, sizeof(wanted));
	memcpy(arg + sizeof(wanted), text, strlen(text));
	return run(RVMRPC_CONNECT_SEND, arg, sizeof(wanted) + strlen(text), sizeof(head));
}

static void check_sent(const char *text)
{
	g_assert_cmpmem(os_sent, os_nsent, text, strlen(text));
	g_assert_cmpuint(head.at, ==, strlen(text));
	g_assert_cmpuint(head.failed, ==, 0);
}

static void test_send(void)
{
	setup();
	os_room = 6;
	g_assert_cmpint(send_at(0, "abcd", 0), ==, RVMRPC_STATUS_OK);
	check_sent("abcd");
	/* What does not follow comes to nothing, and what the socket has is not sent again. */
	g_assert_cmpint(send_at(5, "f", RVMRPC_CONNECT_END), ==, RVMRPC_STATUS_OK);
	check_sent("abcd");
	g_assert_cmpint(send_at(2, "cdefgh", RVMRPC_CONNECT_END), ==, RVMRPC_STATUS_OK);
	check_sent("abcdef");
	os_room = 10;
	g_assert_cmpint(send_at(0, "ab", RVMRPC_CONNECT_END), ==, RVMRPC_STATUS_OK);
	check_sent("abcdef");
	g_assert_cmpuint(os_finished, ==, 0);
	g_assert_cmpint(send_at(2, "cdefgh", RVMRPC_CONNECT_END), ==, RVMRPC_STATUS_OK);
	check_sent("abcdefgh");
	g_assert_cmpuint(os_finished, ==, 1);
	g_assert_cmpint(send_at(8, "", RVMRPC_CONNECT_END), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(send_at(8, "i", 0), ==, RVMRPC_STATUS_OK);
	check_sent("abcdefgh");
	g_assert_cmpuint(os_finished, ==, 1);
	/* A failure is for good. */
	setup();
	os_room = 10;
	os_failed = RVMRPC_CONNECT_BROKEN;
	g_assert_cmpint(send_at(0, "a", 0), ==, RVMRPC_STATUS_OK);
	os_failed = 0;
	g_assert_cmpint(send_at(0, "a", RVMRPC_CONNECT_END), ==, RVMRPC_STATUS_OK);
	g_assert_true(head.failed == RVMRPC_CONNECT_BROKEN && !os_nsent && !os_finished);
	conn.number = 6;
	g_assert_cmpint(send_at(0, "a", 0), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(head.failed, ==, RVMRPC_CONNECT_UNKNOWN);
	g_assert_cmpint(send_at(UINT64_MAX, "a", 0), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(send_at(0, "a", RVMRPC_CONNECT_RESET), ==, RVMRPC_STATUS_GARBAGE_ARGS);
}

/* Bytes of an answer with room for so many. */
static void recv_at(uint64_t at, uint32_t length, uint32_t room, const char *text, uint32_t flags)
{
	const struct rvmrpc_connect_req wanted = { .session = SESSION, .connection = 5, .at = at, .length = length };

	g_assert_cmpint(run(RVMRPC_CONNECT_RECV, &wanted, sizeof(wanted), sizeof(head) + room), ==, RVMRPC_STATUS_OK);
	g_assert_cmpmem((char *)res.res + sizeof(head), res.reslen - sizeof(head), text, strlen(text));
	g_assert_cmpuint(head.flags, ==, flags);
	g_assert_cmpuint(head.at, ==, at);
}

static void test_recv(void)
{
	struct rvmrpc_connect_req wanted = { .session = SESSION, .connection = 5, .length = 9 };

	setup();
	memcpy(os_received, "abcdef", 6);
	os_nreceived = 6;
	recv_at(0, UINT32_MAX, 4, "abcd", RVMRPC_CONNECT_MORE);
	/* An answer that was lost is told again; what came meanwhile, too. */
	recv_at(0, 9, 9, "abcdef", 0);
	recv_at(2, 2, 9, "cd", RVMRPC_CONNECT_MORE);
	wanted.at = 1;
	g_assert_cmpint(run(RVMRPC_CONNECT_RECV, &wanted, sizeof(wanted), 99), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	wanted.at = 5;
	g_assert_cmpint(run(RVMRPC_CONNECT_RECV, &wanted, sizeof(wanted), 99), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	recv_at(4, 9, 9, "ef", 0);
	os_ended = true;
	recv_at(6, 9, 9, "", RVMRPC_CONNECT_ENDED);
	recv_at(6, 9, 9, "", RVMRPC_CONNECT_ENDED);
	/* What failed while it was sent is told when nothing is left. */
	os_ended = false;
	conn.failed = RVMRPC_CONNECT_BROKEN;
	memcpy(os_received, "g", 1);
	os_nreceived = 1;
	recv_at(6, 9, 9, "g", 0);
	g_assert_cmpuint(head.failed, ==, 0);
	recv_at(7, 9, 9, "", 0);
	g_assert_cmpuint(head.failed, ==, RVMRPC_CONNECT_BROKEN);
	wanted.session = 1;
	g_assert_cmpint(run(RVMRPC_CONNECT_RECV, &wanted, sizeof(wanted), 99), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(head.failed, ==, RVMRPC_CONNECT_UNKNOWN);
	wanted.reserved = 1;
	g_assert_cmpint(run(RVMRPC_CONNECT_RECV, &wanted, sizeof(wanted), 99), ==, RVMRPC_STATUS_GARBAGE_ARGS);
}

static void test_wait(void)
{
	struct rvmrpc_connect_wait_req wanted = { .session = SESSION, .timeout_ms = 100 };
	struct rvmrpc_connect_req closing = { .session = SESSION, .flags = RVMRPC_CONNECT_RESET };

	setup();
	g_assert_cmpint(run(RVMRPC_CONNECT_WAIT, &wanted, sizeof(wanted), 20), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(res.reslen, ==, 16);
	g_assert_cmpuint(os_waited, ==, 100);
	/* Not longer than its caller does. */
	wanted.timeout_ms = 60000;
	g_assert_cmpint(run(RVMRPC_CONNECT_WAIT, &wanted, sizeof(wanted), 100), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(os_waited, ==, 750);
	wanted.session = 0;
	g_assert_cmpint(run(RVMRPC_CONNECT_WAIT, &wanted, sizeof(wanted), 100), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(run(RVMRPC_CONNECT_CLOSE, &closing, sizeof(closing), 100), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(os_closed, ==, 1000);
	closing.flags = 0;
	closing.connection = 5;
	g_assert_cmpint(run(RVMRPC_CONNECT_CLOSE, &closing, sizeof(closing), 100), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(os_closed, ==, 5);
	closing.at = 1;
	g_assert_cmpint(run(RVMRPC_CONNECT_CLOSE, &closing, sizeof(closing), 100), ==, RVMRPC_STATUS_GARBAGE_ARGS);
}

int main(int argc, char **argv)
{
	int status;

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/connect/rules", test_rules);
	g_test_add_func("/connect/allow", test_allow);
	g_test_add_func("/connect/table", test_table);
	g_test_add_func("/connect/open", test_open);
	g_test_add_func("/connect/send", test_send);
	g_test_add_func("/connect/recv", test_recv);
	g_test_add_func("/connect/wait", test_wait);
	status = g_test_run();
	g_free(res.res);
	return status;
}
