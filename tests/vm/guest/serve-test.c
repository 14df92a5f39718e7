// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * serve-test serve NAME [NUMBER]: serves procedures that behave as they are called.
 * serve-test check: what the device refuses; silent when all is as it should be.
 * serve-test fuzz NAME SECONDS: serves while threads of it read, write and ask the device for nonsense.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "rvmrpc-guest.h"

enum { ECHO, DIE, NEVER, BIG, TWICE, MALFORMED, REFUSE };

static const struct rvmrpc_serve_proc procs[] = {
	{ ECHO, RVMRPC_PROC_READ_ONLY, "echo" }, { DIE, 0, "die" }, { NEVER, 0, "never" }, { BIG, 0, "big" },
	{ TWICE, 0, "twice" }, { MALFORMED, 0, "malformed" }, { REFUSE, 0, "refuse" },
};

static struct rvmrpc_serve_module module = { .version = 3, .procs = procs, .nprocs = sizeof(procs) / sizeof(procs[0]) };
static uint64_t buffer[(RVMRPC_SERVE_BUFFER + 7) / 8], large[RVMRPC_SERVE_BUFFER / 8];

#define EXPECT(what, error) expect(what, error, #what)
static void *volatile nowhere = (void *)8;
static int failed;

static void expect(long got, int error, const char *what)
{
	if ((error && (got >= 0 || errno != error)) || (!error && got < 0)) {
		warn("%s is %ld, not error %d", what, got, error);
		failed = 1;
	}
}

static long put(int fd, uint64_t id, uint32_t status, uint32_t length, size_t really)
{
	struct rvmrpc_serve_answer *answer = (void *)large;

	*answer = (struct rvmrpc_serve_answer){ id, status, length };
	return write(fd, answer, really);
}

static void malformed(int fd, uint64_t id)
{
	size_t head = sizeof(struct rvmrpc_serve_answer);

	EXPECT(put(fd, id, 0, 0, head - 1), EINVAL);
	EXPECT(put(fd, id, 0, 0, 0), EINVAL);
	EXPECT(put(fd, id, 0, 8, head), EINVAL);
	EXPECT(put(fd, id, 0, 0, head + 8), EINVAL);
	EXPECT(put(fd, id, 0, 0xffffffff, head + 8), EINVAL);
	EXPECT(put(fd, id, RVMRPC_STATUS_NOT_CONNECTED, 0, head), EINVAL);
	EXPECT(put(fd, id, RVMRPC_STATUS_TIMED_OUT, 0, head), EINVAL);
	EXPECT(put(fd, id, 0xffffffff, 0, head), EINVAL);
	EXPECT(put(fd, id, RVMRPC_STATUS_GARBAGE_ARGS, 8, head + 8), EINVAL);
	EXPECT(put(fd, id + 1, 0, 0, head), ENOENT);
	EXPECT(put(fd, 0, 0, 0, head), ENOENT);
	EXPECT(write(fd, nowhere, head), EFAULT);
}

static void serve_one(int fd, struct rvmrpc_serve_request *request)
{
	size_t head = sizeof(struct rvmrpc_serve_answer);
	uint64_t id = request->id;

	failed = 0;
	switch (request->procedure) {
	case DIE:
		_exit(3);
	case NEVER:
		return;
	case BIG:
		EXPECT(put(fd, id, 0, RVMRPC_SLOT_BYTES_MAX, head + RVMRPC_SLOT_BYTES_MAX), EMSGSIZE);
		EXPECT(put(fd, id, 0, 0, head), ENOENT);
		return;
	case TWICE:
		EXPECT(put(fd, id, 0, 0, head), 0);
		EXPECT(put(fd, id, 0, 0, head), ENOENT);
		return;
	case MALFORMED:
		malformed(fd, id);
		break;
	case REFUSE:
		rvmrpc_serve_answer(fd, id, RVMRPC_STATUS_GARBAGE_ARGS, NULL, 0);
		return;
	}
	rvmrpc_serve_answer(fd, id, failed ? RVMRPC_STATUS_SYSTEM_ERROR : RVMRPC_STATUS_OK, rvmrpc_serve_argument(request),
			    failed ? 0 : request->length);
}

static int open_as(const char *name, uint32_t number)
{
	int fd;

	module.name = name;
	module.number = number;
	fd = rvmrpc_serve_open(&module, &number);
	if (fd < 0)
		errx(1, "%s: %s", name, strerror(-fd));
	printf("%#x\n", number);
	fflush(stdout);
	return fd;
}

static void serve(int fd)
{
	struct rvmrpc_serve_request *request;

	for (;;) {
		request = rvmrpc_serve_next(fd, buffer, sizeof(buffer));
		if (request)
			serve_one(fd, request);
	}
}

/* ---- check ---- */

static long enroll(int fd, uint32_t number, const char *name, uint16_t nprocs, const struct rvmrpc_serve_proc *list, uint64_t more)
{
	struct rvmrpc_serve_register description = {
		.number = number, .version = 1, .nprocs = nprocs, .procs = (uintptr_t)list, .reserved = { 0, more } };

	if (name)
		strcpy(description.name, name);
	else
		memset(description.name, 'n', sizeof(description.name));
	return ioctl(fd, RVMRPC_SERVE_REGISTER, &description);
}

static int check(void)
{
	static const struct rvmrpc_serve_proc two[] = { { 1, 0, "a" }, { 1, 0, "b" } }, named[] = { { 1, 0, "a" }, { 2, 0, "a" } };
	static const struct rvmrpc_serve_proc flags[] = { { 1, RVMRPC_PROC_ALLOWED, "a" } }, bad[] = { { 1, 0, "*" } };
	int fd = open(RVMRPC_SERVE_DEVICE, O_RDWR | O_NONBLOCK), other = open(RVMRPC_SERVE_DEVICE, O_RDWR);
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	EXPECT(fd, 0);
	EXPECT(other, 0);
	EXPECT(read(fd, buffer, sizeof(buffer)), ENOTCONN);
	EXPECT(put(fd, 1, 0, 0, sizeof(struct rvmrpc_serve_answer)), ENOTCONN);
	EXPECT(poll(&poller, 1, 0) == 1 && poller.revents == POLLERR ? 0 : -1, 0);
	EXPECT(ioctl(fd, 0xbe21, 0), ENOTTY);
	EXPECT(ioctl(fd, RVMRPC_SERVE_REGISTER, nowhere), EFAULT);
	EXPECT(enroll(fd, 0x200, "check", 1, nowhere, 0), EFAULT);
	EXPECT(enroll(fd, 0xff, "check", 1, procs, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "check", 0, procs, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "check", RVMRPC_SERVE_PROCS_MAX + 1, procs, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "check", 1, procs, 1), EINVAL);
	EXPECT(enroll(fd, 0x200, NULL, 1, procs, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "", 1, procs, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "a.b", 1, procs, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "check", 2, two, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "check", 2, named, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "check", 1, flags, 0), EINVAL);
	EXPECT(enroll(fd, 0x200, "check", 1, bad, 0), EINVAL);
	EXPECT(enroll(fd, 0, "echo", 1, procs, 0), EEXIST);
	EXPECT(enroll(fd, 0x200, "check", 1, procs, 0), 0);
	EXPECT(enroll(fd, 0x201, "check2", 1, procs, 0), EBUSY);
	EXPECT(enroll(other, 0x200, "check2", 1, procs, 0), EEXIST);
	EXPECT(enroll(other, 0, "check", 1, procs, 0), EEXIST);
	EXPECT(enroll(other, 0, "check2", 1, procs, 0), 0);
	EXPECT(read(fd, buffer, sizeof(buffer)), EAGAIN);
	EXPECT(read(fd, buffer, 1), EAGAIN);
	EXPECT(poll(&poller, 1, 0) ? -1 : 0, 0);
	malformed(fd, 0);
	close(fd);
	fd = open(RVMRPC_SERVE_DEVICE, O_RDWR);
	EXPECT(enroll(fd, 0x200, "check", 1, procs, 0), 0);
	return failed;
}

/* ---- fuzz ---- */

static volatile uint64_t last_id;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static void *fuzz(void *opaque)
{
	uint64_t state = 88172645463325252ull + (uintptr_t)opaque * 7919, r, words[64];
	int fd = (int)(uintptr_t)opaque & 0xffff;
	size_t i;

	for (;;) {
		for (i = 0; i < 64; i++)
			words[i] = next_random(&state);
		r = next_random(&state);
		/* Mostly the right id and a small length, else nothing would get far. */
		if (r & 3)
			words[0] = last_id - (r >> 60 & 3);
		if (r & 12)
			words[1] = (r >> 32 & 7) << 3 << 32 | (r & 48 ? 0 : r >> 8 & 15);
		if (r >> 40 & 3)
			(void)!write(fd, r >> 42 & 15 ? words : (void *)r, r >> 43 & 7 ? 16 + (words[1] >> 32) : r >> 50 & 511);
		else if (!(r >> 44 & 0xff))
			(void)!read(fd, r >> 45 & 15 ? words : (void *)r, r >> 53 & 511);
		else
			ioctl(fd, r >> 46 & 1 ? RVMRPC_SERVE_REGISTER : r >> 32, words);
	}
	return NULL;
}

static void serve_fuzzed(int fd, int seconds)
{
	struct rvmrpc_serve_request *request;
	time_t end = time(NULL) + seconds;
	pthread_t thread;
	uintptr_t i;

	/* A wait would be a thread's that has nothing to fuzz. */
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (i = 1; i <= 3; i++) {
		if (pthread_create(&thread, NULL, fuzz, (void *)(i << 16 | fd)))
			errx(1, "no thread");
	}
	while (time(NULL) < end) {
		request = rvmrpc_serve_next(fd, buffer, sizeof(buffer));
		if (request) {
			last_id = request->id;
			rvmrpc_serve_answer(fd, request->id, 0, rvmrpc_serve_argument(request), request->length);
		}
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "check"))
		return check();
	if (argc == 4 && !strcmp(argv[1], "fuzz"))
		serve_fuzzed(open_as(argv[2], 0), atoi(argv[3]));
	if (argc < 3 || strcmp(argv[1], "serve"))
		errx(2, "usage: serve-test check | serve NAME [NUMBER] | fuzz NAME SECONDS");
	serve(open_as(argv[2], argc > 3 ? strtoul(argv[3], NULL, 0) : 0));
}
