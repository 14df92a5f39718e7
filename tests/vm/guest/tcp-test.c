// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tcp-test ADDRESS PORT: a server of TCP, or of vsock if that is the address, a process for each connection; the first line that it gets says what it does:
 *   echo	sends back what follows; at its end ends
 *   count	takes all that follows, then answers with the number of bytes and a sum
 *   give N	sends N bytes of a pattern, ends, and waits for the other end
 *   quit	ends at once
 *   reset	breaks the connection
 *   hold	takes nothing for ever
 */
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

static uint8_t buffer[65536];

static void put(int fd, const void *data, size_t size)
{
	const uint8_t *at = data;
	ssize_t done;

	for (; size; at += done, size -= done) {
		done = write(fd, at, size);
		if (done <= 0)
			exit(1);
	}
}

static void echo(int fd)
{
	ssize_t got;

	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		put(fd, buffer, got);
}

/* The sum is zlib's CRC-32. */
static void count(int fd)
{
	uint32_t table[256], crc = ~0u, i, bit;
	unsigned long long bytes = 0;
	ssize_t got, at;

	for (i = 0; i < 256; i++) {
		table[i] = i;
		for (bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
	}
	while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
		for (at = 0; at < got; at++)
			crc = crc >> 8 ^ table[(uint8_t)(crc ^ buffer[at])];
		bytes += got;
	}
	dprintf(fd, "%llu %08x\n", bytes, ~crc);
}

/* 8 bytes of each number, so that nothing that is left out, repeated or moved looks right. */
static void give(int fd, uint64_t bytes)
{
	uint64_t *words = (uint64_t *)buffer, next = 0;
	size_t i, part;

	for (; bytes; bytes -= part) {
		for (i = 0; i < sizeof(buffer) / 8; i++)
			words[i] = next++;
		part = bytes < sizeof(buffer) ? bytes : sizeof(buffer);
		put(fd, buffer, part);
	}
	shutdown(fd, SHUT_WR);
	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
}

static void serve(int fd)
{
	const struct linger hard = { .l_onoff = 1 };
	char line[64];
	size_t n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	if (!strcmp(line, "echo")) {
		echo(fd);
	} else if (!strcmp(line, "count")) {
		count(fd);
	} else if (!strncmp(line, "give ", 5)) {
		give(fd, strtoull(line + 5, NULL, 10));
	} else if (!strcmp(line, "reset")) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	} else if (!strcmp(line, "hold")) {
		pause();
	}
}

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
	struct sockaddr_vm vm;
};

/* Its length. */
static socklen_t parse(const char *text, int port, union address *a)
{
	memset(a, 0, sizeof(*a));
	if (!strcmp(text, "vsock")) {
		a->vm.svm_family = AF_VSOCK;
		a->vm.svm_cid = VMADDR_CID_ANY;
		a->vm.svm_port = port;
		return sizeof(a->vm);
	}
	if (inet_pton(AF_INET, text, &a->four.sin_addr) == 1) {
		a->four.sin_family = AF_INET;
		a->four.sin_port = htons(port);
		return sizeof(a->four);
	}
	if (inet_pton(AF_INET6, text, &a->six.sin6_addr) != 1)
		errx(2, "no address: %s", text);
	a->six.sin6_family = AF_INET6;
	a->six.sin6_port = htons(port);
	return sizeof(a->six);
}

int main(int argc, char **argv)
{
	int one = 1, listener, fd;
	union address address;
	socklen_t length;

	if (argc != 3)
		errx(2, "usage: tcp-test ADDRESS PORT");
	signal(SIGCHLD, SIG_IGN);
	length = parse(argv[1], atoi(argv[2]), &address);
	listener = socket(address.any.sa_family, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, &address.any, length))
		err(1, "bind");
	if (listen(listener, 128) || daemon(0, 0))
		err(1, "listen");
	for (;;) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			continue;
		if (!fork()) {
			close(listener);
			serve(fd);
			exit(0);
		}
		close(fd);
	}
}
