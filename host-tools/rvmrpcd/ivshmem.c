/*
 * rvmrpcd: QEMU's ivshmem protocol, the server's part
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * docs/specs/ivshmem-spec of QEMU.  Each VM is in a group with us alone: it has id 0 (which lets it be a master, and
 * migrate), we have id 1.
 */
#include <endian.h>
#include <string.h>
#include <sys/socket.h>
#include "ivshmem.h"
#include "rvmrpc_abi.h"

#define PROTOCOL    0
#define MEMORY      (-1)
#define REFUSED     INT64_MAX

static bool send_message(int sock, int64_t value, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    int64_t wire = htole64(value);
    struct iovec iov = { .iov_base = &wire, .iov_len = sizeof(wire) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.align), &fd, sizeof(int));
    }
    return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(wire);
}

/*
 * QEMU holds its big lock until the memory comes, dies of a peer's eventfd of its own before it, and spins for ever when
 * the socket is closed in between: so nothing is waited for, and all of it fits into a new socket's buffer.
 */
bool ivshmem_greet(int sock, int memory, int doorbell, int interrupt)
{
    return send_message(sock, PROTOCOL, -1) &&
           send_message(sock, RVMRPC_IVSHMEM_ID_GUEST, -1) &&
           send_message(sock, RVMRPC_IVSHMEM_ID_HOST, doorbell) &&
           send_message(sock, MEMORY, memory) &&
           send_message(sock, RVMRPC_IVSHMEM_ID_GUEST, interrupt);
}

/* Of another version, so that QEMU fails with an error instead of spinning. */
void ivshmem_refuse(int sock)
{
    send_message(sock, REFUSED, -1);
}
