/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * librvmrpc-guest: serve procedures to the host from a program of a Linux or FreeBSD guest.
 *
 * The driver needs user=1 (FreeBSD: hw.rvmrpc.user=1), and its allow-list the module's name.  A file may be used by several threads: each takes requests
 * of its own.  Errors are negative errno values.
 */
#ifndef RVMRPC_GUEST_LIB_H
#define RVMRPC_GUEST_LIB_H

#include <stddef.h>
#include <stdint.h>
#include "rvmrpc_abi.h"
#include "rvmrpc_serve.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that hold any request. */
#define RVMRPC_SERVE_BUFFER	(sizeof(struct rvmrpc_serve_request) + RVMRPC_SLOT_BYTES_MAX)

struct rvmrpc_serve_module {
	const char *name;	/* a letter or '_', then letters, digits, '_', '-'; at most 31 bytes */
	uint32_t number;	/* 0x100 or more; 0: the driver picks one */
	uint16_t version;
	uint16_t nprocs;
	const struct rvmrpc_serve_proc *procs;
};

/**
 * rvmrpc_serve_open() - open the driver's file and register a module
 * @module: what to serve
 * @number: its number, or NULL
 *
 * Return: a file descriptor, close-on-exec; closing it ends the module.  -ENOENT: no driver, or it has no such setting; -EACCES: not root;
 * -EEXIST: name or number is taken; -EINVAL: bad name, number or procedures; -ENOSPC: too many modules.
 */
int rvmrpc_serve_open(const struct rvmrpc_serve_module *module, uint32_t *number);

/**
 * rvmrpc_serve_next() - take the next request
 * @fd: from rvmrpc_serve_open()
 * @buffer: aligned for a uint64_t; holds the request, and its argument behind it
 * @size: there; RVMRPC_SERVE_BUFFER is enough for any
 *
 * Waits unless the descriptor has O_NONBLOCK; poll() tells when there is one.
 *
 * Return: the request, in @buffer; NULL with errno set: EAGAIN, EINTR, EMSGSIZE (it stays the next one).
 */
struct rvmrpc_serve_request *rvmrpc_serve_next(int fd, void *buffer, size_t size);

static inline const void *rvmrpc_serve_argument(const struct rvmrpc_serve_request *request)
{
	return request + 1;
}

/**
 * rvmrpc_serve_answer() - answer a request
 * @fd: from rvmrpc_serve_open()
 * @id: of the request
 * @status: RVMRPC_STATUS_OK; or such as RVMRPC_STATUS_GARBAGE_ARGS, without data
 * @data: the answer
 * @length: its bytes
 *
 * Return: 0, too, when the call is over by now; -EMSGSIZE: the caller got TOO_BIG; -EINVAL: not a status that a guest may
 * send, or data with another than OK.
 */
int rvmrpc_serve_answer(int fd, uint64_t id, uint32_t status, const void *data, size_t length);

/**
 * typedef rvmrpc_serve_fn - a procedure
 * @request: what was asked, and behind it the argument
 * @answer: room for the answer
 * @length: bytes there; set to those of the answer
 * @opaque: of rvmrpc_serve_loop()
 *
 * Return: RVMRPC_STATUS_*.
 */
typedef uint32_t (*rvmrpc_serve_fn)(const struct rvmrpc_serve_request *request, void *answer, size_t *length, void *opaque);

/**
 * rvmrpc_serve_loop() - serve one request after another
 * @fd: from rvmrpc_serve_open(), without O_NONBLOCK
 * @serve: called for each
 * @opaque: for it
 *
 * Return: a negative errno value; it does not end otherwise.
 */
int rvmrpc_serve_loop(int fd, rvmrpc_serve_fn serve, void *opaque);

#ifdef __cplusplus
}
#endif

#endif /* RVMRPC_GUEST_LIB_H */
