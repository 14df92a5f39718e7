/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC: frames on the UNIX socket of a VM (-device rvmrpc,socket=PATH).
 *
 * Host only; the guest never sees it.  Client and server are on one machine, so the byte order is its own, which is
 * little-endian.  Every frame is a header and length bytes of payload.  A client may have many calls in flight; answers
 * come in any order and carry the cookie of their request.  docs/socket.md is the text to it.
 */
#ifndef RVMRPC_SOCKET_H
#define RVMRPC_SOCKET_H

#include "rvmrpc_abi.h"

#define RVMRPC_SOCK_MAGIC		0x534d5652u	/* "RVMS" */
#define RVMRPC_SOCK_VERSION		1
#define RVMRPC_SOCK_PAYLOAD_MAX		RVMRPC_SLOT_BYTES_MAX

/* From the client. */
#define RVMRPC_SOCK_SUBMIT		1	/* module, procedure, timeout_ms, list; argument -> ANSWER */
#define RVMRPC_SOCK_CANCEL		2	/* cookie of a SUBMIT, whose ANSWER comes soon; no answer of its own */
#define RVMRPC_SOCK_QUERY		3	/* -> INFO */
#define RVMRPC_SOCK_SUBSCRIBE		4	/* -> INFO, then an EVENT whenever there is one */

/* From the server. */
#define RVMRPC_SOCK_ANSWER		0x81	/* status, elapsed_ns; answer */
#define RVMRPC_SOCK_INFO		0x82	/* JSON: { "protocol", "vm": {...}, "rvmrpc": as query-rvmrpc } */
#define RVMRPC_SOCK_EVENT		0x83	/* JSON: { "event", "data" }, as QMP's */
#define RVMRPC_SOCK_ERROR		0x84	/* text; the connection ends after it */

struct rvmrpc_sock_hdr {
	uint32_t magic;
	uint16_t version;
	uint16_t type;		/* RVMRPC_SOCK_* */
	uint32_t length;	/* of the payload; at most RVMRPC_SOCK_PAYLOAD_MAX */
	uint32_t status;	/* ANSWER: RVMRPC_STATUS_*; else zero */
	uint64_t cookie;	/* the client's own; EVENT and ERROR: zero */
	uint32_t module;
	uint32_t procedure;
	uint32_t timeout_ms;	/* SUBMIT: 1 to RVMRPC_TIMEOUT_MS_MAX, or 0 for the device's default */
	uint32_t list;		/* SUBMIT: generation of the guest's list that told the numbers, 0 = any; else zero */
	uint64_t elapsed_ns;	/* ANSWER: in the server; else zero */
};
RVMRPC_ASSERT_SIZE(rvmrpc_sock_hdr, 48);
RVMRPC_ASSERT_OFFSET(rvmrpc_sock_hdr, cookie, 16);
RVMRPC_ASSERT_OFFSET(rvmrpc_sock_hdr, list, 36);
RVMRPC_ASSERT_OFFSET(rvmrpc_sock_hdr, elapsed_ns, 40);

#endif /* RVMRPC_SOCKET_H */
