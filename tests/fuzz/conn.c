// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * librvmrpc's connections: whatever a VM's socket or a monitor says, in frames, in lines and in neither, the library
 * ends with an answer or an error, and its texts are UTF-8. All that is said is there before it is read, so nothing waits.
 */
#include <unistd.h>
#include "private.h"
#include "rvmrpc_socket.h"
#include "said.h"

static struct input in;
static int peer = -1;

/* Where a % is comes any value, right or of another type. */
static const char *const infos[] = {
	"{\"protocol\":%,\"vm\":%,\"rvmrpc\":%}",
	"{\"vm\":{\"name\":%,\"uuid\":%,\"pid\":%,\"running\":%},\"rvmrpc\":{\"state\":%,\"os\":%,\"release\":%,"
	"\"epoch\":%,\"abi-version\":%,\"last-seen-ms\":%,\"wait\":%,\"proxy\":%,\"gate\":%,\"slots\":%,"
	"\"modules\":%,\"stats\":%}}",
	"{\"vm\":{\"name\":\"fuzz\"},\"rvmrpc\":{\"state\":\"connected\",\"modules\":[{\"number\":%,\"name\":%,"
	"\"version\":%,\"procedures\":[{\"number\":%,\"name\":%,\"read-only\":%}]}],\"stats\":{\"calls\":%,"
	"\"latency-us\":[%,%]}}}",
};

static const char *const lines[] = {
	"{\"QMP\":{\"version\":%}}\n",
	"{\"id\":1,\"return\":%}\n",
	"{\"id\":2,\"return\":{\"running\":%,\"status\":%,\"data\":%,\"elapsed-ns\":%}}\n",
	"{\"id\":3,\"return\":{\"state\":%,\"os\":%,\"release\":%,\"epoch\":%,\"modules\":%,\"stats\":%}}\n",
	"{\"id\":4,\"return\":{\"status\":%,\"data\":%}}\n",
	"{\"id\":2,\"error\":{\"class\":%,\"desc\":%}}\n",
	"{\"event\":%,\"data\":%}\n",
	"{\"id\":%,\"return\":%,\"error\":%}\n",
};

static const char *const values[] = {
	"1", "\"fuzz\"", "\"ok\"", "\"connected\"", "{}", "[]", "null", "true", "-1", "1.5e300",
	"18446744073709551615", "[{}]", "[[1]]", "\"\"", "\"AAECAw==\"", "\"RVMRPC_X\"", "\"CommandNotFound\"",
};

static void say_frame(GByteArray *said, const void *payload, guint length)
{
	struct rvmrpc_sock_hdr hdr = {
		.magic = RVMRPC_SOCK_MAGIC,
		.version = RVMRPC_SOCK_VERSION,
		.type = (uint16_t)(RVMRPC_SOCK_ANSWER + input_u8(&in) % 5),
		.length = length,
		.cookie = input_u8(&in) % 8,
		.status = input_u8(&in) % (RVMRPC_STATUS_MAX + 2),
	};

	input_corrupt(&in, &hdr, sizeof(hdr));
	g_byte_array_append(said, (const guint8 *)&hdr, sizeof(hdr));
	g_byte_array_append(said, payload, length);
}

static guint take_raw(uint8_t bytes[256])
{
	guint length = input_u8(&in);

	input_bytes(&in, bytes, length);
	return length;
}

/* Of a form, filled in, a few bytes become others. */
static GString *take_text(const char *form)
{
	GString *text = g_string_new(NULL);

	for (; *form; form++) {
		if (*form == '%')
			g_string_append(text, values[input_u8(&in) % G_N_ELEMENTS(values)]);
		else
			g_string_append_c(text, *form);
	}
	input_corrupt(&in, text->str, text->len);
	return text;
}

static void say(GByteArray *said)
{
	g_autoptr(GString) text = NULL;
	uint32_t kind = input_u8(&in) % 4;
	uint8_t bytes[256];

	if (kind < 2) {
		const guint length = take_raw(bytes);

		if (kind)
			say_frame(said, bytes, length);
		else
			g_byte_array_append(said, bytes, length);
	} else if (kind == 2) {
		text = take_text(infos[input_u8(&in) % G_N_ELEMENTS(infos)]);
		say_frame(said, text->str, text->len);
	} else {
		text = take_text(lines[input_u8(&in) % G_N_ELEMENTS(lines)]);
		g_byte_array_append(said, (const guint8 *)text->str, text->len);
	}
}

/* In the place of the library's, by the linker's --wrap. */
int __wrap_unix_connect(const char *path, const Until *until, GError **error);
int __wrap_unix_connect(const char *path, const Until *until, GError **error)
{
	g_autoptr(GByteArray) said = g_byte_array_new();
	int fd;

	(void)until;
	(void)error;
	CHECK(strcmp(path, "fuzz") == 0 && peer < 0);
	while (in.left && said->len < SAID_MAX)
		say(said);
	fd = said_connect(said, &peer);
	said_end(peer);
	return fd;
}

static void check_text(const char *text)
{
	CHECK(!text || g_utf8_validate(text, -1, NULL));
}

/* An answer or an error, and not both. */
static void check_error(gboolean ok, GError **error)
{
	CHECK(ok == !*error);
	check_text(*error ? (*error)->message : NULL);
	g_clear_error(error);
}

static void ask(RvmrpcConn *conn, uint32_t what)
{
	GBytes *arg = g_bytes_new_static("argument", 8), *answer = NULL;
	RvmrpcChannel *channel;
	GError *error = NULL;
	char *event;

	if (what == 0) {
		channel = rvmrpc_query(conn, 1000, NULL, &error);
		check_error(channel != NULL, &error);
		check_text(channel ? channel->release : NULL);
		g_clear_pointer(&channel, rvmrpc_channel_free);
	} else if (what == 1) {
		event = rvmrpc_next_event(conn, 1000, NULL, &error);
		check_error(event != NULL, &error);
		check_text(event);
		g_free(event);
	} else {
		answer = what == 2 ? rvmrpc_call(conn, 1, 2, arg, 1000, NULL, NULL, &error) :
			 rvmrpc_call_by_name(conn, "core", "null", arg, 1000, NULL, NULL, &error);
		check_error(answer != NULL, &error);
	}
	g_clear_pointer(&answer, g_bytes_unref);
	g_bytes_unref(arg);
}

static void connected(RvmrpcVm *vm, uint32_t order)
{
	GError *error = NULL;
	RvmrpcConn *conn = rvmrpc_connect(vm, 1000, NULL, &error);

	check_error(conn != NULL, &error);
	if (!conn)
		return;
	for (int i = 0; i < 4; i++)
		ask(conn, order >> 2 * i & 3);
	rvmrpc_conn_free(conn);
}

static void identified(RvmrpcVm *vm)
{
	const Until until = until_ms(1000, NULL);
	gboolean is_qmp = FALSE;
	GError *error = NULL;

	check_error(socket_identify(vm, &until, &is_qmp, &error), &error);
	check_text(vm->name);
	check_text(vm->uuid);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	RvmrpcVm *vm = vm_new();
	uint32_t kind, order;

	g_log_set_always_fatal(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING);
	in = (struct input) { data, size };
	kind = input_u8(&in);
	order = input_u8(&in);
	vm->label = g_strdup("fuzz");
	*(kind & 1 ? &vm->qmp : &vm->socket) = g_strdup("fuzz");
	if (kind & 2) {
		vm->of_folder = TRUE;
		vm->name = g_strdup("fuzz");
	}
	if (kind % 4 == 0 && kind & 4)
		identified(vm);
	else
		connected(vm, order);
	rvmrpc_vm_unref(vm);
	CHECK(close(peer) == 0);
	peer = -1;
	return 0;
}
