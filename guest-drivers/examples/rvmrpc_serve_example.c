// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A program of the guest that serves one procedure, "rev.reverse": the argument's bytes backwards.
 *
 * cc -I../user -I../../include rvmrpc_serve_example.c ../user/librvmrpc-guest.a; the driver with user=1 and
 * allow=default,rev.*; then, on the host: printf abc | rvmrpc call VM rev reverse
 */
#include <stdio.h>
#include <string.h>
#include "rvmrpc-guest.h"

static uint32_t reverse(const struct rvmrpc_serve_request *request, void *answer, size_t *length, void *opaque)
{
	const char *argument = rvmrpc_serve_argument(request);
	uint32_t i;

	(void)opaque;
	for (i = 0; i < request->length; i++)
		((char *)answer)[i] = argument[request->length - 1 - i];
	*length = request->length;
	return RVMRPC_STATUS_OK;
}

int main(void)
{
	static const struct rvmrpc_serve_proc procs[] = { { 0, RVMRPC_PROC_READ_ONLY, "reverse" } };
	static const struct rvmrpc_serve_module module = { .name = "rev", .version = 1, .procs = procs, .nprocs = 1 };
	int fd = rvmrpc_serve_open(&module, NULL);

	if (fd >= 0)
		fd = rvmrpc_serve_loop(fd, reverse, NULL);
	fprintf(stderr, "rev: %s\n", strerror(-fd));
	return 1;
}
