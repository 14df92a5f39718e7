/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: module connect.
 *
 * Procedures, checks, the allow-list and the table of connections are here; sockets are the OS's.  A connection is named by
 * its session, which a client of the host has picked at random, and a number of the session's.  Nothing but a wait waits: it
 * tells each event once, and whoever lost its answer asks every connection anew.
 *
 * "Table lock" is a lock of the OS that may be taken wherever a socket tells of events; the core never sleeps with it.
 */
#ifndef RVMRPC_CONNECT_H
#define RVMRPC_CONNECT_H

#include "rvmrpc_server.h"

/* ---- connect_allow= ---- */

#define RVMRPC_CONNECT_RULES_MAX	64
#define RVMRPC_CONNECT_RULES_TEXT	1024	/* bytes, with the NUL */

struct rvmrpc_connect_rule {
	uint8_t address[16];	/* as in struct rvmrpc_connect_open_req */
	uint32_t bits;		/* of address that must be the same */
	bool any;		/* IPv4 and IPv6 */
	uint16_t first, last;	/* ports */
};

struct rvmrpc_connect_rules {
	struct rvmrpc_connect_rule rule[RVMRPC_CONNECT_RULES_MAX];
	uint32_t n;		/* 0: nothing is allowed */
	char text[RVMRPC_CONNECT_RULES_TEXT];
};

/*
 * Sets the rules: "*", an IPv4 address or an IPv6 address in brackets, perhaps "/" and bits; ":"; "*", a port or two with "-"
 * between them; with commas between the rules.  A newline at the text's end does not count.  OK; TOO_BIG; GARBAGE_ARGS:
 * *bad is where the first of them begins that is none.  The rules are as they were then.
 */
int rvmrpc_connect_rules_set(struct rvmrpc_connect_rules *rules, const char *text, uint32_t *bad);

bool rvmrpc_connect_rules_allow(const struct rvmrpc_connect_rules *rules, const uint8_t address[16], uint16_t port);

bool rvmrpc_connect_is_v4(const uint8_t address[16]);

/* ---- Connections ---- */

#define RVMRPC_CONNECTIONS_MAX		1024

/* A part of the OS's own. */
struct rvmrpc_connection {
	uint64_t session;
	uint32_t number;
	uint32_t events;	/* RVMRPC_CONNECT_READ, _WRITE: not told yet; table lock */
	uint64_t seen_ns;	/* when its client last spoke of it; table lock */

	/* The server thread's. */
	uint64_t sent;		/* bytes that the socket took */
	uint64_t received;	/* bytes that its client has, which the socket has let go */
	uint64_t told;		/* those, and what the last answer had */
	uint32_t failed;	/* for good */
	bool finished;		/* the socket knows that no more is sent */
};

struct rvmrpc_connections {
	struct rvmrpc_connection *at[RVMRPC_CONNECTIONS_MAX];	/* table lock, as the next */
	uint32_t n;
};

/* All with the table lock. */

/* RVMRPC_CONNECT_FAILED_NOT: it is the table's.  _FULL: there are max; _OTHER: its session has one of this number. */
uint32_t rvmrpc_connections_add(struct rvmrpc_connections *table, struct rvmrpc_connection *c, uint32_t max,
				uint64_t now_ns);
/* NULL: there is none.  Its client has spoken of it. */
struct rvmrpc_connection *rvmrpc_connections_find(struct rvmrpc_connections *table, uint64_t session, uint32_t number,
						  uint64_t now_ns);
/* Takes one out that is of this session (0: any) and has this number (0: any); NULL: there is none. */
struct rvmrpc_connection *rvmrpc_connections_take(struct rvmrpc_connections *table, uint64_t session, uint32_t number);
/* Takes one out of which its client has not spoken since then. */
struct rvmrpc_connection *rvmrpc_connections_take_old(struct rvmrpc_connections *table, uint64_t since_ns);
/* Whether the session has events to be told. */
bool rvmrpc_connections_ready(const struct rvmrpc_connections *table, uint64_t session);
/* Tells them, as many as fit; speaks of all connections of the session.  Returns how many are there. */
uint32_t rvmrpc_connections_tell(struct rvmrpc_connections *table, uint64_t session, struct rvmrpc_connect_ready *to,
				 uint32_t max, uint64_t now_ns);

/* ---- Procedures ---- */

extern struct rvmrpc_module rvmrpc_connect_module;

/* Server thread or worker: by the rules that there are now. */
bool rvmrpc_os_connect_allowed(const uint8_t address[16], uint16_t port);

/*
 * Worker, may sleep: begins a connection that is allowed; one that is there already is no failure.  Does not wait for the
 * other end: an event tells of it.  RVMRPC_STATUS_OK and *failed, or BUSY.
 */
int rvmrpc_os_connect_open(const struct rvmrpc_connect_open_req *wanted, uint32_t *failed);

/* Server thread, for all that follows but the wait: none of them waits. */

/* NULL: there is none.  It stays until put(). */
struct rvmrpc_connection *rvmrpc_os_connect_get(uint64_t session, uint32_t number);
void rvmrpc_os_connect_put(struct rvmrpc_connection *c);

/* Takes as many bytes as fit.  Returns RVMRPC_CONNECT_FAILED_NOT or a reason. */
uint32_t rvmrpc_os_connect_send(struct rvmrpc_connection *c, const void *data, uint32_t length, uint32_t *taken);
void rvmrpc_os_connect_finish(struct rvmrpc_connection *c);
/*
 * Lets bytes go, then copies those behind them, which stay.  *length: room, and bytes.  *ended: there are none, and never
 * will be.
 */
uint32_t rvmrpc_os_connect_recv(struct rvmrpc_connection *c, uint64_t drop, void *to, uint32_t *length, bool *ended);

/* number 0: all of the session.  What was taken is still sent, unless reset. */
void rvmrpc_os_connect_close(uint64_t session, uint32_t number, bool reset);

/*
 * Worker, may sleep: until the session has events to be told, the time is over, or nobody waits any more.
 * RVMRPC_STATUS_OK and *n; BUSY: too many wait.
 */
int rvmrpc_os_connect_wait(uint64_t xid, uint64_t session, uint32_t ms, struct rvmrpc_connect_ready *to, uint32_t max,
			   uint32_t *n);

#endif /* RVMRPC_CONNECT_H */
