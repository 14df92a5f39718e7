/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second thread that writes random words into the window, for inputs that ask for it: what was checked changes before
 * it is used.  Such an input may not fail again when it is run alone; the others do.
 */
#ifndef RVMRPC_FUZZ_SCRIBBLER_H
#define RVMRPC_FUZZ_SCRIBBLER_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "input.h"

static struct {
	pthread_mutex_t lock;
	bool running;
	volatile uint32_t *words;	/* NULL: none */
	uint32_t count;
	uint64_t state;
} scribbler = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void scribble_burst(void)
{
	uint32_t i, at;

	for (i = 0; i < 32; i++) {
		scribbler.state = scribbler.state * 6364136223846793005u + 1442695040888963407u;
		at = (uint32_t)(scribbler.state >> 33);
		/* Mostly where words are, not payloads. */
		at = at & 7 ? at / 8 % 5 * 1024 + at / 64 % 128 : at / 8 % scribbler.count;
		scribbler.words[at] = at & 2 ? (uint32_t)(scribbler.state >> 20) % 80 : scribbler.words[at] + 1;
	}
}

static void *scribbler_run(void *unused)
{
	static const struct timespec pause = { .tv_nsec = 2000 };

	for (;;) {
		pthread_mutex_lock(&scribbler.lock);
		if (scribbler.words)
			scribble_burst();
		pthread_mutex_unlock(&scribbler.lock);
		nanosleep(&pause, NULL);
	}
	return unused;
}

/* After it with NULL the window is the caller's alone. */
static inline void scribbler_set(void *window, size_t bytes, uint32_t seed)
{
	pthread_t thread;

	pthread_mutex_lock(&scribbler.lock);
	scribbler.words = window;
	scribbler.count = (uint32_t)(bytes / 4);
	scribbler.state = seed;
	if (window && !scribbler.running) {
		scribbler.running = true;
		CHECK(!pthread_create(&thread, NULL, scribbler_run, NULL));
		pthread_detach(thread);
	}
	pthread_mutex_unlock(&scribbler.lock);
}

#endif /* RVMRPC_FUZZ_SCRIBBLER_H */
