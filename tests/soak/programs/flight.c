// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * soak-flight SOCKET LEDGER GUEST-LEDGER NUMBER SEED DEPTH: a client of a VM's socket with up to DEPTH calls at a time,
 * each by a random plan; comes again when the connection ends.  SIGTERM: no new calls, ends when the last one has.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "ledger.h"
#include "ledger_host.h"
#include "rvmrpc_socket.h"

#define DEPTH_MAX	16
#define FRAME_MAX	(sizeof(struct rvmrpc_sock_hdr) + RVMRPC_SOCK_PAYLOAD_MAX)
#define AGAIN_US	20000	/* between two connections */
#define LOOK_MS		50	/* longest sleep */

struct flight {
	struct plan plan;
	uint64_t id;		/* 0: none */
	uint64_t digest;
	uint64_t sent;		/* 0: not yet, all of it */
	uint64_t sent_at;	/* position in the stream at which it is */
	uint64_t cancel_at;	/* 0: never */
};

static struct flight flights[DEPTH_MAX];
static uint32_t depth;
static uint64_t seed;
static volatile sig_atomic_t ending;

/* What is to be written: frames of up to one call, and cancels. */
static char out[FRAME_MAX + DEPTH_MAX * sizeof(struct rvmrpc_sock_hdr)];
static size_t out_bytes, out_done;
static uint64_t written;	/* of the stream */
static char in[FRAME_MAX];
static size_t in_bytes;
static int fd = -1;
static uint64_t next_at;	/* when the next call begins */

static void on_term(int number)
{
	(void)number;
	ending = 1;
}

static void drop_connection(void)
{
	uint64_t now = ledger_now();
	uint32_t i;

	if (fd >= 0)
		close(fd);
	fd = -1;
	out_bytes = out_done = in_bytes = 0;
	for (i = 0; i < depth; i++) {
		if (flights[i].id)
			ledger_end(flights[i].id, now, "closed");
		flights[i].id = 0;
	}
}

static void come_again(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		err(1, "socket");
	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= (int)sizeof(address.sun_path))
		errx(1, "%s: too long for a socket", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		fd = -1;
		usleep(AGAIN_US);
		return;
	}
	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		err(1, "fcntl");
	written = 0;
}

/* ---- Requests ---- */

static void put_frame(uint16_t type, const struct flight *f, uint32_t length)
{
	struct rvmrpc_sock_hdr hdr = { .magic = RVMRPC_SOCK_MAGIC, .version = RVMRPC_SOCK_VERSION, .type = type,
				       .length = length, .cookie = f->id };

	if (type == RVMRPC_SOCK_SUBMIT) {
		hdr.module = MOD_LEDGER;
		hdr.procedure = f->plan.procedure;
		hdr.timeout_ms = f->plan.timeout;
	}
	memcpy(out + out_bytes, &hdr, sizeof(hdr));
	out_bytes += sizeof(hdr);
}

static void begin(struct flight *f)
{
	uint32_t length;

	plan_next(&seed, &f->plan);
	next_at = ledger_now() + f->plan.pause * 1000ull;
	length = sizeof(struct ledger_arg) + f->plan.bytes;
	f->id = ledger_begin(f->plan.timeout, length);
	put_frame(RVMRPC_SOCK_SUBMIT, f, length);
	f->digest = plan_argument(&f->plan, f->id, out + out_bytes);
	out_bytes += length;
	f->sent = 0;
	f->sent_at = written + out_bytes - out_done;
	f->cancel_at = f->plan.cancel ? ledger_now() + f->plan.cancel * NS_PER_MS : 0;
}

/* One call at a time is written; cancels go between. */
static void begin_due(void)
{
	uint32_t i;

	for (i = 0; i < depth && !ending && !out_bytes && ledger_now() >= next_at; i++) {
		if (!flights[i].id)
			begin(&flights[i]);
	}
}

static void cancel_due(void)
{
	uint64_t now = ledger_now();
	uint32_t i;

	for (i = 0; i < depth && !out_bytes; i++) {
		struct flight *f = &flights[i];

		if (!f->id || !f->sent || !f->cancel_at || now < f->cancel_at)
			continue;
		ledger_cancelled(f->id);
		put_frame(RVMRPC_SOCK_CANCEL, f, 0);
		f->cancel_at = 0;
	}
}

/* False: the connection has ended. */
static bool write_some(void)
{
	ssize_t n = send(fd, out + out_done, out_bytes - out_done, MSG_NOSIGNAL);
	uint64_t now = ledger_now();
	uint32_t i;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	out_done += n;
	written += n;
	for (i = 0; i < depth; i++) {
		if (flights[i].id && !flights[i].sent && written >= flights[i].sent_at) {
			flights[i].sent = now;
			ledger_sent(flights[i].id, now);
		}
	}
	if (out_done == out_bytes)
		out_bytes = out_done = 0;
	return true;
}

/* ---- Answers ---- */

static void answered(const struct rvmrpc_sock_hdr *hdr, const char *payload)
{
	uint64_t now = ledger_now();
	uint32_t i;

	for (i = 0; i < depth; i++) {
		struct flight *f = &flights[i];
		const char *status = ledger_status(hdr->status);

		if (!f->id || f->id != hdr->cookie)
			continue;
		if (!hdr->status && !plan_matches(&f->plan, f->id, f->digest, payload, hdr->length))
			status = "wrong-answer";
		ledger_end(f->id, now, status);
		f->id = 0;
		return;
	}
	ledger_text("an answer to no call", 20);
	errx(1, "an answer to no call: %llx", (unsigned long long)hdr->cookie);
}

static void take_frames(void)
{
	struct rvmrpc_sock_hdr hdr;

	for (;;) {
		if (in_bytes < sizeof(hdr))
			return;
		memcpy(&hdr, in, sizeof(hdr));
		if (hdr.magic != RVMRPC_SOCK_MAGIC || hdr.length > RVMRPC_SOCK_PAYLOAD_MAX)
			errx(1, "no frame");
		if (in_bytes < sizeof(hdr) + hdr.length)
			return;
		if (hdr.type == RVMRPC_SOCK_ANSWER) {
			answered(&hdr, in + sizeof(hdr));
		} else {
			ledger_text(in + sizeof(hdr), hdr.length);
		}
		in_bytes -= sizeof(hdr) + hdr.length;
		memmove(in, in + sizeof(hdr) + hdr.length, in_bytes);
	}
}

static bool read_some(void)
{
	ssize_t n = recv(fd, in + in_bytes, sizeof(in) - in_bytes, 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (!n)
		return false;
	in_bytes += n;
	take_frames();
	return true;
}

static bool in_flight(void)
{
	uint32_t i;

	for (i = 0; i < depth; i++) {
		if (flights[i].id)
			return true;
	}
	return false;
}

static int sleep_ms(void)
{
	uint64_t now = ledger_now();
	uint64_t ms = next_at > now ? (next_at - now) / NS_PER_MS : 0;
	uint32_t i;

	for (i = 0; i < depth && flights[i].id; i++)
		;
	/* With no room for another call only a cancel may be due. */
	return i == depth || ms > LOOK_MS ? LOOK_MS / 5 : (int)ms + 1;
}

static void turn(void)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	bool alive = true;

	begin_due();
	cancel_due();
	if (out_bytes)
		p.events |= POLLOUT;
	if (poll(&p, 1, sleep_ms()) < 0 && errno != EINTR)
		err(1, "poll");
	if (p.revents & (POLLIN | POLLHUP | POLLERR))
		alive = read_some();
	if (alive && (p.revents & POLLOUT))
		alive = write_some();
	if (!alive)
		drop_connection();
}

int main(int argc, char **argv)
{
	if (argc != 7)
		errx(2, "usage: soak-flight SOCKET LEDGER GUEST-LEDGER NUMBER SEED DEPTH");
	seed = strtoull(argv[5], NULL, 0) | 1;
	depth = atoi(argv[6]);
	if (!depth || depth > DEPTH_MAX)
		errx(2, "%s: 1 to %d", argv[6], DEPTH_MAX);
	signal(SIGTERM, on_term);
	ledger_open(argv[2], argv[3], strtoul(argv[4], NULL, 0));
	while (!ending || in_flight()) {
		if (fd < 0)
			come_again(argv[1]);
		else
			turn();
	}
	return 0;
}
