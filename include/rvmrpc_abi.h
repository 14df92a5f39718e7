/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC: the wire ABI between a guest kernel and its host.
 *
 * This is the only copy; staging and the drivers' makefiles take it from here.  docs/spec.md is the normative text.
 * Everything is little-endian, naturally aligned and free of pointers; reserved fields are zero and are checked.
 */
#ifndef RVMRPC_ABI_H
#define RVMRPC_ABI_H

#if defined(__KERNEL__)
#include <linux/types.h>
#elif defined(_KERNEL)
#include <sys/types.h>
#else
#include <stdint.h>
#include <stddef.h>
#endif

#ifdef __cplusplus
#define RVMRPC_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define RVMRPC_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif
#define RVMRPC_ASSERT_SIZE(type, size) \
	RVMRPC_STATIC_ASSERT(sizeof(struct type) == (size), #type " has the wrong size")
#define RVMRPC_ASSERT_OFFSET(type, field, offset) \
	RVMRPC_STATIC_ASSERT(__builtin_offsetof(struct type, field) == (offset), #type "." #field " moved")

RVMRPC_STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian and so must be both sides");

/* Of the channel: both sides offer a range of versions in the window.  Version 1, by calls of the gate, is no more. */
#define RVMRPC_ABI_VERSION		2

/* Limits; a device may be configured lower, never higher. */
#define RVMRPC_PAGE_SIZE		4096
#define RVMRPC_SLOTS_MAX		64
#define RVMRPC_SLOTS_DEFAULT		4
#define RVMRPC_SLOT_NONE		0xffffffffu
#define RVMRPC_NAME_MAX			31	/* bytes without the NUL */
#define RVMRPC_CALLS_MAX		64	/* pending and running calls per VM */
#define RVMRPC_CLIENT_CALLS_MAX		16
#define RVMRPC_TIMEOUT_MS_DEFAULT	1000
#define RVMRPC_TIMEOUT_MS_MAX		60000
#define RVMRPC_WAIT_MS_MAX		1000	/* one VMLP wait */

/* ---- The PCI device: discovery, features, doorbell ---- */

#define RVMRPC_PCI_VENDOR		0x1af4
#define RVMRPC_PCI_DEVICE		0x10f0
#define RVMRPC_BAR_REGS			0	/* 4 KiB of memory-mapped registers */
#define RVMRPC_BAR_MSIX			1
#define RVMRPC_BAR_WINDOW		2	/* 64-bit, prefetchable: the window */

#define RVMRPC_REG_MAGIC		0x00	/* u32, RVMRPC_DEV_MAGIC */
#define RVMRPC_REG_VERSION		0x04	/* u32, RVMRPC_DEV_VERSION, layout of these registers */
#define RVMRPC_REG_FEATURES		0x08	/* u32, RVMRPC_FEAT_*; may change at reset and migration */
#define RVMRPC_REG_HYPERCALL		0x0c	/* u32, number to load into EAX */
#define RVMRPC_REG_ABI			0x10	/* u32, lowest | highest << 16 */
#define RVMRPC_REG_DOORBELL		0x20	/* u64, write only: DMA address of a struct rvmrpc_frame */
#define RVMRPC_REG_RING			0x28	/* u32, write only, any value: the guest rings its window's host */
#define RVMRPC_REG_SIZE			0x1000

#define RVMRPC_DEV_MAGIC		0x434d5652u	/* "RVMC" */
#define RVMRPC_DEV_VERSION		2	/* 1 had no window, and is refused */

#define RVMRPC_FEAT_HYPERCALL		(1u << 0)	/* the hypercall gate answers */
#define RVMRPC_FEAT_DOORBELL		(1u << 1)	/* the doorbell gate answers */
#define RVMRPC_FEAT_VMLP		(1u << 2)	/* RVMRPC_MAIN waits on the hypercall gate */
#define RVMRPC_FEAT_PROXY_KERNEL	(1u << 3)	/* the proxy is a server of the host kernel, not of the VMM */

/* ---- A gate call: VMRPC, guest to host ---- */

/* Private, sparse, bit 31 clear (Xen mode takes numbers with bit 31 for Hyper-V's). */
#define RVMRPC_HYPERCALL_NR		0x52564d52u

/*
 * Hypercall gate: EAX = RVMRPC_HYPERCALL_NR, RBX = op, RCX = a0, RDX = a1, RSI = a2; the answer comes in RAX.
 * Doorbell gate: the same five words in a frame that lies within one page of RAM, where the device may reach it.
 */
struct rvmrpc_frame {
	uint64_t op;		/* RVMRPC_OP_* | RVMRPC_OP_KERNEL */
	uint64_t a0;
	uint64_t a1;
	uint64_t a2;
	uint64_t answer;	/* written by the host */
	uint64_t reserved[3];
};
RVMRPC_ASSERT_SIZE(rvmrpc_frame, 5 * 8 + 24);
RVMRPC_ASSERT_OFFSET(rvmrpc_frame, answer, 32);

#define RVMRPC_OP_NULL			0	/* -> RVMRPC_NULL_ANSWER */
#define RVMRPC_OP_BIND			1	/* a0 = GVA of a struct vmrpc_bind -> handle */
#define RVMRPC_OP_PERFORM		2	/* a0 = handle | procedure << 32, a1 = arg, a2 = bytes -> result */
#define RVMRPC_OP_UNBIND		3	/* a0 = handle -> 0 */
#define RVMRPC_OP_KERNEL		(1u << 16)	/* the server is in the host kernel, else in the VMM process */

struct vmrpc_bind {
	char name[RVMRPC_NAME_MAX + 1];
	char version[RVMRPC_NAME_MAX + 1];
};
RVMRPC_ASSERT_SIZE(vmrpc_bind, 32 + 32);

/* An answer: our tag in the upper half; the lower is a result below 2^31, or one of RVMRPC_GATE_*. */
#define RVMRPC_GATE_TAG			0x52564d41u	/* "AMVR" */
#define RVMRPC_GATE_ANSWER(low)		((uint64_t)RVMRPC_GATE_TAG << 32 | (uint32_t)(low))
#define RVMRPC_GATE_IS_ANSWER(v)	((uint32_t)((uint64_t)(v) >> 32) == RVMRPC_GATE_TAG)
#define RVMRPC_GATE_IS_CODE(low)	((uint32_t)(low) >> 31)
#define RVMRPC_NULL_ANSWER		0x4e554c4cu	/* "LLUN" */

#define RVMRPC_GATE_AGAIN		0x80000001u	/* nothing was posted */
#define RVMRPC_GATE_RESET		0x80000002u	/* epoch unknown: say hello */
#define RVMRPC_GATE_BAD_OP		0x80000003u
#define RVMRPC_GATE_BAD_HANDLE		0x80000004u	/* bind again */
#define RVMRPC_GATE_NO_MODULE		0x80000005u
#define RVMRPC_GATE_BAD_VERSION		0x80000006u
#define RVMRPC_GATE_NO_PROCEDURE	0x80000007u
#define RVMRPC_GATE_BAD_ARGS		0x80000008u
#define RVMRPC_GATE_FAULT		0x80000009u	/* an address is not RAM, or not mapped */
#define RVMRPC_GATE_NO_MEMORY		0x8000000au
#define RVMRPC_GATE_DENIED		0x8000000bu	/* not from CPL 0, or the gate is switched off */
#define RVMRPC_GATE_FAILED		0x8000000cu	/* the procedure failed */

/* ---- The wait beside a window: a VMRPC server ---- */

#define RVMRPC_PROXY_NAME		"MOD_RVMRPC"
#define RVMRPC_PROXY_VERSION		"2"

/*
 * Its procedure, a futex wait on the window's `posted'.  arg = epoch, bytes = RVMRPC_MAIN_ARG(posted as the guest has seen
 * it, the longest wait).  It does first what a ring does, then waits while nothing else is posted -> RVMRPC_MAIN_POSTED, or
 * RVMRPC_GATE_AGAIN: the time is over, or the guest's own interrupt came; RVMRPC_GATE_RESET: say hello.
 */
#define RVMRPC_MAIN			2
#define RVMRPC_MAIN_POSTED		0
#define RVMRPC_MAIN_ARG(seen, us)	((uint64_t)(uint32_t)(us) << 32 | (uint32_t)(seen))

/* ---- The window: RAM of the host that both sides map (docs/spec.md 4) ---- */

#define RVMRPC_OS_LINUX			1
#define RVMRPC_OS_FREEBSD		2
#define RVMRPC_OS_OTHER			255

/* Stock QEMU's ivshmem-doorbell: the window is BAR 2, the doorbell is a register of BAR 0. */
#define RVMRPC_IVSHMEM_DEVICE		0x1110
#define RVMRPC_IVSHMEM_BAR_REGS		0
#define RVMRPC_IVSHMEM_BAR_WINDOW	2
#define RVMRPC_IVSHMEM_REG_POSITION	0x08	/* u32: own id; the VM's is 0, its host's is 1 */
#define RVMRPC_IVSHMEM_REG_DOORBELL	0x0c	/* u32, write only: peer << 16 | vector */
#define RVMRPC_IVSHMEM_ID_GUEST		0
#define RVMRPC_IVSHMEM_ID_HOST		1

#define RVMRPC_WINDOW_MAGIC		0x32574350524d5652ull	/* "RVMRPCW2" */
#define RVMRPC_WINDOW_LAYOUT		2	/* of the two pages */
#define RVMRPC_WINDOW_SIZE_MIN		0x10000
#define RVMRPC_WINDOW_SIZE_MAX		0x40000000
#define RVMRPC_WINDOW_SIZE_DEFAULT	0x80000
#define RVMRPC_SLOT_BYTES_MAX		0x100000	/* payload, request and response each */
#define RVMRPC_REQ_BYTES_DEFAULT	0x1000
#define RVMRPC_RES_BYTES_DEFAULT	0x10000
#define RVMRPC_RING_BYTES		0x4000	/* of events; a small window has less */
#define RVMRPC_LINE			64	/* words that are hot on different sides are this far apart */

#define RVMRPC_HOST_PAGE		0	/* offset in the window of a struct rvmrpc_host_page */
#define RVMRPC_GUEST_PAGE		0x1000	/* of a struct rvmrpc_guest_page */

/* What the window is; constant while it has an owner. */
struct rvmrpc_window_id {
	uint64_t magic;
	uint32_t layout;	/* RVMRPC_WINDOW_LAYOUT */
	uint16_t abi_min;
	uint16_t abi_max;
	uint64_t size;		/* of the window in bytes, a power of two */
	uint32_t doorbell;	/* to be written to the device's doorbell register */
	uint32_t reserved[9];
};
RVMRPC_ASSERT_SIZE(rvmrpc_window_id, 32 + 32);
RVMRPC_ASSERT_OFFSET(rvmrpc_window_id, doorbell, 24);

/* Where things are; offsets in the window, multiples of RVMRPC_LINE. */
struct rvmrpc_layout {
	uint32_t nslots;	/* 1 to RVMRPC_SLOTS_MAX */
	uint32_t req_bytes;	/* of a request's payload; likewise a multiple of RVMRPC_LINE */
	uint32_t res_bytes;	/* of an answer's */
	uint32_t host_slots;	/* nslots times a struct rvmrpc_host_slot */
	uint32_t guest_slots;	/* nslots times a struct rvmrpc_guest_slot */
	uint32_t req;		/* slot i has its request at req + i * stride, */
	uint32_t res;		/* its response at res + i * stride */
	uint32_t stride;
	uint32_t ring;		/* struct rvmrpc_event, a power of two of them, at most RVMRPC_RING_EVENTS_MAX */
	uint32_t ring_bytes;
};
RVMRPC_ASSERT_SIZE(rvmrpc_layout, 10 * 4);

#define RVMRPC_HELLO_OK			0
#define RVMRPC_HELLO_BAD_VERSION	1	/* no ABI version that both speak */
#define RVMRPC_HELLO_BAD_ARGS		2	/* a field that must be zero is not, or the like */

struct rvmrpc_hello_answer {
	uint64_t nonce;		/* of the hello; written last */
	uint64_t epoch;		/* OK: of the channel, from now on */
	uint32_t status;	/* RVMRPC_HELLO_* */
	uint16_t abi;
	uint16_t reserved;
	struct rvmrpc_layout layout;
	uint32_t posted;	/* random: where the counting of requests begins */
	uint32_t reserved2[15];
};
RVMRPC_ASSERT_SIZE(rvmrpc_hello_answer, 24 + 40 + 64);
RVMRPC_ASSERT_OFFSET(rvmrpc_hello_answer, layout, 24);
RVMRPC_ASSERT_OFFSET(rvmrpc_hello_answer, posted, 64);

/* Written by the host alone. */
struct rvmrpc_host_page {
	struct rvmrpc_window_id id;
	/* line 1 */
	uint64_t epoch;		/* random, not 0; another one as soon as the guest has to say hello */
	uint32_t max_spin_us;	/* the guest spins no longer than that */
	uint32_t lost;		/* times that the host found this page overwritten */
	uint64_t reserved[6];
	/* lines 2 and 3 */
	struct rvmrpc_hello_answer answer;
	/* line 4 */
	uint32_t posted;	/* +1 for each request; the request's seq */
	uint32_t reserved2[15];
	/* line 5 */
	uint32_t want_events;	/* not 0: ring for an event */
	uint32_t reserved3[15];
};
RVMRPC_ASSERT_SIZE(rvmrpc_host_page, 6 * 64);
RVMRPC_ASSERT_OFFSET(rvmrpc_host_page, epoch, 64);
RVMRPC_ASSERT_OFFSET(rvmrpc_host_page, answer, 128);
RVMRPC_ASSERT_OFFSET(rvmrpc_host_page, posted, 256);
RVMRPC_ASSERT_OFFSET(rvmrpc_host_page, want_events, 320);

struct rvmrpc_hello {
	uint64_t nonce;		/* another one each time, not 0; written last */
	uint64_t seen;		/* the host page's epoch as the guest found it */
	uint16_t abi_min;
	uint16_t abi_max;
	uint32_t os;		/* RVMRPC_OS_* */
	uint64_t reserved;
	char release[64];	/* of the guest's kernel, NUL-terminated */
	uint64_t reserved2[4];
};
RVMRPC_ASSERT_SIZE(rvmrpc_hello, 32 + 64 + 32);

/* Written by the guest alone. */
struct rvmrpc_guest_page {
	/* lines 0 and 1 */
	struct rvmrpc_hello hello;
	/* line 2 */
	uint64_t bye;		/* the epoch that the guest leaves */
	uint64_t reserved[7];
	/* line 3 */
	uint32_t beat;		/* goes up with each call, and at least every 5 s */
	uint32_t reserved2[15];
	/* line 4 */
	uint32_t wait;		/* odd: the guest sleeps until the interrupt; goes up */
	uint32_t seen;		/* posted, as the guest read it before it went to sleep */
	uint32_t reserved3[14];
	/* line 5 */
	uint32_t events;	/* low half of the seq of an event that was written; changes with each */
	uint32_t reserved4[15];
};
RVMRPC_ASSERT_SIZE(rvmrpc_guest_page, 6 * 64);
RVMRPC_ASSERT_OFFSET(rvmrpc_guest_page, bye, 128);
RVMRPC_ASSERT_OFFSET(rvmrpc_guest_page, beat, 192);
RVMRPC_ASSERT_OFFSET(rvmrpc_guest_page, wait, 256);
RVMRPC_ASSERT_OFFSET(rvmrpc_guest_page, events, 320);

/* ---- A call: the header of a request and of its reply; a line of its own ---- */

#define RVMRPC_CALL_MAGIC		0x484d5652u	/* "RVMH" */

struct rvmrpc_hdr {
	uint32_t magic;
	uint16_t abi;		/* RVMRPC_ABI_VERSION */
	uint16_t version;	/* request: of the module, 0 = any; reply: of the module that answered */
	uint64_t epoch;
	uint64_t xid;
	uint32_t module;
	uint32_t procedure;
	uint32_t flags;		/* zero */
	uint32_t status;	/* request: zero; reply: RVMRPC_STATUS_* */
	uint32_t length;	/* of the payload */
	uint32_t timeout_ms;	/* request: time that is left; reply: zero */
	uint32_t list;		/* request: generation of the list that its numbers are of, 0 = any; reply: zero */
	uint32_t reserved;
	uint64_t reserved2;
};
RVMRPC_ASSERT_SIZE(rvmrpc_hdr, 64);
RVMRPC_ASSERT_OFFSET(rvmrpc_hdr, epoch, 8);
RVMRPC_ASSERT_OFFSET(rvmrpc_hdr, xid, 16);
RVMRPC_ASSERT_OFFSET(rvmrpc_hdr, status, 36);
RVMRPC_ASSERT_OFFSET(rvmrpc_hdr, length, 40);

/* A header as it is moved and compared: eight words, not thirteen fields. */
typedef uint64_t __attribute__((__may_alias__)) rvmrpc_hdr_word;

#define RVMRPC_HDR_WORD0(abi, version)	(RVMRPC_CALL_MAGIC | (uint64_t)(abi) << 32 | (uint64_t)(version) << 48)
#define RVMRPC_HDR_WORD0_FIXED		0xffffffffffffull	/* all of it but the version */
#define RVMRPC_HDR_PAIR(low, high)	((uint32_t)(low) | (uint64_t)(high) << 32)

/*
 * One slot of the window, as the host writes it, and as the guest does.  The header's last u64 is zero in every copy;
 * here its low half is the request's seq (never 0), written last: who sees it has the header on the same line.
 */
struct rvmrpc_host_slot {
	struct rvmrpc_hdr hdr;
	uint32_t want;		/* not 0: the host sleeps, ring when the answer is there */
	uint32_t reserved[15];
};
RVMRPC_ASSERT_SIZE(rvmrpc_host_slot, 2 * 64);
RVMRPC_ASSERT_OFFSET(rvmrpc_host_slot, want, 64);

struct rvmrpc_guest_slot {
	struct rvmrpc_hdr hdr;
};
RVMRPC_ASSERT_SIZE(rvmrpc_guest_slot, 64);

#define RVMRPC_SLOT_SEQ			56	/* offset of seq in either */

/* Outcome of a call.  The guest may send those up to BUSY, CANCELLED and SYSTEM_ERROR; the rest are the host's. */
#define RVMRPC_STATUS_OK			0
#define RVMRPC_STATUS_MODULE_UNAVAILABLE	1
#define RVMRPC_STATUS_VERSION_MISMATCH		2
#define RVMRPC_STATUS_PROCEDURE_UNAVAILABLE	3
#define RVMRPC_STATUS_GARBAGE_ARGS		4
#define RVMRPC_STATUS_TOO_BIG			5
#define RVMRPC_STATUS_NOT_ALLOWED		6
#define RVMRPC_STATUS_BUSY			7
#define RVMRPC_STATUS_NOT_CONNECTED		8
#define RVMRPC_STATUS_STOPPED			9
#define RVMRPC_STATUS_TIMED_OUT			10
#define RVMRPC_STATUS_CANCELLED			11
#define RVMRPC_STATUS_RESET			12
#define RVMRPC_STATUS_SYSTEM_ERROR		13
#define RVMRPC_STATUS_MAX			13
/* Of a status, unsigned: whether a guest may send it. */
#define RVMRPC_STATUS_IS_GUESTS(status)	\
	((status) <= RVMRPC_STATUS_BUSY || (status) == RVMRPC_STATUS_CANCELLED || (status) == RVMRPC_STATUS_SYSTEM_ERROR)

/* ---- Modules and procedures ---- */

#define RVMRPC_MOD_CORE			0
#define RVMRPC_MOD_ECHO			1
#define RVMRPC_MOD_SYSINFO		2
#define RVMRPC_MOD_RECLAIM		3
#define RVMRPC_MOD_PROCFS		4
#define RVMRPC_MOD_SYSCTL		5
#define RVMRPC_MOD_PRESSURE		6
#define RVMRPC_MOD_TASKS		7
#define RVMRPC_MOD_KLOG			8
#define RVMRPC_MOD_FS			9
#define RVMRPC_MOD_NET			10
#define RVMRPC_MOD_CLOCK		11
#define RVMRPC_MOD_CONTROL		12
#define RVMRPC_MOD_FREEZE		13
#define RVMRPC_MOD_FILES		14
#define RVMRPC_MOD_VMCOREINFO		15
#define RVMRPC_MOD_CONNECT		16
#define RVMRPC_MOD_USER			0x100	/* from here on anyone's own */

#define RVMRPC_PROC_READ_ONLY		(1u << 0)
#define RVMRPC_PROC_MAY_SLEEP		(1u << 1)	/* runs in a worker, other calls overtake it */
#define RVMRPC_PROC_ALLOWED		(1u << 2)	/* the guest's allow-list has it */
#define RVMRPC_PROC_SECRET		(1u << 3)	/* tells what the guest may keep for its root: no default allows it */

#define RVMRPC_CORE_NULL		0	/* -> nothing */
#define RVMRPC_CORE_LIST		1	/* struct rvmrpc_list_req or nothing -> struct rvmrpc_list */
#define RVMRPC_CORE_CANCEL		2	/* u64 xid -> nothing; a hint, the call may still be answered */
#define RVMRPC_CORE_EXIT		3	/* -> nothing; the server leaves after the answer */

#define RVMRPC_ECHO_ECHO		0	/* bytes -> the same bytes */

#define RVMRPC_SYSINFO_MEMINFO		0	/* struct rvmrpc_info_req or nothing -> struct rvmrpc_info */
#define RVMRPC_SYSINFO_LOADAVG		1
#define RVMRPC_SYSINFO_CPUINFO		2
#define RVMRPC_SYSINFO_CPUSTAT		3
#define RVMRPC_SYSINFO_OSINFO		4

#define RVMRPC_RECLAIM_DROP_CACHES	0	/* struct rvmrpc_drop_req -> struct rvmrpc_drop_res */

#define RVMRPC_RECLAIM_SHRINK		1	/* struct rvmrpc_shrink_req -> struct rvmrpc_shrink_res */
#define RVMRPC_RECLAIM_COMPACT		2	/* -> struct rvmrpc_compact_res */

#define RVMRPC_PROCFS_READ		0	/* absolute path below /proc; NUL and offset (u64), or nothing -> the text */

#define RVMRPC_SYSCTL_READ		0	/* name, no NUL -> the value as sysctl(8) prints it */

/* Lists of records, each with a struct rvmrpc_records_req or nothing. */
#define RVMRPC_PRESSURE_PSI		0	/* -> records PSI */
#define RVMRPC_PRESSURE_VMSTAT		1	/* -> a record VMSTAT */
#define RVMRPC_PRESSURE_DISKS		2	/* -> records DISK */

#define RVMRPC_TASKS_LIST		0	/* select RVMRPC_TASKS_BY_* -> records TASK */
#define RVMRPC_TASKS_BLOCKED		1	/* -> records TASK: threads in state D, with their stacks */

#define RVMRPC_KLOG_READ		0	/* cursor a sequence number, select RVMRPC_KLOG_* -> records LOG */

#define RVMRPC_VMCOREINFO_READ		0	/* -> a record VMCOREINFO */

#define RVMRPC_FS_LIST			0	/* -> records FILESYSTEM */

#define RVMRPC_NET_LIST			0	/* -> records INTERFACE, each followed by its records ADDRESS */

#define RVMRPC_CLOCK_READ		0	/* struct rvmrpc_records_req or nothing -> a record CLOCK */
#define RVMRPC_CLOCK_SET		1	/* struct rvmrpc_clock_req -> struct rvmrpc_clock_res */

#define RVMRPC_CONTROL_SYSRQ		0	/* struct rvmrpc_sysrq_req -> struct rvmrpc_sysrq_res */
#define RVMRPC_CONTROL_SYNC		1	/* -> nothing */
#define RVMRPC_CONTROL_POWEROFF		2	/* struct rvmrpc_power_req -> nothing; the guest was asked */
#define RVMRPC_CONTROL_REBOOT		3	/* likewise */

#define RVMRPC_FREEZE_FREEZE		0	/* struct rvmrpc_freeze_req -> struct rvmrpc_freeze_res, as the next two */
#define RVMRPC_FREEZE_THAW		1	/* nothing */
#define RVMRPC_FREEZE_STATUS		2	/* nothing */

#define RVMRPC_CONNECT_OPEN		0	/* struct rvmrpc_connect_open_req -> struct rvmrpc_connect_res */
#define RVMRPC_CONNECT_SEND		1	/* struct rvmrpc_connect_req and bytes -> struct rvmrpc_connect_res */
#define RVMRPC_CONNECT_RECV		2	/* struct rvmrpc_connect_req -> struct rvmrpc_connect_res and bytes */
#define RVMRPC_CONNECT_WAIT		3	/* struct rvmrpc_connect_wait_req -> any number of struct rvmrpc_connect_ready */
#define RVMRPC_CONNECT_CLOSE		4	/* struct rvmrpc_connect_req -> nothing */

/* Each with a struct rvmrpc_records_req, or of read a struct rvmrpc_file_req, followed by a path, no NUL. */
#define RVMRPC_FILES_STAT		0	/* select RVMRPC_FILES_* -> a record FILE or FAILURE */
#define RVMRPC_FILES_LIST		1	/* -> records FILE, or a record FAILURE */
#define RVMRPC_FILES_READ		2	/* -> struct rvmrpc_file_res */
#define RVMRPC_FILES_STATFS		3	/* -> a record FILESYSTEM or FAILURE */
/* Each with a struct rvmrpc_file_change_req, or of set a struct rvmrpc_file_set_req, and a path -> rvmrpc_file_change_res */
#define RVMRPC_FILES_WRITE		4	/* the path is followed by the bytes */
#define RVMRPC_FILES_CREATE		5	/* a regular file; one that is there is RVMRPC_FAILED_EXISTS */
#define RVMRPC_FILES_MKDIR		6	/* likewise a folder */
#define RVMRPC_FILES_RENAME		7	/* the path is followed by the new one */
#define RVMRPC_FILES_REMOVE		8	/* what is no folder */
#define RVMRPC_FILES_RMDIR		9	/* an empty folder */
#define RVMRPC_FILES_SYNC		10	/* to the file's disk */
#define RVMRPC_FILES_SET		11	/* size and attributes */

struct rvmrpc_list_req {
	uint32_t first;		/* index of the first entry wanted */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_list_req, 8);

#define RVMRPC_LIST_MODULE		1
#define RVMRPC_LIST_PROCEDURE		2	/* of the last module before it */

struct rvmrpc_list_entry {
	uint16_t kind;
	uint16_t version;	/* of the module */
	uint32_t number;
	uint32_t flags;		/* RVMRPC_PROC_* */
	uint32_t generation;	/* of the list, which changes with each module that comes or goes; 0: the guest tells none */
	char name[RVMRPC_NAME_MAX + 1];
};
RVMRPC_ASSERT_SIZE(rvmrpc_list_entry, 16 + 32);

/* Followed by count entries. */
struct rvmrpc_list {
	uint32_t total;		/* entries there are */
	uint32_t count;		/* entries here */
};
RVMRPC_ASSERT_SIZE(rvmrpc_list, 8);

#define RVMRPC_INFO_TEXT		(1u << 0)	/* add the guest's own text */

struct rvmrpc_info_req {
	uint32_t flags;		/* RVMRPC_INFO_* */
	uint32_t first;		/* cpuinfo, cpustat: as RVMRPC_CPU_NEXT or _STAT_NEXT said; else 0 */
};
RVMRPC_ASSERT_SIZE(rvmrpc_info_req, 8);

#define RVMRPC_ITEM_U64			0	/* value is the value */
#define RVMRPC_ITEM_STRING		1	/* value is offset | length << 32 within the text */
#define RVMRPC_INDEX_ALL		0xffffffffu

struct rvmrpc_item {
	uint16_t key;		/* RVMRPC_MEM_*, RVMRPC_LOAD_*, ...; a reader skips keys that it does not know */
	uint16_t type;		/* RVMRPC_ITEM_* */
	uint32_t index;		/* of the CPU, or RVMRPC_INDEX_ALL */
	uint64_t value;
};
RVMRPC_ASSERT_SIZE(rvmrpc_item, 16);

/* Followed by count items, then by text_length bytes; the guest's own text is their first raw_length bytes. */
struct rvmrpc_info {
	uint32_t count;
	uint32_t text_length;
	uint32_t raw_length;
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_info, 16);

/* meminfo: bytes, index RVMRPC_INDEX_ALL; keys that an OS lacks are absent. */
#define RVMRPC_MEM_TOTAL		1
#define RVMRPC_MEM_FREE			2
#define RVMRPC_MEM_AVAILABLE		3
#define RVMRPC_MEM_BUFFERS		4
#define RVMRPC_MEM_CACHED		5
#define RVMRPC_MEM_SWAP_CACHED		6
#define RVMRPC_MEM_ACTIVE		7
#define RVMRPC_MEM_INACTIVE		8
#define RVMRPC_MEM_UNEVICTABLE		9
#define RVMRPC_MEM_DIRTY		10
#define RVMRPC_MEM_WRITEBACK		11
#define RVMRPC_MEM_ANON			12
#define RVMRPC_MEM_MAPPED		13
#define RVMRPC_MEM_SHARED		14
#define RVMRPC_MEM_SLAB			15
#define RVMRPC_MEM_SLAB_RECLAIMABLE	16
#define RVMRPC_MEM_SLAB_UNRECLAIMABLE	17
#define RVMRPC_MEM_KERNEL_STACK		18
#define RVMRPC_MEM_PAGE_TABLES		19
#define RVMRPC_MEM_COMMIT_LIMIT		20
#define RVMRPC_MEM_COMMITTED_AS		21
#define RVMRPC_MEM_SWAP_TOTAL		22
#define RVMRPC_MEM_SWAP_FREE		23
#define RVMRPC_MEM_WIRED		24
#define RVMRPC_MEM_LAUNDRY		25
#define RVMRPC_MEM_HUGETLB		26	/* set aside for huge pages of all sizes, in use or not */
#define RVMRPC_MEM_HUGE_TOTAL		27	/* of the usual size */
#define RVMRPC_MEM_HUGE_FREE		28	/* of these, not in use */
#define RVMRPC_MEM_HUGE_SIZE		29	/* of one such page */
#define RVMRPC_MEM_PERCPU		30
#define RVMRPC_MEM_CMA_TOTAL		31
#define RVMRPC_MEM_CMA_FREE		32
#define RVMRPC_MEM_ZSWAP		33	/* what zswap takes */
#define RVMRPC_MEM_ZSWAPPED		34	/* what it holds */

/* loadavg: loads in millionths. */
#define RVMRPC_LOAD_1M			1
#define RVMRPC_LOAD_5M			2
#define RVMRPC_LOAD_15M			3
#define RVMRPC_LOAD_RUNNABLE		4	/* threads, as a count */
#define RVMRPC_LOAD_THREADS		5

/* cpuinfo: per CPU, but for the counts. */
#define RVMRPC_CPU_ONLINE		1	/* count */
#define RVMRPC_CPU_PRESENT		2	/* count */
#define RVMRPC_CPU_VENDOR		3	/* string */
#define RVMRPC_CPU_MODEL_NAME		4	/* string */
#define RVMRPC_CPU_FAMILY		5
#define RVMRPC_CPU_MODEL		6
#define RVMRPC_CPU_STEPPING		7
#define RVMRPC_CPU_HZ			8
#define RVMRPC_CPU_PACKAGE		9
#define RVMRPC_CPU_CORE			10
#define RVMRPC_CPU_NEXT			11	/* there are more: ask again, from this CPU on; never 0 */

/* cpustat: ns since boot, per CPU and for RVMRPC_INDEX_ALL; nice is part of user, irq and softirq of system. */
#define RVMRPC_STAT_USER		1
#define RVMRPC_STAT_SYSTEM		2
#define RVMRPC_STAT_IDLE		3
#define RVMRPC_STAT_IOWAIT		4
#define RVMRPC_STAT_STEAL		5
#define RVMRPC_STAT_NEXT		6	/* as RVMRPC_CPU_NEXT; the whole is in the first answer only */

/* osinfo */
#define RVMRPC_OSINFO_KIND		1	/* RVMRPC_OS_* */
#define RVMRPC_OSINFO_SYSNAME		2	/* string, as the next four */
#define RVMRPC_OSINFO_RELEASE		3
#define RVMRPC_OSINFO_VERSION		4
#define RVMRPC_OSINFO_MACHINE		5
#define RVMRPC_OSINFO_HOSTNAME		6
#define RVMRPC_OSINFO_UPTIME_NS		7
#define RVMRPC_OSINFO_BOOT_TIME		8	/* seconds since 1970 */
#define RVMRPC_OSINFO_PAGE_SIZE		9
#define RVMRPC_OSINFO_CPUS		10

/* ---- Lists of records, of all procedures that answer with a list (docs/spec.md 6.1) ---- */

struct rvmrpc_records_req {
	uint64_t cursor;	/* 0 at first, then next of the answer before */
	uint32_t select;	/* the procedure's own, 0 = the usual */
	uint32_t limit;		/* most records of this answer, 0 = what fits */
};
RVMRPC_ASSERT_SIZE(rvmrpc_records_req, 16);

#define RVMRPC_RECORDS_MORE		(1u << 0)	/* there are more: ask again with next as cursor */
#define RVMRPC_RECORDS_PARTIAL		(1u << 1)	/* the guest could not look at all of it */

/* Followed by length bytes: count records. */
struct rvmrpc_records {
	uint32_t count;
	uint32_t length;
	uint64_t next;		/* MORE: where the rest begins; else where what comes later would, 0 = nowhere */
	uint32_t flags;		/* RVMRPC_RECORDS_* */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_records, 24);

#define RVMRPC_RECORD_ALIGN		8	/* of records and fields, in bytes */

/* Followed by fields. */
struct rvmrpc_record_hdr {
	uint16_t length;	/* of header and fields, a multiple of RVMRPC_RECORD_ALIGN */
	uint16_t kind;		/* RVMRPC_RECORD_*; a reader skips those that it does not know */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_record_hdr, 8);

#define RVMRPC_FIELD_U64		0	/* length 8 */
#define RVMRPC_FIELD_STRING		1	/* no NUL */
#define RVMRPC_FIELD_BYTES		2

/* Followed by length bytes, and by zeros up to a multiple of RVMRPC_RECORD_ALIGN. */
struct rvmrpc_field {
	uint16_t key;		/* of the record's kind; a reader skips keys and types that it does not know */
	uint16_t type;		/* RVMRPC_FIELD_* */
	uint32_t length;
};
RVMRPC_ASSERT_SIZE(rvmrpc_field, 8);

/* Kinds of records, and their keys. */
#define RVMRPC_RECORD_PSI		1
#define RVMRPC_RECORD_VMSTAT		2
#define RVMRPC_RECORD_DISK		3

#define RVMRPC_RECORD_TASK		4
#define RVMRPC_RECORD_LOG		5

#define RVMRPC_RECORD_FILESYSTEM	6

#define RVMRPC_RECORD_INTERFACE		7
#define RVMRPC_RECORD_ADDRESS		8

#define RVMRPC_RECORD_CLOCK		9

/* Of events of RVMRPC_MOD_CORE. */
#define RVMRPC_RECORD_OOM_KILL		10
#define RVMRPC_RECORD_STALL		11
#define RVMRPC_RECORD_PANIC		12
#define RVMRPC_RECORD_OOPS		13
#define RVMRPC_RECORD_NO_MEMORY		14
#define RVMRPC_RECORD_LOW_MEMORY	18	/* 15 to 17 are no events */

#define RVMRPC_RECORD_FILE		15
#define RVMRPC_RECORD_FAILURE		16

#define RVMRPC_RECORD_VMCOREINFO	17

/* PSI: shares of time in hundredths of a percent, totals in ns since boot; FULL is absent where a resource has none. */
#define RVMRPC_PSI_RESOURCE		1	/* string: cpu, memory, io or irq */
#define RVMRPC_PSI_SOME_AVG10		2
#define RVMRPC_PSI_SOME_AVG60		3
#define RVMRPC_PSI_SOME_AVG300		4
#define RVMRPC_PSI_SOME_TOTAL		5
#define RVMRPC_PSI_FULL_AVG10		6
#define RVMRPC_PSI_FULL_AVG60		7
#define RVMRPC_PSI_FULL_AVG300		8
#define RVMRPC_PSI_FULL_TOTAL		9

/* VMSTAT: counts since boot, of pages unless it says otherwise. */
#define RVMRPC_VMSTAT_PAGE_SIZE		1	/* bytes */
#define RVMRPC_VMSTAT_FAULTS		2	/* faults, major ones too */
#define RVMRPC_VMSTAT_MAJOR_FAULTS	3	/* faults */
#define RVMRPC_VMSTAT_IN		4	/* KiB read from disks for the page cache and swap */
#define RVMRPC_VMSTAT_OUT		5	/* KiB written */
#define RVMRPC_VMSTAT_SWAP_IN		6
#define RVMRPC_VMSTAT_SWAP_OUT		7
#define RVMRPC_VMSTAT_SCAN_BACKGROUND	8	/* looked at by kswapd, the page daemon */
#define RVMRPC_VMSTAT_SCAN_DIRECT	9	/* by who wanted memory */
#define RVMRPC_VMSTAT_STEAL_BACKGROUND	10	/* taken, likewise */
#define RVMRPC_VMSTAT_STEAL_DIRECT	11
#define RVMRPC_VMSTAT_REFAULT_ANON	12	/* taken and wanted again soon */
#define RVMRPC_VMSTAT_REFAULT_FILE	13
#define RVMRPC_VMSTAT_STALLS		14	/* times that who wanted memory had to wait for it */
#define RVMRPC_VMSTAT_OOM_KILLS		15	/* processes */

/* DISK: since boot; a partition is one, too. */
#define RVMRPC_DISK_NAME		1	/* string */
#define RVMRPC_DISK_DEVICE		2	/* major << 32 | minor */
#define RVMRPC_DISK_READS		3	/* requests */
#define RVMRPC_DISK_READS_MERGED	4
#define RVMRPC_DISK_READ_BYTES		5
#define RVMRPC_DISK_READ_NS		6	/* sum over requests */
#define RVMRPC_DISK_WRITES		7
#define RVMRPC_DISK_WRITES_MERGED	8
#define RVMRPC_DISK_WRITE_BYTES		9
#define RVMRPC_DISK_WRITE_NS		10
#define RVMRPC_DISK_IN_FLIGHT		11	/* requests, now */
#define RVMRPC_DISK_BUSY_NS		12	/* time with a request in flight */
#define RVMRPC_DISK_QUEUE_NS		13	/* the same, times the requests */
#define RVMRPC_DISK_DISCARDS		14
#define RVMRPC_DISK_DISCARDS_MERGED	15
#define RVMRPC_DISK_DISCARD_BYTES	16
#define RVMRPC_DISK_DISCARD_NS		17
#define RVMRPC_DISK_FLUSHES		18
#define RVMRPC_DISK_FLUSH_NS		19

/* select of tasks.list */
#define RVMRPC_TASKS_BY_PID		0	/* all */
#define RVMRPC_TASKS_BY_MEMORY		1	/* those that have most, at most RVMRPC_TASKS_TOP_MAX; the cursor counts them */
#define RVMRPC_TASKS_BY_CPU		2	/* those that used most since they began, likewise */
#define RVMRPC_TASKS_TOP_MAX		64

/* TASK: a process, or of tasks.blocked a thread. */
#define RVMRPC_TASK_PID			1
#define RVMRPC_TASK_THREAD		2	/* tasks.blocked: thread ID */
#define RVMRPC_TASK_NAME		3	/* string, cut by the kernel; no command line */
#define RVMRPC_TASK_STATE		4	/* string: a letter, as ps prints it */
#define RVMRPC_TASK_PARENT		5	/* PID, 0 = none */
#define RVMRPC_TASK_UID			6
#define RVMRPC_TASK_KERNEL		7	/* 1: a thread of the kernel */
#define RVMRPC_TASK_THREADS		8	/* how many */
#define RVMRPC_TASK_RSS			9	/* bytes in memory; absent when it has none, or could not be asked */
#define RVMRPC_TASK_CPU_NS		10	/* of all its threads, those that ended too */
#define RVMRPC_TASK_STARTED_NS		11	/* since boot */
#define RVMRPC_TASK_STACK		12	/* strings, innermost first: functions of the kernel that it is in, no addresses */
#define RVMRPC_TASK_WAIT		13	/* string: what it waits for, in its kernel's own word; absent when it tells none */
#define RVMRPC_TASK_FROZEN		14	/* 1: its cgroup is frozen, and it with it */

/* select of klog.read */
#define RVMRPC_KLOG_FROM		0	/* from the cursor's record on; 0: what there is */
#define RVMRPC_KLOG_LAST		1	/* the last limit records; no cursor */

/* LOG */
#define RVMRPC_LOG_SEQ			1	/* number of the record: a gap is what was overwritten */
#define RVMRPC_LOG_LEVEL		2	/* 0 emergency to 7 debug */
#define RVMRPC_LOG_FACILITY		3	/* 0 kernel, else as syslog(3) */
#define RVMRPC_LOG_TIME_NS		4	/* since boot; absent when the kernel notes none */
#define RVMRPC_LOG_TEXT			5	/* string; lines are separated by '\n' */

/* VMCOREINFO: an ELF note for who reads a dump of the guest's memory. */
#define RVMRPC_VMCOREINFO_ADDRESS	1	/* guest-physical */
#define RVMRPC_VMCOREINFO_SIZE		2	/* bytes there, with the note's head and what is free */
#define RVMRPC_VMCOREINFO_TEXT		3	/* string: its lines */

/* FILESYSTEM: one of each mount. */
#define RVMRPC_FS_TARGET		1	/* string: where it is mounted, as the guest's first process sees it */
#define RVMRPC_FS_SOURCE		2	/* string */
#define RVMRPC_FS_TYPE			3	/* string */
#define RVMRPC_FS_ROOT			4	/* string: what of it is mounted, absent for all of it */
#define RVMRPC_FS_DEVICE		5	/* major << 32 | minor: mounts of one file system have the same */
#define RVMRPC_FS_READ_ONLY		6	/* 0 or 1 */
#define RVMRPC_FS_SKIPPED		7	/* RVMRPC_FS_SKIPPED_*: why what follows is absent, or RVMRPC_FS_CACHED */
#define RVMRPC_FS_SIZE			8	/* bytes, as the next two */
#define RVMRPC_FS_FREE			9
#define RVMRPC_FS_AVAILABLE		10	/* to who is not root */
#define RVMRPC_FS_FILES			11	/* inodes; absent where there is no limit */
#define RVMRPC_FS_FILES_FREE		12
#define RVMRPC_FS_CACHED		13	/* 1: it was skipped, and its numbers are what the kernel noted when last told */

#define RVMRPC_FS_SKIPPED_REMOTE	1	/* a server or a process would have to answer: network, FUSE */
#define RVMRPC_FS_SKIPPED_BELOW		2	/* it is mounted on such a one */
#define RVMRPC_FS_SKIPPED_FAILED	3	/* it was asked and failed, or could not be found */

/* INTERFACE: counters since it came. */
#define RVMRPC_NET_INDEX		1
#define RVMRPC_NET_NAME			2	/* string */
#define RVMRPC_NET_MAC			3	/* bytes; absent where it has none */
#define RVMRPC_NET_MTU			4
#define RVMRPC_NET_UP			5	/* 1: by the administrator's will, else 0 */
#define RVMRPC_NET_STATE		6	/* string: up, down, unknown, ..., as operstate of RFC 2863 */
#define RVMRPC_NET_LOOPBACK		7	/* 1: it is one */
#define RVMRPC_NET_RX_BYTES		8
#define RVMRPC_NET_RX_PACKETS		9
#define RVMRPC_NET_RX_ERRORS		10
#define RVMRPC_NET_RX_DROPPED		11
#define RVMRPC_NET_TX_BYTES		12
#define RVMRPC_NET_TX_PACKETS		13
#define RVMRPC_NET_TX_ERRORS		14
#define RVMRPC_NET_TX_DROPPED		15

/* ADDRESS */
#define RVMRPC_ADDRESS_INTERFACE	1	/* its index */
#define RVMRPC_ADDRESS_BYTES		2	/* bytes, in the order of the network: 4 of IPv4, 16 of IPv6 */
#define RVMRPC_ADDRESS_PREFIX		3	/* bits */
#define RVMRPC_ADDRESS_SCOPE		4	/* string: global, site, link or host */

/* CLOCK: ns, all of one moment. */
#define RVMRPC_CLOCK_REALTIME		1	/* since 1970, UTC */
#define RVMRPC_CLOCK_MONOTONIC		2	/* since boot, without sleep of the machine */
#define RVMRPC_CLOCK_BOOTTIME		3	/* with it */

/* select of files.stat */
#define RVMRPC_FILES_FOLLOW		0	/* a link at the path's end is followed */
#define RVMRPC_FILES_NOFOLLOW		1	/* and not here: the link itself, with FILE_LINK */

#define RVMRPC_FILES_PATH_MAX		4095	/* bytes */

/* FILE */
#define RVMRPC_FILE_NAME		1	/* bytes, of list: without a slash */
#define RVMRPC_FILE_MODE		2	/* type and permissions, as POSIX' st_mode in Linux' and FreeBSD's numbers */
#define RVMRPC_FILE_SIZE		3	/* bytes, */
#define RVMRPC_FILE_ALLOCATED		4	/* and those that it takes of its file system */
#define RVMRPC_FILE_INODE		5
#define RVMRPC_FILE_LINKS		6
#define RVMRPC_FILE_UID			7
#define RVMRPC_FILE_GID			8
#define RVMRPC_FILE_DEVICE		9	/* what a device file is of: major << 32 | minor */
#define RVMRPC_FILE_ACCESSED_NS		10	/* since 1970, two's complement, as the next two */
#define RVMRPC_FILE_MODIFIED_NS		11	/* its data */
#define RVMRPC_FILE_CHANGED_NS		12	/* data or attributes */
#define RVMRPC_FILE_LINK		13	/* bytes: what a symbolic link says */

/* FAILURE: nothing else is told; files.read and what changes files have the reason in their answers. */
#define RVMRPC_FAILURE_REASON		1	/* RVMRPC_FAILED_* */

#define RVMRPC_FAILED_NOT		0
#define RVMRPC_FAILED_NOT_FOUND		1
#define RVMRPC_FAILED_NOT_DIRECTORY	2	/* the path, or a part of it */
#define RVMRPC_FAILED_NOT_REGULAR	3	/* only regular files are read */
#define RVMRPC_FAILED_LOOP		4	/* too many symbolic links */
#define RVMRPC_FAILED_TOO_LONG		5	/* a name */
#define RVMRPC_FAILED_ACCESS		6	/* the guest's own kernel refuses it */
#define RVMRPC_FAILED_IO		7	/* the file system failed, or cannot do that */
#define RVMRPC_FAILED_EXISTS		8
#define RVMRPC_FAILED_NOT_EMPTY		9	/* a folder that was to go */
#define RVMRPC_FAILED_IS_DIRECTORY	10	/* and must be none */
#define RVMRPC_FAILED_NO_SPACE		11	/* or a quota is used up */
#define RVMRPC_FAILED_READ_ONLY		12	/* the file system */
#define RVMRPC_FAILED_TOO_LARGE		13	/* a file for its file system */
#define RVMRPC_FAILED_OTHER_MOUNT	14	/* nothing is renamed from one to another */

struct rvmrpc_file_req {
	uint64_t offset;
	uint32_t length;	/* most bytes wanted; fewer come when no more fit into the answer */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_file_req, 16);

/* Followed by the bytes: fewer than were wanted and would fit only at the file's end. */
struct rvmrpc_file_res {
	uint32_t failed;	/* RVMRPC_FAILED_*; then all else is zero */
	uint32_t reserved;
	uint64_t size;		/* of the file, when it was opened, as what follows */
	uint64_t inode;
	uint64_t modified_ns;
};
RVMRPC_ASSERT_SIZE(rvmrpc_file_res, 32);

/* Followed by the path, and by what its procedure wants behind that. */
struct rvmrpc_file_change_req {
	uint64_t offset;	/* write; else 0 */
	uint32_t path_bytes;
	uint16_t mode;		/* create, mkdir: permissions, RVMRPC_FILE_MODES at most; else 0 */
	uint16_t flags;		/* rename: RVMRPC_FILE_KEEP; else 0 */
};
RVMRPC_ASSERT_SIZE(rvmrpc_file_change_req, 16);

#define RVMRPC_FILE_MODES		01777	/* never set-user-ID or set-group-ID */
#define RVMRPC_FILE_KEEP		(1u << 0)	/* what has the new name already is kept: RVMRPC_FAILED_EXISTS */

/* What of a struct rvmrpc_file_set_req counts; the rest is 0. */
#define RVMRPC_FILE_SET_SIZE		(1u << 0)
#define RVMRPC_FILE_SET_MODE		(1u << 1)
#define RVMRPC_FILE_SET_UID		(1u << 2)
#define RVMRPC_FILE_SET_GID		(1u << 3)
#define RVMRPC_FILE_SET_ACCESSED	(1u << 4)
#define RVMRPC_FILE_SET_MODIFIED	(1u << 5)
#define RVMRPC_FILE_SET_ALL		((1u << 6) - 1)

#define RVMRPC_FILE_NOW			(1ull << 63)	/* a time: the guest's */

/* Followed by the path. */
struct rvmrpc_file_set_req {
	uint32_t set;		/* RVMRPC_FILE_SET_*, not 0 */
	uint32_t mode;		/* RVMRPC_FILE_MODES at most */
	uint32_t uid;
	uint32_t gid;
	uint64_t size;
	uint64_t accessed_ns;	/* as RVMRPC_FILE_ACCESSED_NS, or RVMRPC_FILE_NOW, as the next */
	uint64_t modified_ns;
};
RVMRPC_ASSERT_SIZE(rvmrpc_file_set_req, 40);

struct rvmrpc_file_change_res {
	uint32_t failed;	/* RVMRPC_FAILED_* */
	uint32_t written;	/* write: bytes, fewer than were sent when the file system took no more */
};
RVMRPC_ASSERT_SIZE(rvmrpc_file_change_res, 8);

/* Of each event. */
#define RVMRPC_EVENT_TEXT		1	/* string: in words; may be cut */
#define RVMRPC_EVENT_DATA		2	/* bytes: what who told it likes */

/* OOM_KILL, and whom it met; PANIC, OOPS: who ran */
#define RVMRPC_EVENT_PID		3
#define RVMRPC_EVENT_PROCESS		4	/* string: name, cut by the kernel */
#define RVMRPC_EVENT_RSS		5	/* bytes in memory */

/* STALL: tasks waited for memory for a larger part of a second than the guest is to tell of; and then no more. */
#define RVMRPC_EVENT_SHARE		6	/* of that time, in hundredths of a percent */
#define RVMRPC_EVENT_ENDED		7	/* 1: they do not any more */

/*
 * One event in the ring (docs/spec.md 4.9).  In an epoch they are numbered from 1 on; number n lies at (n - 1) modulo the
 * records that there are.
 */
struct rvmrpc_event {
	uint64_t seq;		/* 0 while it is being written; written last */
	uint64_t epoch;
	uint64_t time_ns;	/* the guest's, since boot */
	uint32_t module;	/* whose kinds they are; RVMRPC_MOD_CORE, or RVMRPC_MOD_USER and up */
	uint32_t reserved;
	struct rvmrpc_record_hdr record;
	uint8_t fields[216];	/* record.length - 8 bytes of them count */
};
RVMRPC_ASSERT_SIZE(rvmrpc_event, 256);
RVMRPC_ASSERT_OFFSET(rvmrpc_event, record, 32);
#define RVMRPC_EVENT_RECORD_MAX		224	/* bytes: record and fields */
#define RVMRPC_EVENT_DATA_MAX		128	/* bytes of RVMRPC_EVENT_DATA; others' may be longer */
#define RVMRPC_RING_EVENTS_MAX		64

/* clock.set: "when your boottime was that, it was so late". */
struct rvmrpc_clock_req {
	uint64_t realtime_ns;	/* the time to be set */
	uint64_t boottime_ns;	/* as clock.read told it at that time; 0 = now, which makes the call's way an error */
};
RVMRPC_ASSERT_SIZE(rvmrpc_clock_req, 16);

struct rvmrpc_clock_res {
	uint64_t before_ns;	/* realtime before the step, */
	uint64_t after_ns;	/* and what it was set to */
};
RVMRPC_ASSERT_SIZE(rvmrpc_clock_res, 16);
#define RVMRPC_CLOCK_AGE_NS_MAX		60000000000ull	/* how long ago that may be */

struct rvmrpc_sysrq_req {
	uint32_t key;		/* a printable character of ASCII, as one types it */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_sysrq_req, 8);

struct rvmrpc_sysrq_res {
	uint32_t enabled;	/* the guest's kernel.sysrq: 1 = every key, else bits; a key that it has not did nothing */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_sysrq_res, 8);

#define RVMRPC_POWER_FORCE		(1u << 0)	/* by the kernel, when user space cannot be asked */

struct rvmrpc_power_req {
	uint32_t flags;		/* RVMRPC_POWER_* */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_power_req, 8);

#define RVMRPC_FREEZE_MS_MAX		600000

struct rvmrpc_freeze_req {
	uint32_t timeout_ms;	/* 1 to RVMRPC_FREEZE_MS_MAX: then the guest thaws by itself */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_freeze_req, 8);

#define RVMRPC_FREEZE_THAWED		0
#define RVMRPC_FREEZE_FREEZING		1	/* not all of them yet */
#define RVMRPC_FREEZE_FROZEN		2
#define RVMRPC_FREEZE_EXPIRED		3	/* thawed, as the time was over: what was copied meanwhile is worth nothing */

struct rvmrpc_freeze_res {
	uint32_t state;		/* RVMRPC_FREEZE_* */
	uint32_t count;		/* file systems that are frozen; of thaw: that were until now */
	uint32_t skipped;	/* that cannot be frozen: remote, or of a type that knows no freezing */
	uint32_t lost;		/* that somebody else had thawed */
	uint32_t left_ms;	/* until the guest thaws by itself */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_freeze_res, 24);

#define RVMRPC_DROP_PAGECACHE		1
#define RVMRPC_DROP_SLAB		2
#define RVMRPC_DROP_ALL			3
#define RVMRPC_DROP_SYNC		(1u << 0)

struct rvmrpc_drop_req {
	uint32_t mode;		/* RVMRPC_DROP_PAGECACHE, _SLAB or _ALL */
	uint32_t flags;		/* RVMRPC_DROP_SYNC: write dirty pages first */
};
RVMRPC_ASSERT_SIZE(rvmrpc_drop_req, 8);

struct rvmrpc_drop_res {
	uint64_t freed;		/* bytes by which free memory grew, 0 when it shrank */
};
RVMRPC_ASSERT_SIZE(rvmrpc_drop_res, 8);

struct rvmrpc_shrink_req {
	uint64_t bytes;		/* wanted, not 0 */
};
RVMRPC_ASSERT_SIZE(rvmrpc_shrink_req, 8);

#define RVMRPC_SHRINK_DONE		0	/* all that was wanted */
#define RVMRPC_SHRINK_EXHAUSTED		1	/* the kernel found no more that it could take */
#define RVMRPC_SHRINK_LATE		2	/* the caller's time was over */

struct rvmrpc_shrink_res {
	uint64_t freed;		/* bytes by which memory grew that is free, or kept free for a CPU; 0 when it shrank */
	uint64_t reclaimed;	/* bytes that the kernel took, as it counts them; may be more than was wanted */
	uint32_t end;		/* RVMRPC_SHRINK_* */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_shrink_res, 24);

struct rvmrpc_compact_res {
	uint64_t before;	/* bytes that were free in blocks of 2 MiB or more, */
	uint64_t after;		/* and are now */
};
RVMRPC_ASSERT_SIZE(rvmrpc_compact_res, 16);

#define RVMRPC_CONNECT_CHECK		(1u << 0)	/* only say whether it is allowed */

/* The caller picks session, random and not 0, and connection, not 0: whoever knows them has the connection. */
struct rvmrpc_connect_open_req {
	uint64_t session;
	uint8_t address[16];	/* IPv6; or ::ffff:a.b.c.d for IPv4 */
	uint32_t connection;
	uint32_t scope;		/* index of the interface, of a link-local address; else 0 */
	uint32_t flags;		/* RVMRPC_CONNECT_CHECK */
	uint16_t port;		/* not 0 */
	uint16_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_connect_open_req, 40);

#define RVMRPC_CONNECT_END		(1u << 0)	/* send: no more bytes come after these */
#define RVMRPC_CONNECT_RESET		(1u << 1)	/* close: and forget what is on its way */

struct rvmrpc_connect_req {
	uint64_t session;
	uint64_t at;		/* send, recv: place of the first byte in the stream; else 0 */
	uint32_t connection;	/* close: 0 = all of the session */
	uint32_t flags;		/* RVMRPC_CONNECT_END or _RESET */
	uint32_t length;	/* recv: most bytes wanted; else 0 */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_connect_req, 32);

#define RVMRPC_CONNECT_FAILED_NOT	0
#define RVMRPC_CONNECT_REFUSED		1	/* nobody listens there */
#define RVMRPC_CONNECT_UNREACHABLE	2
#define RVMRPC_CONNECT_TIMED_OUT	3
#define RVMRPC_CONNECT_BROKEN		4	/* by the other end */
#define RVMRPC_CONNECT_UNKNOWN		5	/* there is none, or no more */
#define RVMRPC_CONNECT_FULL		6	/* the guest has as many as it wants to have */
#define RVMRPC_CONNECT_OTHER		7

#define RVMRPC_CONNECT_MORE		(1u << 0)	/* there may be more bytes now */
#define RVMRPC_CONNECT_ENDED		(1u << 1)	/* there will never be more */

struct rvmrpc_connect_res {
	uint64_t at;		/* send: behind the last byte that was taken; recv: place of the first byte here */
	uint32_t failed;	/* RVMRPC_CONNECT_FAILED_NOT or a reason */
	uint32_t flags;		/* recv: RVMRPC_CONNECT_MORE, _ENDED */
};
RVMRPC_ASSERT_SIZE(rvmrpc_connect_res, 16);

struct rvmrpc_connect_wait_req {
	uint64_t session;
	uint32_t timeout_ms;	/* the guest may answer sooner */
	uint32_t reserved;
};
RVMRPC_ASSERT_SIZE(rvmrpc_connect_wait_req, 16);

#define RVMRPC_CONNECT_READ		(1u << 0)	/* recv may tell something new */
#define RVMRPC_CONNECT_WRITE		(1u << 1)	/* send likewise */

struct rvmrpc_connect_ready {
	uint32_t connection;
	uint32_t events;	/* RVMRPC_CONNECT_READ, _WRITE; told once */
};
RVMRPC_ASSERT_SIZE(rvmrpc_connect_ready, 8);

#endif /* RVMRPC_ABI_H */
