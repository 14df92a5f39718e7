// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What librvmrpc makes of a guest's answers above a connection: lists that go on from answer to answer, what is done to
 * a guest, its files, several calls at a time, and tunnels. The frames are good, as a rule; what a guest says in them is
 * not. Each call ends once, and no file stays open.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>
#include "private.h"
#include "rvmrpc_records.h"
#include "rvmrpc_socket.h"
#include "said.h"

#define PEERS_MAX	16
#define ANSWERS_MAX	16		/* of a connection, beside the first */
#define CALLS		14
#define LINKS		3
#define TURNS		100

/* The host's end of a connection: all was said before, or it answers what it is asked. */
struct peer {
	int fd;
	bool answers;
	GByteArray *asked;
};

static struct input in;
static struct peer peers[PEERS_MAX];
static int npeers;
static bool answer_next;		/* what is asked on the connections to come */

/* ---- What the guest says ---- */

static void say_records(GByteArray *said)
{
	uint8_t bytes[2048], text[64];
	struct rvmrpc_response res = { .resmax = sizeof(bytes), .res = bytes };
	const struct rvmrpc_request req = { .arg = bytes };
	const uint32_t how = input_u8(&in);
	struct rvmrpc_record_writer w;
	uint32_t cursor = 1;

	CHECK(rvmrpc_records_begin(&w, &req, &res, 0) == RVMRPC_STATUS_OK);
	for (uint32_t records = how % 8; records; records--, cursor++) {
		rvmrpc_record_begin(&w, input_u8(&in) % 24);
		for (uint32_t fields = input_u8(&in) % 6; fields; fields--) {
			const uint32_t length = input_u8(&in) % sizeof(text);

			input_bytes(&in, text, length);
			if (length % 3)
				rvmrpc_record_u64(&w, input_u8(&in) % 24, input_u32(&in));
			else
				rvmrpc_record_string(&w, input_u8(&in) % 24, (char *)text, length);
		}
		rvmrpc_record_end(&w, cursor);
	}
	if (how & 0x40)
		rvmrpc_records_more(&w, input_u8(&in));
	if (how & 0x80)
		rvmrpc_records_partial(&w);
	CHECK(rvmrpc_records_end(&w) == RVMRPC_STATUS_OK);
	input_corrupt(&in, bytes, res.reslen);
	g_byte_array_append(said, bytes, res.reslen);
}

static void say_bytes(GByteArray *said)
{
	uint8_t bytes[256];
	const uint32_t length = input_u8(&in);

	input_bytes(&in, bytes, length);
	g_byte_array_append(said, bytes, length);
}

/* at: what would be right. */
static void say_moved(GByteArray *said, uint64_t at, bool bytes)
{
	struct rvmrpc_connect_res res = { .at = at };
	const uint32_t how = input_u8(&in);

	if (how >= 0xf8)
		res.at = input_u8(&in);
	res.failed = (how & 0x78) == 0x78 ? input_u8(&in) % 10 : 0;
	res.flags = how & 3;
	g_byte_array_append(said, (const guint8 *)&res, sizeof(res));
	if (bytes && how & 4)
		say_bytes(said);
}

static void say_news(GByteArray *said)
{
	struct rvmrpc_connect_ready ready;

	for (uint32_t n = input_u8(&in) % 4; n; n--) {
		const uint32_t how = input_u8(&in);

		ready = (struct rvmrpc_connect_ready) { how % (LINKS + 2), how >> 6 };
		g_byte_array_append(said, (const guint8 *)&ready, sizeof(ready));
	}
}

static void say_file(GByteArray *said)
{
	struct rvmrpc_file_res res = { .failed = input_u8(&in) % 4 ? 0 : input_u8(&in), .size = input_u32(&in) };

	g_byte_array_append(said, (const guint8 *)&res, sizeof(res));
	say_bytes(said);
}

static void say_frame(GByteArray *said, uint16_t type, guint64 cookie, uint32_t status, const GByteArray *payload)
{
	struct rvmrpc_sock_hdr hdr = { .type = type, .cookie = cookie, .status = status };

	frame_begin(&hdr, payload->len);
	g_byte_array_append(said, (const guint8 *)&hdr, sizeof(hdr));
	g_byte_array_append(said, payload->data, payload->len);
}

static void say_any(GByteArray *payload)
{
	const uint32_t kind = input_u8(&in) % 5;

	if (kind == 0)
		say_bytes(payload);
	else if (kind == 1)
		say_records(payload);
	else if (kind == 2)
		say_moved(payload, input_u8(&in), true);
	else if (kind == 3)
		say_news(payload);
	else
		say_file(payload);
}

static uint32_t take_status(uint32_t how)
{
	return how & 0x38 ? RVMRPC_STATUS_OK : input_u8(&in) % (RVMRPC_STATUS_MAX + 2);
}

/* In the order of the calls, as a rule. */
static void say_answers(GByteArray *said)
{
	guint64 cookie = 1;

	for (uint32_t n = input_u8(&in) % (ANSWERS_MAX + 1); n && said->len < SAID_MAX; n--) {
		g_autoptr(GByteArray) payload = g_byte_array_new();
		const uint32_t how = input_u8(&in), status = take_status(how);

		cookie = how & 7 ? cookie + 1 : input_u8(&in) % 32;
		say_any(payload);
		say_frame(said, how == 0xff ? RVMRPC_SOCK_ERROR : RVMRPC_SOCK_ANSWER, cookie, status, payload);
	}
}

/* ---- What the host hears, and answers ---- */

/* What that procedure's answer looks like. */
static void say_fitting(GByteArray *payload, const struct rvmrpc_sock_hdr *hdr, const uint8_t *asked)
{
	struct rvmrpc_connect_req req;
	const bool moves = hdr->module == RVMRPC_MOD_CONNECT && hdr->length >= sizeof(req);

	if (moves && hdr->procedure == RVMRPC_CONNECT_SEND) {
		memcpy(&req, asked, sizeof(req));
		say_moved(payload, req.at + hdr->length - sizeof(req), false);
	} else if (moves && hdr->procedure == RVMRPC_CONNECT_RECV) {
		memcpy(&req, asked, sizeof(req));
		say_moved(payload, req.at, true);
	} else if (hdr->module == RVMRPC_MOD_CONNECT && hdr->procedure == RVMRPC_CONNECT_OPEN) {
		say_moved(payload, 0, false);
	} else if (hdr->module == RVMRPC_MOD_CONNECT && hdr->procedure == RVMRPC_CONNECT_WAIT) {
		say_news(payload);
	}
}

static void answer(const struct peer *p, const struct rvmrpc_sock_hdr *hdr, const uint8_t *asked)
{
	g_autoptr(GByteArray) said = g_byte_array_new(), payload = g_byte_array_new();
	const uint32_t how = input_u8(&in), status = take_status(how);
	const uint64_t cookie = how == 0xfe ? input_u8(&in) : hdr->cookie;

	/* Not at all, which is all that there is past the input's end. */
	if (how < 2 || hdr->type != RVMRPC_SOCK_SUBMIT)
		return;
	if (how & 1)
		say_fitting(payload, hdr, asked);
	else
		say_any(payload);
	say_frame(said, how == 0xff ? RVMRPC_SOCK_ERROR : RVMRPC_SOCK_ANSWER, cookie, status, payload);
	if (how == 0xfd)
		input_corrupt(&in, said->data, said->len);
	send(p->fd, said->data, said->len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (how == 0xfc)
		shutdown(p->fd, SHUT_RDWR);
}

static void answer_all(void)
{
	static uint8_t bytes[128 * 1024];
	struct rvmrpc_sock_hdr hdr;
	ssize_t n;

	for (struct peer *p = peers; p < peers + npeers; p++) {
		n = p->answers ? recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT) : 0;
		if (n > 0)
			g_byte_array_append(p->asked, bytes, n);
		while (p->asked->len >= sizeof(hdr)) {
			memcpy(&hdr, p->asked->data, sizeof(hdr));
			CHECK(frame_is_good(&hdr));
			if (p->asked->len < sizeof(hdr) + hdr.length)
				break;
			answer(p, &hdr, p->asked->data + sizeof(hdr));
			g_byte_array_remove_range(p->asked, 0, sizeof(hdr) + hdr.length);
		}
	}
}

static void turn(GMainContext *context)
{
	g_main_context_iteration(context, FALSE);
	answer_all();
}

static RvmrpcVm *new_vm(void)
{
	RvmrpcVm *vm = vm_new();

	vm->label = g_strdup("fuzz");
	vm->socket = g_strdup("fuzz");
	return vm;
}

/* These three in the place of the library's and glib's, by the linker's --wrap. */
int __wrap_unix_connect(const char *path, const Until *until, GError **error);
int __wrap_unix_connect(const char *path, const Until *until, GError **error)
{
	static const char info[] = "{\"vm\":{\"name\":\"fuzz\"},\"rvmrpc\":{}}";
	g_autoptr(GByteArray) said = g_byte_array_new(), payload = g_byte_array_new();
	struct peer *p = &peers[npeers];
	int fd;

	(void)until;
	CHECK(strcmp(path, "fuzz") == 0);
	if (npeers == PEERS_MAX) {
		g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED, "no more");
		return -1;
	}
	npeers++;
	g_byte_array_append(payload, (const guint8 *)info, sizeof(info) - 1);
	say_frame(said, RVMRPC_SOCK_INFO, 1, 0, payload);
	*p = (struct peer) { .answers = answer_next, .asked = g_byte_array_new() };
	if (!p->answers)
		say_answers(said);
	fd = said_connect(said, &p->fd);
	if (!p->answers)
		said_end(p->fd);
	return fd;
}

/* Nothing waits for its time. */
GSource *__real_g_timeout_source_new(guint ms);
GSource *__wrap_g_timeout_source_new(guint ms);
GSource *__wrap_g_timeout_source_new(guint ms)
{
	(void)ms;
	return __real_g_timeout_source_new(0);
}

RvmrpcVm *__wrap_rvmrpc_find_vm(const char *what, GCancellable *cancellable, GError **error);
RvmrpcVm *__wrap_rvmrpc_find_vm(const char *what, GCancellable *cancellable, GError **error)
{
	(void)what;
	(void)cancellable;
	(void)error;
	return new_vm();
}

/* ---- One call after the other ---- */

/* An answer or an error, and not both. */
static void check_error(gboolean ok, GError **error)
{
	CHECK(ok == !*error);
	CHECK(!*error || g_utf8_validate((*error)->message, -1, NULL));
	g_clear_error(error);
}

static void check_record(const RvmrpcRecord *record)
{
	for (guint key = 0; key < 24; key++) {
		char *text = rvmrpc_record_get_string(record, key), **all = rvmrpc_record_get_strings(record, key);
		GBytes *bytes = rvmrpc_record_get_bytes(record, key);
		guint64 value;

		rvmrpc_record_get_u64(record, key, &value);
		CHECK(!text == !all[0] && g_strcmp0(text, all[0]) == 0);
		CHECK(!text || g_utf8_validate(text, -1, NULL));
		g_free(text);
		g_strfreev(all);
		g_clear_pointer(&bytes, g_bytes_unref);
	}
}

static void check_records(RvmrpcRecords *records, guint max)
{
	if (!records)
		return;
	CHECK(!max || rvmrpc_records_get_count(records) <= max);
	for (guint i = 0; i < rvmrpc_records_get_count(records); i++)
		check_record(rvmrpc_records_get(records, i));
	rvmrpc_records_is_partial(records);
	CHECK(!rvmrpc_records_get_cut(records) || rvmrpc_records_get_count(records) || rvmrpc_records_has_more(records));
	rvmrpc_records_get_next(records);
	rvmrpc_records_free(records);
}

static void ask_list(RvmrpcConn *conn, uint32_t what)
{
	const RvmrpcListing listing = {
		.module = what & 1 ? RVMRPC_MOD_KLOG : RVMRPC_MOD_TASKS, .max = what & 2 ? 5 : 0, .enough = what & 4 ? 100 : 0,
	};
	GError *error = NULL;
	RvmrpcRecords *records = rvmrpc_get_records(conn, &listing, 1000, NULL, &error);

	check_error(records != NULL, &error);
	check_records(records, listing.max);
}

static void ask_files(RvmrpcConn *conn, uint32_t what)
{
	const RvmrpcFileChange change = { .procedure = RVMRPC_FILES_WRITE, .path = "/a", .data = "0123", .length = 4 };
	RvmrpcFileVersion version;
	RvmrpcRecords *records;
	GError *error = NULL;
	guint32 written = 0;
	GBytes *bytes;

	if (what == 0) {
		records = rvmrpc_get_files(conn, RVMRPC_FILES_LIST, "/a", 0, 1000, NULL, &error);
		check_error(records != NULL, &error);
		check_records(records, 0);
	} else if (what == 1) {
		bytes = rvmrpc_read_file(conn, "/a", 0, 64, &version, 1000, NULL, &error);
		CHECK(!bytes || g_bytes_get_size(bytes) <= 64);
		check_error(bytes != NULL, &error);
		g_clear_pointer(&bytes, g_bytes_unref);
	} else {
		check_error(rvmrpc_change_file(conn, &change, &written, 1000, NULL, &error), &error);
		CHECK(written <= change.length);
	}
}

static void ask_care(RvmrpcConn *conn, uint32_t what)
{
	RvmrpcClock clock = { 0 };
	RvmrpcFrozen frozen;
	RvmrpcShrunk shrunk;
	GError *error = NULL;
	guint64 before, after;
	guint32 enabled;
	gboolean ok;

	if (what == 0)
		ok = rvmrpc_get_clock(conn, &clock, 1000, NULL, &error);
	else if (what == 1)
		ok = rvmrpc_set_clock(conn, &clock, 1000, &before, &after, NULL, &error);
	else if (what == 2)
		ok = rvmrpc_drop_caches(conn, RVMRPC_DROP_MODE_ALL, TRUE, 1000, &before, NULL, &error);
	else if (what == 3)
		ok = rvmrpc_shrink(conn, 4096, 1000, &shrunk, NULL, &error);
	else if (what == 4)
		ok = rvmrpc_freeze(conn, 1000, 1000, &frozen, NULL, &error);
	else if (what == 5)
		ok = rvmrpc_get_freeze(conn, 1000, &frozen, NULL, &error);
	else if (what == 6)
		ok = rvmrpc_sysrq(conn, 'h', 1000, &enabled, NULL, &error);
	else
		ok = rvmrpc_reboot(conn, FALSE, 1000, NULL, &error);
	check_error(ok, &error);
}

static void ask(RvmrpcConn *conn)
{
	const uint32_t what = input_u8(&in);

	if (what < 100)
		ask_list(conn, what % 8);
	else if (what < 160)
		ask_files(conn, what % 3);
	else
		ask_care(conn, what % 8);
}

/* ---- Several at a time ---- */

static RvmrpcCalls *calls;
static int submitted, ended;
static uint32_t stop_at;		/* the call whose end gives all up; 0: none */

static void submit(GBytes *arg);

static void on_call(GBytes *answer, const GError *error, gpointer data)
{
	bool *once = data;

	CHECK(!answer == !!error && !*once);
	*once = true;
	ended++;
	/* Both are allowed from here. */
	if (ended == (int)stop_at && calls)
		rvmrpc_calls_free(g_steal_pointer(&calls));
	else if (calls && submitted < CALLS && ended % 3 == 0)
		submit(NULL);
}

static bool done[CALLS];

static void submit(GBytes *arg)
{
	rvmrpc_calls_submit(calls, RVMRPC_MOD_ECHO, 0, arg, 1000, on_call, &done[submitted++]);
}

static void ask_at_once(RvmrpcConn *conn, GMainContext *context)
{
	GBytes *arg = g_bytes_new_static("argument", 8);
	GError *error = NULL;

	memset(done, 0, sizeof(done));
	submitted = ended = 0;
	stop_at = input_u8(&in) % 8;
	calls = rvmrpc_calls_new(conn, context, &error);
	CHECK(calls && !error);
	for (int i = input_u8(&in) % (CALLS / 2); i >= 0; i--)
		submit(arg);
	for (int i = 0; i < TURNS && ended < submitted; i++)
		turn(context);
	if (calls)
		rvmrpc_calls_free(g_steal_pointer(&calls));
	CHECK(ended == submitted);
	g_bytes_unref(arg);
}

/* ---- Tunnels ---- */

static void on_link_ended(const GError *error, gpointer data)
{
	bool *once = data;

	(void)error;
	CHECK(!*once);
	*once = true;
}

/* The client's side of a link: a socket, or a pipe out, that has something to send. */
static int open_client(bool pipes, int files[2])
{
	static const uint8_t words[1000];
	int ends[2], out[2];
	uint32_t how;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	CHECK(send(ends[1], words, input_u8(&in) * 4 % sizeof(words), MSG_NOSIGNAL) >= 0);
	how = input_u8(&in);
	if (how & 1)
		CHECK(shutdown(ends[1], how & 6 ? SHUT_WR : SHUT_RDWR) == 0);
	files[0] = files[1] = ends[0];
	if (pipes) {
		CHECK(pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0);
		close(out[0]);
		files[1] = out[1];
	}
	return ends[1];
}

static void join(GMainContext *context)
{
	const uint32_t links = 1 + input_u8(&in) % LINKS;
	RvmrpcTunnel *tunnel = rvmrpc_tunnel_new("fuzz", context);
	bool link_done[LINKS] = { false };
	int clients[LINKS], files[2];
	RvmrpcEndpoint to = { .port = 1 };
	GError *error = NULL;

	if (input_u8(&in) % 4 == 0)
		check_error(rvmrpc_tunnel_check(tunnel, &to, 1000, NULL, &error), &error);
	answer_next = true;
	for (uint32_t i = 0; i < links; i++) {
		clients[i] = open_client(input_u8(&in) % 8 == 0, files);
		rvmrpc_tunnel_join(tunnel, &to, files[0], files[1], on_link_ended, &link_done[i]);
		for (uint32_t turns = input_u8(&in) % 32; turns; turns--)
			turn(context);
	}
	for (int i = 0; i < TURNS && in.left; i++)
		turn(context);
	answer_next = false;
	rvmrpc_tunnel_free(tunnel);
	for (uint32_t i = 0; i < links; i++)
		close(clients[i]);
}

/* What a user says; what is taken is the same once more. */
static void parse(void)
{
	char text[64] = "";
	RvmrpcEndpoint endpoint, again;
	GError *error = NULL;
	gboolean ok;
	char *said;

	input_bytes(&in, text, sizeof(text) - 1);
	ok = rvmrpc_parse_endpoint(text, &endpoint, &error);
	CHECK(ok == !error);
	g_clear_error(&error);
	if (!ok)
		return;
	said = rvmrpc_endpoint_text(&endpoint);
	CHECK(rvmrpc_parse_endpoint(said, &again, NULL));
	CHECK(memcmp(&endpoint, &again, sizeof(again)) == 0);
	g_free(said);
}

static void connected(GMainContext *context, bool at_once)
{
	RvmrpcVm *vm = new_vm();
	GError *error = NULL;
	RvmrpcConn *conn;

	answer_next = at_once;
	conn = rvmrpc_connect(vm, 1000, NULL, &error);
	answer_next = false;
	check_error(conn != NULL, &error);
	if (conn && at_once) {
		ask_at_once(conn, context);
	} else if (conn) {
		for (int i = 0; i < 8; i++)
			ask(conn);
		rvmrpc_conn_free(conn);
	}
	rvmrpc_vm_unref(vm);
}

static int lowest_free(void)
{
	int fd = dup(STDERR_FILENO);

	CHECK(fd >= 0 && close(fd) == 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	GMainContext *context = g_main_context_new();
	const int free_before = lowest_free();
	uint32_t kind;

	g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING);
	signal(SIGPIPE, SIG_IGN);
	in = (struct input) { data, size };
	kind = input_u8(&in) % 8;
	if (kind == 0)
		parse();
	else if (kind < 4)
		connected(context, kind == 1);
	else
		join(context);
	while (npeers) {
		CHECK(close(peers[--npeers].fd) == 0);
		g_byte_array_unref(peers[npeers].asked);
	}
	CHECK(lowest_free() == free_before);
	g_main_context_unref(context);
	return 0;
}
