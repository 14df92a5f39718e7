/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The contract of each function is in rvmrpc-guest.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include "rvmrpc-guest.h"

int rvmrpc_serve_open(const struct rvmrpc_serve_module *module, uint32_t *number)
{
	struct rvmrpc_serve_register description = {
		.number = module->number,
		.version = module->version,
		.nprocs = module->nprocs,
		.procs = (uintptr_t)module->procs,
	};
	int fd, err;

	if (strlen(module->name) >= sizeof(description.name))
		return -EINVAL;
	strcpy(description.name, module->name);
	fd = open(RVMRPC_SERVE_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, RVMRPC_SERVE_REGISTER, &description)) {
		err = -errno;
		close(fd);
		return err;
	}
	if (number)
		*number = description.number;
	return fd;
}

struct rvmrpc_serve_request *rvmrpc_serve_next(int fd, void *buffer, size_t size)
{
	return read(fd, buffer, size) < 0 ? NULL : buffer;
}

int rvmrpc_serve_answer(int fd, uint64_t id, uint32_t status, const void *data, size_t length)
{
	struct rvmrpc_serve_answer answer = { .id = id, .status = status, .length = (uint32_t)length };
	struct iovec parts[] = { { &answer, sizeof(answer) }, { (void *)data, length } };

	if (length > UINT32_MAX)
		return -EINVAL;
	if (writev(fd, parts, 2) >= 0 || errno == ENOENT)
		return 0;
	return -errno;
}

int rvmrpc_serve_loop(int fd, rvmrpc_serve_fn serve, void *opaque)
{
	struct rvmrpc_serve_request *request;
	void *buffer = malloc(RVMRPC_SERVE_BUFFER), *answer = malloc(RVMRPC_SLOT_BYTES_MAX);
	uint32_t status;
	size_t length;
	int err = buffer && answer ? 0 : -ENOMEM;

	while (!err || err == -EINTR || err == -EMSGSIZE) {
		request = rvmrpc_serve_next(fd, buffer, RVMRPC_SERVE_BUFFER);
		if (!request) {
			err = -errno;
			continue;
		}
		length = RVMRPC_SLOT_BYTES_MAX;
		status = serve(request, answer, &length, opaque);
		err = rvmrpc_serve_answer(fd, request->id, status, answer, status == RVMRPC_STATUS_OK ? length : 0);
	}
	free(buffer);
	free(answer);
	return err;
}
