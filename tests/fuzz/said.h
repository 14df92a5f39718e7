/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A host whose words are there before they are read. */
#ifndef RVMRPC_FUZZ_SAID_H
#define RVMRPC_FUZZ_SAID_H

#include <glib.h>
#include <sys/socket.h>
#include "input.h"

/* What fits into a socket's buffer, with room for one more frame. */
#define SAID_MAX	(96 * 1024)

/* The client's end of a connection, nonblocking: there it reads what was said. */
static inline int said_connect(const GByteArray *said, int *peer)
{
	int ends[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	CHECK(!said->len || send(ends[1], said->data, said->len, MSG_NOSIGNAL) == said->len);
	*peer = ends[1];
	return ends[0];
}

/* That was all: the client's requests find room, and its answers end. */
static inline void said_end(int peer)
{
	CHECK(shutdown(peer, SHUT_WR) == 0);
}

#endif /* RVMRPC_FUZZ_SAID_H */
