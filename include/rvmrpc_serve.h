/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR BSD-2-Clause */
/*
 * Reverse VMRPC in a guest's user space: programs that serve procedures to the host.
 *
 * An open file of /dev/rvmrpc-serve is one module.  RVMRPC_SERVE_REGISTER names it, read() takes one request, write() gives
 * one answer, poll() tells when there is a request, the last close() ends the module.  Any number of threads may use a file.
 * Another size of an ioctl's structure is another ioctl: ENOTTY says that the driver does not know it.
 */
#ifndef RVMRPC_SERVE_H
#define RVMRPC_SERVE_H

#include "rvmrpc_abi.h"

#define RVMRPC_SERVE_DEVICE	"/dev/rvmrpc-serve"
#define RVMRPC_SERVE_NAME_SIZE	32	/* NUL included */
#define RVMRPC_SERVE_PROCS_MAX	64

struct rvmrpc_serve_proc {
	uint32_t number;
	uint32_t flags;		/* RVMRPC_PROC_READ_ONLY, RVMRPC_PROC_SECRET; all may sleep */
	char name[RVMRPC_SERVE_NAME_SIZE];
};

/*
 * Once a file.  EINVAL: a bad name or number, no or too many procedures, two alike, unknown flags.  EEXIST: name or number
 * is taken.  EBUSY: the file has a module.  ENOSPC: there are too many modules.
 */
struct rvmrpc_serve_register {
	uint32_t number;		/* 0x100 or more; 0: the driver picks one.  Out: the number */
	uint16_t version;
	uint16_t nprocs;		/* 1 to RVMRPC_SERVE_PROCS_MAX */
	uint64_t procs;		/* address of struct rvmrpc_serve_proc[] */
	char name[RVMRPC_SERVE_NAME_SIZE];
	uint64_t reserved[2];	/* zero */
};

/* By <sys/ioctl.h>, or what a kernel has for it. */
#define RVMRPC_SERVE_REGISTER	_IOWR(0xbe, 0x20, struct rvmrpc_serve_register)

/*
 * read(): this, then the argument.  EMSGSIZE: the buffer is too small, the request stays the next.  ENOTCONN: the file has
 * no module.  EAGAIN: none, with O_NONBLOCK.
 */
struct rvmrpc_serve_request {
	uint64_t id;
	uint32_t procedure;
	uint32_t length;		/* bytes of the argument */
	uint32_t timeout_ms;	/* until the call ends without an answer */
	uint32_t reserved;
};

/*
 * write(): this, then the answer, at once.  EINVAL: not of this form, or a status that a guest may not send; EFAULT, ENOMEM;
 * in all three the call waits on.  EMSGSIZE: more than its caller's slot holds; the call has ended with TOO_BIG.  ENOENT: no
 * call of that id waits: it was answered, is over, or never was.
 */
struct rvmrpc_serve_answer {
	uint64_t id;
	uint32_t status;		/* RVMRPC_STATUS_* */
	uint32_t length;		/* bytes of the answer; 0 unless RVMRPC_STATUS_OK */
};

#endif /* RVMRPC_SERVE_H */
