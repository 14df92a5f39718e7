// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's ledger and the plan of calls, for both clients of the soak.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "ledger.h"
#include "ledger_host.h"

#define NS_PER_S	1000000000ull
#define CONTROL_NS	(10 * NS_PER_MS)	/* between two looks of the control */
#define LATE_NS		(5 * NS_PER_MS)		/* of it that is worth a line */
#define LINE_BYTES	256
#define TEXT_MAX	100
#define PAYLOAD_MAX	(1u << 20)		/* a slot's, as the stand configures it */

static int host_fd = -1, guest_fd = -1;
static uint64_t next_id;	/* of the thread that calls */

uint64_t ledger_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

__attribute__((format(printf, 1, 2)))
static void note(const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	/* In one piece, by O_APPEND: the control writes, too. */
	if (n < 0 || n >= (int)sizeof(line) || write(host_fd, line, n) != n)
		err(1, "the ledger");
}

static void *control(void *unused)
{
	uint64_t wanted = ledger_now(), now;
	struct timespec t;

	(void)unused;
	for (;;) {
		wanted += CONTROL_NS;
		t.tv_sec = wanted / NS_PER_S;
		t.tv_nsec = wanted % NS_PER_S;
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
			;
		now = ledger_now();
		if (now - wanted >= LATE_NS)
			note("c %" PRIu64 " %" PRIu64 "\n", now, now - wanted);
		if (now > wanted)
			wanted = now;
	}
	return NULL;
}

void ledger_open(const char *host, const char *guest, uint32_t number)
{
	pthread_t thread;

	host_fd = open(host, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	guest_fd = open(guest, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
	if (host_fd < 0 || guest_fd < 0)
		err(1, "%s, %s", host, guest);
	next_id = (uint64_t)number << 32;
	errno = pthread_create(&thread, NULL, control, NULL);
	if (errno)
		err(1, "pthread_create");
}

uint64_t ledger_begin(uint32_t ms, uint32_t bytes)
{
	uint64_t id = ++next_id;

	note("b %" PRIx64 " %" PRIu64 " %u %u\n", id, ledger_now(), ms, bytes);
	return id;
}

void ledger_sent(uint64_t id, uint64_t ns)
{
	note("s %" PRIx64 " %" PRIu64 "\n", id, ns);
}

void ledger_cancelled(uint64_t id)
{
	note("k %" PRIx64 " %" PRIu64 "\n", id, ledger_now());
}

void ledger_end(uint64_t id, uint64_t ns, const char *status)
{
	struct stat st;

	if (fstat(guest_fd, &st))
		err(1, "fstat");
	note("e %" PRIx64 " %" PRIu64 " %s %" PRIu64 "\n", id, ns, status, (uint64_t)st.st_size);
}

const char *ledger_status(uint32_t status)
{
	static const char * const names[] = {
		"ok", "module-unavailable", "version-mismatch", "procedure-unavailable", "garbage-args", "too-big",
		"not-allowed", "busy", "not-connected", "stopped", "timed-out", "cancelled", "reset", "system-error" };

	return status < sizeof(names) / sizeof(*names) ? names[status] : "no-status";
}

void ledger_text(const char *text, uint32_t bytes)
{
	note("x %" PRIu64 " %.*s\n", ledger_now(), bytes < TEXT_MAX ? (int)bytes : TEXT_MAX, text);
}

/* ---- The plan ---- */

uint32_t plan_random(uint64_t *state, uint32_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)((*state >> 32) * below >> 32);
}

/* Of every size, small ones more often; each edge now and then. */
static uint32_t random_size(uint64_t *state, uint32_t head)
{
	static const uint32_t below[] = { 64, 64, 64, 64, 4096, 4096, 4096, 65536, 65536, PAYLOAD_MAX };
	static const uint32_t edges[] = { 0, 4096 - 16, 4096, 65536 - 16, 65536, PAYLOAD_MAX / 2, PAYLOAD_MAX - 17,
					  PAYLOAD_MAX - 16 };

	if (!plan_random(state, 20))
		return edges[plan_random(state, sizeof(edges) / sizeof(*edges))];
	return plan_random(state, below[plan_random(state, sizeof(below) / sizeof(*below))] - head);
}

void plan_next(uint64_t *state, struct plan *plan)
{
	static const uint32_t timeouts[] = { 20, 200, 1000, 5000, 5000, 5000 };
	uint32_t longest = timeouts[plan_random(state, sizeof(timeouts) / sizeof(*timeouts))];

	plan->procedure = plan_random(state, 3) ? LEDGER_QUICK : LEDGER_SLOW;
	plan->ms = plan->procedure == LEDGER_QUICK || plan_random(state, 2) ? 0 : plan_random(state, 300);
	plan->timeout = 1 + plan_random(state, longest);
	plan->bytes = random_size(state, sizeof(struct ledger_arg));
	/* Those of both, large, would be all that the channel has to do. */
	plan->answer = plan->bytes > 65536 ? plan_random(state, 4096) : random_size(state, sizeof(struct ledger_res));
	plan->cancel = plan_random(state, 20) ? 0 : 1 + plan_random(state, 100);
	plan->pause = plan_random(state, 8) ? plan_random(state, 2000) : plan_random(state, 200000);
}

uint64_t plan_argument(const struct plan *plan, uint64_t id, void *argument)
{
	struct ledger_arg arg = { .id = id, .ms = plan->ms, .answer = plan->answer };

	memcpy(argument, &arg, sizeof(arg));
	ledger_fill((char *)argument + sizeof(arg), plan->bytes, ~id);
	return ledger_digest(argument, sizeof(arg) + plan->bytes);
}

bool plan_matches(const struct plan *plan, uint64_t id, uint64_t digest, const void *answer, uint32_t bytes)
{
	struct ledger_res wanted = { .id = id, .digest = digest };
	uint32_t i, rest = bytes - sizeof(wanted);

	if (bytes != sizeof(wanted) + plan->answer || memcmp(answer, &wanted, sizeof(wanted)))
		return false;
	for (i = 0; i < rest; i += 8) {
		uint64_t word = ledger_word(id ^ digest, i / 8);

		if (memcmp((const char *)answer + sizeof(wanted) + i, &word, rest - i < 8 ? rest - i : 8))
			return false;
	}
	return true;
}
