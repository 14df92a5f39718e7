// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * window_guest: a VMM and its guest's kernel in one program, with rvmrpc_host.ko as the owner of the window between them.
 *
 * So a host's kernel can be tried on which no virtual machine runs.  It serves echo.echo until it is killed.  Prints
 * "connected" when the host's kernel has answered its hello.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <linux/rvmrpc.h>
#include "rvmrpc_guest.h"
#include "rvmrpc_server.h"

#define SIZE		0x80000u
#define REQ_BYTES	4096
#define BEAT_MS		1000

static struct rvmrpc_guest guest;
static struct rvmrpc_server server;
static int doorbell, interrupt;

static int echo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	res->reslen = req->arglen < res->resmax ? req->arglen : res->resmax;
	memcpy(res->res, req->arg, res->reslen);
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure procs[] = {
	{ .number = RVMRPC_ECHO_ECHO, .name = "echo", .flags = RVMRPC_PROC_READ_ONLY, .arg_max = RVMRPC_ARG_ANY,
	  .handler = echo },
};

static struct rvmrpc_module module = {
	.number = RVMRPC_MOD_ECHO, .version = 1, .name = "echo", .procs = procs, .nprocs = 1,
};

static void ring(void)
{
	if (eventfd_write(doorbell, 1))
		err(1, "doorbell");
}

static void attach(int fd)
{
	struct rvmrpc_vm_attach a = {
		.version = RVMRPC_HOST_VERSION, .uuid = { 0x52, [15] = 1 }, .name = "none", .window_bytes = SIZE, .nslots = 4,
		.req_bytes = REQ_BYTES, .res_bytes = 16384, .token_fd = -1, .spin_us = 100,
	};
	int memory = memfd_create("window", MFD_ALLOW_SEALING);
	void *base;

	doorbell = a.doorbell_fd = eventfd(0, EFD_NONBLOCK);
	interrupt = a.interrupt_fd = eventfd(0, EFD_NONBLOCK);
	if (memory < 0 || ftruncate(memory, SIZE))
		err(1, "memory");
	base = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	a.window = (uintptr_t)base;
	if (base == MAP_FAILED || ioctl(fd, RVMRPC_VM_ATTACH, &a))
		err(1, "attach");
	rvmrpc_guest_init(&guest, base, SIZE);
}

static void wait_interrupt(void)
{
	struct pollfd p = { .fd = interrupt, .events = POLLIN };
	eventfd_t count;

	if (poll(&p, 1, BEAT_MS) < 0 || (p.revents && eventfd_read(interrupt, &count)))
		err(1, "interrupt");
}

static void connect_host(void)
{
	enum rvmrpc_guest_answer answer;
	uint32_t status = 0;
	uint64_t nonce;

	if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
		err(1, "random");
	rvmrpc_guest_hello(&guest, nonce | 1, RVMRPC_OS_LINUX, "window_guest");
	ring();
	while ((answer = rvmrpc_guest_answered(&guest, &status)) == RVMRPC_ANSWER_NONE)
		wait_interrupt();
	if (answer != RVMRPC_ANSWER_OPEN)
		errx(1, "hello: answer %d, status %u", answer, status);
	rvmrpc_server_new_epoch(&server, guest.epoch);
	puts("connected");
	fflush(stdout);
}

static void serve(const struct rvmrpc_taken *t)
{
	static char arg[REQ_BYTES];
	struct rvmrpc_accepted call;
	struct rvmrpc_lookup lookup;
	struct rvmrpc_hdr reply;

	rvmrpc_server_lookup(&server, t->hdr.module, t->hdr.procedure, &lookup);
	if (!rvmrpc_server_judge(&lookup, &t->hdr, guest.epoch, guest.abi, REQ_BYTES, &call))
		errx(1, "a bad request");
	if (!rvmrpc_guest_copy_arg(&guest, t, arg))
		errx(1, "the epoch has ended");
	rvmrpc_server_run(&call, arg, rvmrpc_guest_res(&guest, t->slot), guest.layout.res_bytes, &reply);
	if (rvmrpc_guest_publish(&guest, t->slot, t->seq, &reply))
		ring();
}

int main(void)
{
	int fd = open("/dev/rvmrpc-vm", O_RDWR | O_CLOEXEC);
	struct rvmrpc_taken t;

	if (fd < 0)
		err(1, "/dev/rvmrpc-vm");
	rvmrpc_server_init(&server);
	if (rvmrpc_server_add(&server, &module) != RVMRPC_STATUS_OK)
		errx(1, "module");
	attach(fd);
	connect_host();
	while (rvmrpc_guest_alive(&guest)) {
		while (rvmrpc_guest_take(&guest, &t))
			serve(&t);
		rvmrpc_guest_beat(&guest);
		if (rvmrpc_guest_sleep(&guest)) {
			wait_interrupt();
			rvmrpc_guest_awake(&guest);
		}
	}
	errx(1, "the epoch is over");
}
