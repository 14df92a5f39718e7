// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QMP and QEMU's guest agent: a line of JSON each way.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "client.h"

static int fd;
static char buffer[65536];
static size_t filled;
static char line[65536];

/* The next line that is no event. */
static const char *read_line(void)
{
	for (;;) {
		char *end = memchr(buffer, '\n', filled);
		size_t length;
		ssize_t got;

		if (!end) {
			got = read(fd, buffer + filled, sizeof(buffer) - filled);
			if (got <= 0)
				errx(1, "the peer's socket closed");
			filled += got;
			continue;
		}
		length = end - buffer;
		memcpy(line, buffer, length);
		line[length] = 0;
		filled -= length + 1;
		memmove(buffer, end + 1, filled);
		if (!strstr(line, "\"event\":"))
			return line;
	}
}

static const char *ask(const char *text)
{
	const char *answer;

	write_all(fd, text, strlen(text));
	answer = read_line();
	if (!strstr(answer, "\"return\""))
		errx(1, "%.200s: %.400s", text, answer);
	return answer;
}

/* ---- QMP ---- */

void qmp_open(const char *path)
{
	fd = connect_unix(path);
	read_line();
	ask("{\"execute\": \"qmp_capabilities\"}\n");
}

void qmp_empty(void)
{
	ask("{\"execute\": \"query-name\"}\n");
}

void qmp_null(void)
{
	ask("{\"execute\": \"guest-kernel-call\", \"arguments\": {\"module\": \"core\", \"procedure\": \"null\"}}\n");
}

void qmp_meminfo(void)
{
	ask("{\"execute\": \"guest-meminfo\"}\n");
}

static const char *balloon_stats(void)
{
	return ask("{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/machine/peripheral/balloon0\", "
		   "\"property\": \"guest-stats\"}}\n");
}

void qmp_balloon(void)
{
	balloon_stats();
}

/* How old what one reads is: QEMU keeps what the guest told last. Taken at times that do not beat with its period. */
void balloon_age(const char *path, unsigned int n, uint64_t *out)
{
	static const char key[] = "\"last-update\": ";
	const struct timespec pause = { .tv_nsec = 37000000 };
	unsigned int i;

	qmp_open(path);
	for (i = 0; i < n; i++) {
		const char *at = strstr(balloon_stats(), key);
		struct timespec now;
		int64_t age;

		if (!at)
			errx(1, "no %s", key);
		clock_gettime(CLOCK_REALTIME, &now);
		age = (now.tv_sec - atoll(at + strlen(key))) * 1000000000ll + now.tv_nsec;
		out[i] = age > 0 ? age : 0;
		nanosleep(&pause, NULL);
	}
	close(fd);
	filled = 0;
}

/* ---- The guest agent ---- */

/* What a client before left unread ends with the answer to this. */
void qga_open(const char *path)
{
	char text[128], want[64];
	unsigned int id = getpid();

	fd = connect_unix(path);
	snprintf(text, sizeof(text), "{\"execute\": \"guest-sync\", \"arguments\": {\"id\": %u}}\n", id);
	snprintf(want, sizeof(want), "{\"return\": %u}", id);
	write_all(fd, text, strlen(text));
	while (strcmp(read_line(), want))
		;
}

void qga_ping(void)
{
	ask("{\"execute\": \"guest-ping\"}\n");
}

static long number_in(const char *answer, const char *key)
{
	const char *at = strstr(answer, key);

	if (!at)
		errx(1, "no %s in %.400s", key, answer);
	return atol(at + strlen(key));
}

void qga_read(void)
{
	char text[128];
	long handle;

	handle = number_in(ask("{\"execute\": \"guest-file-open\", \"arguments\": {\"path\": \"/proc/meminfo\"}}\n"),
			   "\"return\": ");
	snprintf(text, sizeof(text), "{\"execute\": \"guest-file-read\", \"arguments\": {\"handle\": %ld}}\n", handle);
	ask(text);
	snprintf(text, sizeof(text), "{\"execute\": \"guest-file-close\", \"arguments\": {\"handle\": %ld}}\n", handle);
	ask(text);
}

void qga_exec(void)
{
	char text[128];
	long pid;

	pid = number_in(ask("{\"execute\": \"guest-exec\", \"arguments\": {\"path\": \"/bin/cat\", "
			    "\"arg\": [\"/proc/meminfo\"], \"capture-output\": true}}\n"), "\"pid\": ");
	snprintf(text, sizeof(text), "{\"execute\": \"guest-exec-status\", \"arguments\": {\"pid\": %ld}}\n", pid);
	while (!strstr(ask(text), "\"exited\": true"))
		usleep(500);
}
