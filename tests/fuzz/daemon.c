// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * rvmrpcd's VM, whole: QEMUs at its ivshmem socket, clients at its own, guests in the windows. Each sends what it likes,
 * in frames and out of them, and goes when it likes; the daemon starts anew in between. Whoever reads gets whole frames.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <json-glib/json-glib.h>

#include "input.h"
#include "rvmrpc_guest.h"
#include "rvmrpc_server.h"
#include "rvmrpc_socket.h"
#include "rvmrpc_tell.h"
#include "rvmrpcd.h"

#define WINDOW	(256 * 1024)
#define PEERS	4

struct qemu {
	int sock;	/* -1: none */
	int doorbell, interrupt;
	uint8_t *base;	/* NULL: it was refused */
	struct rvmrpc_guest guest;
	struct rvmrpc_teller teller;
	uint64_t told;
};

struct client {
	int sock;	/* -1: none */
	unsigned asked, answered;
	bool wild;	/* it sent what is no frame: who knows what it asked */
	GByteArray *in;
};

/* What systemd keeps. */
struct kept {
	bool used;
	unsigned world;
	int fds[NFDS];
};

static struct input in;
static struct qemu qemus[PEERS];
static struct client clients[PEERS];
static struct kept store[2 * PEERS];
static int listening[2] = { -1, -1 };	/* for QEMUs, for clients */
static Config config = { .kernel = KERNEL_OFF };
static Vm *vm;

static const VmConfig vm_settings = {
	.name = (char *)"fuzz",
	.uuid = (char *)"8d2b4b2e-5a3c-4a6e-9f00-0123456789ab",
	.ivshmem = (char *)"0",
	.socket = (char *)"1",
	.ivshmem_gid = (gid_t)-1,
	.socket_gid = (gid_t)-1,
	.window = { .size = WINDOW, .slots = 4, .request = 4096, .response = 16384, .spin_us = 0 },
};

/* ---- In the place of fdstore.c ---- */

void fdstore_keep(const char *name, unsigned world, const int fds[NFDS])
{
	struct kept *k = store;

	CHECK(strcmp(name, "fuzz") == 0);
	while (k->used)
		CHECK(++k < store + G_N_ELEMENTS(store));
	k->used = true;
	k->world = world;
	for (int i = 0; i < NFDS; i++)
		CHECK((k->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0)) >= 0);
}

static void forget(struct kept *k)
{
	for (int i = 0; i < NFDS; i++)
		close(k->fds[i]);
	k->used = false;
}

void fdstore_forget(const char *name, unsigned world)
{
	(void)name;
	for (size_t i = 0; i < G_N_ELEMENTS(store); i++) {
		if (store[i].used && store[i].world == world)
			forget(&store[i]);
	}
}

int fdstore_listening(const char *path)
{
	return fcntl(listening[path[0] - '0'], F_DUPFD_CLOEXEC, 0);
}

/* ---- The daemon ---- */

static void idle(Vm *which, void *opaque)
{
	CHECK(which == vm && opaque == &vm && vm_is_idle(vm));
}

static void start(void)
{
	vm = vm_new(&config, config_dup_vm(&vm_settings), idle, &vm, NULL);
	CHECK(vm);
}

/* It ends well or by a signal, and the next one has what was kept. */
static void restart(void)
{
	struct kept old[G_N_ELEMENTS(store)];

	vm_free(vm, true);
	start();
	memcpy(old, store, sizeof(old));
	memset(store, 0, sizeof(store));
	for (size_t i = 0; i < G_N_ELEMENTS(old); i++) {
		if (!old[i].used)
			continue;
		fdstore_keep("fuzz", old[i].world, old[i].fds);
		vm_adopt(vm, old[i].world, old[i].fds);
	}
}

static void run(void)
{
	for (int i = 0; i < 32 && g_main_context_iteration(NULL, FALSE); i++)
		;
}

static int connect_to(int which)
{
	struct sockaddr_un { sa_family_t family; char path[108]; } addr;
	socklen_t size = sizeof(addr);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK(fd >= 0 && getsockname(listening[which], (struct sockaddr *)&addr, &size) == 0);
	CHECK(connect(fd, (struct sockaddr *)&addr, size) == 0);
	run();
	return fd;
}

/* ---- QEMUs and their guests ---- */

/* One message of ivshmem's; *fd: what came with it, or -1.  False: no more come. */
static bool message(int sock, int64_t *value, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { value, sizeof(*value) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (n <= 0)
		return false;
	CHECK(n == sizeof(*value) && !(msg.msg_flags & MSG_CTRUNC));
	if (CMSG_FIRSTHDR(&msg))
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(*fd));
	*value = le64toh(*value);
	return true;
}

/* Its window, or that it is refused. */
static void qemu_comes(struct qemu *q)
{
	static const int64_t values[] = {
		0, RVMRPC_IVSHMEM_ID_GUEST, RVMRPC_IVSHMEM_ID_HOST, -1, RVMRPC_IVSHMEM_ID_GUEST,
	};
	int64_t value;
	int fds[5];

	memset(q, 0, sizeof(*q));
	q->sock = connect_to(0);
	CHECK(message(q->sock, &value, &fds[0]) && fds[0] < 0);
	if (value == INT64_MAX) {
		CHECK(!message(q->sock, &value, &fds[0]));
		return;
	}
	CHECK(value == values[0]);
	for (int i = 1; i < 5; i++) {
		CHECK(message(q->sock, &value, &fds[i]));
		CHECK(value == values[i] && (fds[i] >= 0) == (i > 1));
	}
	q->doorbell = fds[2];
	q->interrupt = fds[4];
	q->base = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, fds[3], 0);
	CHECK(q->base != MAP_FAILED);
	close(fds[3]);
	rvmrpc_guest_init(&q->guest, q->base, WINDOW);
	rvmrpc_tell_init(&q->teller, q->base, WINDOW);
}

static void qemu_goes(struct qemu *q)
{
	if (q->sock < 0)
		return;
	close(q->sock);
	q->sock = -1;
	if (q->base) {
		munmap(q->base, WINDOW);
		close(q->doorbell);
		close(q->interrupt);
	}
}

static void ring(const struct qemu *q)
{
	const uint64_t one = 1;

	CHECK(write(q->doorbell, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
	run();
}

static void guest_greets(struct qemu *q)
{
	char release[64];
	uint32_t status;

	input_bytes(&in, release, sizeof(release) - 1);
	release[sizeof(release) - 1] = 0;
	rvmrpc_tell_close(&q->teller);
	rvmrpc_guest_hello(&q->guest, input_u8(&in) + 1, input_u8(&in) % 4, release);
	ring(q);
	if (rvmrpc_guest_answered(&q->guest, &status) != RVMRPC_ANSWER_OPEN)
		return;
	q->told = 0;
	rvmrpc_tell_open(&q->teller, &q->guest);
}

/* A good part of the guest's list but for a few bytes, which the daemon asks for by itself; its length. */
static uint32_t write_list(void *to)
{
	uint32_t n = input_u8(&in) % 16;
	struct rvmrpc_list head = { .count = n, .total = n };
	struct rvmrpc_list_entry e;

	for (uint32_t i = 0; i < n; i++) {
		memset(&e, 0, sizeof(e));
		e.kind = i % 4 ? RVMRPC_LIST_PROCEDURE : RVMRPC_LIST_MODULE;
		e.number = i;
		e.generation = 1;
		input_bytes(&in, e.name, input_u8(&in) % sizeof(e.name));
		input_corrupt(&in, &e, sizeof(e));
		memcpy((char *)to + sizeof(head) + i * sizeof(e), &e, sizeof(e));
	}
	input_corrupt(&in, &head, sizeof(head));
	memcpy(to, &head, sizeof(head));
	return sizeof(head) + n * sizeof(e);
}

/* Any answer to the oldest request. */
static void guest_answers(struct qemu *q)
{
	struct rvmrpc_taken t;
	struct rvmrpc_hdr reply;
	uint32_t room;

	if (q->guest.state != RVMRPC_GUEST_OPEN || !rvmrpc_guest_alive(&q->guest) || !rvmrpc_guest_take(&q->guest, &t))
		return;
	room = q->guest.layout.res_bytes;
	reply = t.hdr;
	reply.timeout_ms = 0;
	reply.list = 0;
	reply.status = input_u8(&in) % 8 ? RVMRPC_STATUS_OK : input_u8(&in);
	if (t.hdr.module == RVMRPC_MOD_CORE && input_u8(&in) % 4) {
		reply.length = write_list(rvmrpc_guest_res(&q->guest, t.slot));
	} else {
		reply.length = input_u8(&in) * 8 % (room + 1);
		input_bytes(&in, rvmrpc_guest_res(&q->guest, t.slot), reply.length);
	}
	input_corrupt(&in, &reply, sizeof(reply));
	rvmrpc_guest_publish(&q->guest, t.slot, t.seq, &reply);
	ring(q);
}

static void guest_tells(struct qemu *q)
{
	const uint32_t module = input_u8(&in) % 2 ? RVMRPC_MOD_CORE : RVMRPC_MOD_USER;
	struct rvmrpc_event_writer e;
	char text[64];

	rvmrpc_event_begin(&e, module, (uint16_t)(input_u8(&in) % 10), 1);
	for (uint32_t n = input_u8(&in) % 4; n; n--) {
		input_bytes(&in, text, sizeof(text));
		rvmrpc_event_string(&e, (uint16_t)(input_u8(&in) % 12), text, input_u8(&in) % sizeof(text));
	}
	rvmrpc_event_end(&e);
	input_corrupt(&in, &e.event, sizeof(e.event));
	e.event.record.length %= RVMRPC_EVENT_RECORD_MAX + 1;
	q->told += 1 + (input_u8(&in) % 8 == 7) * input_u8(&in);
	rvmrpc_tell(&q->teller, rvmrpc_tell_epoch(&q->teller), q->told, &e);
	ring(q);
}

/* Of the first pages, which have the words, or of any. */
static void guest_writes(struct qemu *q)
{
	uint32_t at = input_u8(&in) % 2 ? input_u32(&in) % (WINDOW / 4) :
		      input_u8(&in) % 5 * 1024 + input_u8(&in) % 128;

	((volatile uint32_t *)q->base)[at] = input_u8(&in) % 2 ? input_u32(&in) : input_u8(&in);
	if (input_u8(&in) % 2)
		ring(q);
}

static void qemu_acts(struct qemu *q, uint32_t what)
{
	char bytes[16];

	if (q->sock < 0) {
		qemu_comes(q);
	} else if (what == 0 || !q->base) {
		qemu_goes(q);
	} else if (what == 1) {
		input_bytes(&in, bytes, sizeof(bytes));
		send(q->sock, bytes, input_u8(&in) % sizeof(bytes), MSG_NOSIGNAL);
	} else if (what == 2) {
		guest_greets(q);
		/* The daemon asks for its list at once. */
		if (input_u8(&in) % 2)
			guest_answers(q);
	} else if (what == 3) {
		guest_answers(q);
	} else if (what == 4) {
		guest_tells(q);
	} else if (what == 5) {
		rvmrpc_guest_bye(&q->guest);
		ring(q);
	} else {
		guest_writes(q);
	}
	run();
}

/* ---- Clients ---- */

static void check_json(const uint8_t *text, size_t size)
{
	JsonParser *parser = json_parser_new();

	CHECK(g_utf8_validate((const char *)text, (gssize)size, NULL));
	CHECK(json_parser_load_from_data(parser, (const char *)text, (gssize)size, NULL));
	CHECK(JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser)));
	g_object_unref(parser);
}

/* Takes a whole frame from what came.  False: there is none. */
static bool client_frame(struct client *c)
{
	struct rvmrpc_sock_hdr hdr;

	if (c->in->len < sizeof(hdr))
		return false;
	memcpy(&hdr, c->in->data, sizeof(hdr));
	CHECK(hdr.magic == RVMRPC_SOCK_MAGIC && hdr.version == RVMRPC_SOCK_VERSION);
	CHECK(hdr.length <= RVMRPC_SOCK_PAYLOAD_MAX);
	CHECK(hdr.type >= RVMRPC_SOCK_ANSWER && hdr.type <= RVMRPC_SOCK_ERROR);
	if (c->in->len < sizeof(hdr) + hdr.length)
		return false;
	if (hdr.type == RVMRPC_SOCK_INFO || hdr.type == RVMRPC_SOCK_EVENT)
		check_json(c->in->data + sizeof(hdr), hdr.length);
	if (hdr.type == RVMRPC_SOCK_ANSWER) {
		CHECK(hdr.status <= RVMRPC_STATUS_MAX && (!hdr.status || !hdr.length));
		CHECK(++c->answered <= c->asked || c->wild);
	}
	g_byte_array_remove_range(c->in, 0, sizeof(hdr) + hdr.length);
	return true;
}

static void client_reads(struct client *c)
{
	uint8_t bytes[8192];
	ssize_t n;

	while ((n = recv(c->sock, bytes, sizeof(bytes), 0)) > 0)
		g_byte_array_append(c->in, bytes, (guint)n);
	while (client_frame(c))
		;
	run();
}

static void client_sends(struct client *c, bool raw)
{
	uint8_t bytes[sizeof(struct rvmrpc_sock_hdr) + 256];
	struct rvmrpc_sock_hdr hdr = {
		.magic = RVMRPC_SOCK_MAGIC,
		.version = RVMRPC_SOCK_VERSION,
		.type = (uint16_t)(RVMRPC_SOCK_SUBMIT + input_u8(&in) % 4),
		.cookie = input_u8(&in) % 8,
	}, good;
	size_t length = raw ? 0 : sizeof(hdr);

	if (hdr.type == RVMRPC_SOCK_SUBMIT) {
		hdr.length = input_u8(&in);
		hdr.module = input_u8(&in);
		hdr.procedure = input_u8(&in);
		/* 1 ms: some end by their deadline. */
		hdr.timeout_ms = input_u8(&in) % 2 * 1000 + 1;
	}
	good = hdr;
	input_corrupt(&in, &hdr, sizeof(hdr));
	c->wild |= raw || memcmp(&hdr, &good, sizeof(hdr)) != 0;
	memcpy(bytes, &hdr, length);
	input_bytes(&in, bytes + length, hdr.length % 256);
	length += hdr.length % 256;
	c->asked++;
	c->wild |= send(c->sock, bytes, length, MSG_NOSIGNAL) != (ssize_t)length;
	run();
}

static void client_goes(struct client *c)
{
	if (c->sock < 0)
		return;
	close(c->sock);
	c->sock = -1;
	g_byte_array_unref(c->in);
}

static void client_acts(struct client *c, uint32_t what)
{
	if (c->sock < 0)
		*c = (struct client) { .sock = connect_to(1), .in = g_byte_array_new() };
	else if (what == 0)
		client_goes(c);
	else if (what == 1)
		shutdown(c->sock, SHUT_WR);
	else if (what < 4)
		client_reads(c);
	else
		client_sends(c, what == 4);
	run();
}

/* ---- One input ---- */

static GLogWriterOutput say_nothing(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer opaque)
{
	(void)fields;
	(void)n;
	(void)opaque;
	CHECK(!(level & (G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR)));
	return G_LOG_WRITER_HANDLED;
}

static void once(void)
{
	const sa_family_t unnamed = AF_UNIX;

	if (listening[0] >= 0)
		return;
	g_log_set_writer_func(say_nothing, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		listening[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		/* A name that the kernel chooses. */
		CHECK(bind(listening[i], (const struct sockaddr *)&unnamed, sizeof(unnamed)) == 0);
		CHECK(listen(listening[i], 64) == 0);
	}
}

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 128; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int open_before;

	once();
	run();
	open_before = count_open();
	in = (struct input) { data, size };
	for (int i = 0; i < PEERS; i++)
		qemus[i].sock = clients[i].sock = -1;
	start();
	while (in.left) {
		uint32_t op = input_u8(&in), who = op >> 3 & 3;

		if (op == 255)
			restart();
		else if (op & 0x20)
			client_acts(&clients[who], op & 7);
		else
			qemu_acts(&qemus[who], op & 7);
	}
	run();
	for (int i = 0; i < PEERS; i++) {
		client_goes(&clients[i]);
		qemu_goes(&qemus[i]);
	}
	run();
	vm_free(vm, false);
	for (size_t i = 0; i < G_N_ELEMENTS(store); i++)
		CHECK(!store[i].used);
	/* No descriptor is left open. */
	CHECK(count_open() == open_before);
	return 0;
}
