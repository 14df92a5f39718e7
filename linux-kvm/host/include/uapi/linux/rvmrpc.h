/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Reverse VMRPC in the host's kernel: what user space sees.
 *
 * A VMM hands the window of its VM to the kernel on a file of its own, /dev/rvmrpc-vm (0660, group kvm), which then is its
 * channel: on it the VMM tells the VM's state, and calls into its own guest.  /dev/rvmrpc (0600, CAP_SYS_ADMIN in the
 * initial user namespace) calls into any attached VM.  Both speak the same records: write() submits one request, read()
 * takes one answer, poll() tells when there is one, close() cancels what is left.
 */
#ifndef _UAPI_LINUX_RVMRPC_H
#define _UAPI_LINUX_RVMRPC_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define RVMRPC_VM_NAME_SIZE	64
#define RVMRPC_IOC_MAGIC	0xbe	/* nobody's in Linux' list of ioctl numbers; 0xb7 to 0xba are */

/*
 * On /dev/rvmrpc-vm: from now on the kernel owns the window.  It begins a new epoch, so that the guest says hello again.
 * The VMM touches neither the window nor the doorbell's eventfd until RVMRPC_VM_DETACH.  That comes by itself when the
 * process that attached closes the file or ends, whoever else has it open, and when the last one closes it.
 *
 * EINVAL: bad sizes, unknown flags or version.  EBUSY: the file has a window, or the window has an owner.  EEXIST: a VM with
 * that uuid is attached.  ENOMEM: RLIMIT_MEMLOCK does not let so much be pinned.  EDQUOT: this user has too many windows.
 * EOPNOTSUPP: there is a token, and no module that knows it; EINVAL too: it is no token.  EPERM: pid is another process, and the caller has neither
 * CAP_KILL nor CAP_SYS_ADMIN.  ESHUTDOWN: the module wants to go.
 */
struct rvmrpc_vm_attach {
	__u32 version;		/* RVMRPC_HOST_VERSION */
	__u32 flags;		/* RVMRPC_VM_* */
	__u8 uuid[16];		/* zero: none */
	char name[RVMRPC_VM_NAME_SIZE];	/* NUL-terminated */
	__u64 window;		/* address in the caller's memory, of shared memory that cannot shrink */
	__u64 window_bytes;	/* all of it */
	__u32 nslots;		/* how the window is divided: rvmrpc_layout_make() */
	__u32 req_bytes;
	__u32 res_bytes;
	__u32 doorbell;		/* what the guest writes to the device's doorbell register */
	__s32 doorbell_fd;	/* eventfds: the guest rings here, */
	__s32 interrupt_fd;	/* and is interrupted here */
	__s32 token_fd;		/* of KVM's RVMRPC_ATTACH, or -1 */
	__u32 spin_us;		/* longest that the guest may spin for a request; 0 never */
	__s32 pid;		/* of the VMM, as the caller sees it; 0: the caller */
	__u32 reserved;		/* zero, as all that follows */
	__u64 reserved2[4];
};
#define RVMRPC_HOST_VERSION	1
#define RVMRPC_VM_STOPPED	(1u << 0)	/* vCPUs do not run until RVMRPC_NOTICE says so */
#define RVMRPC_VM_ATTACH	_IOW(RVMRPC_IOC_MAGIC, 0x10, struct rvmrpc_vm_attach)

/* On /dev/rvmrpc-vm: the window is the VMM's again; calls under way end.  ENOTCONN: it has none. */
#define RVMRPC_VM_DETACH	_IO(RVMRPC_IOC_MAGIC, 0x11)

/*
 * On a VM's file descriptor, with our KVM; any other answers ENOTTY.  Switches VMRPC's gate on, by which the guest calls
 * servers of the host's kernel and of its VMM, and returns a token.  The gate is on as long as the token is open.  With it
 * RVMRPC_VM_ATTACH lets the guest's vCPU wait for calls in the host (VMLP).  EINVAL: version or flags.  EBUSY: there is one.
 * EOPNOTSUPP: the guest is protected (SEV of any kind).
 */
struct rvmrpc_kvm_attach {
	__u32 version;		/* RVMRPC_KVM_VERSION */
	__u32 flags;		/* zero */
	__u64 reserved[7];
};
#define RVMRPC_KVM_VERSION	2
#define RVMRPC_ATTACH		_IOW(RVMRPC_IOC_MAGIC, 0x01, struct rvmrpc_kvm_attach)

/* On a token: what the gate has counted.  KVM_GET_STATS_FD on it has the same as binary statistics. */
struct rvmrpc_gate_status {
	__u64 hypercalls;	/* gate calls */
	__u64 waits;		/* of these, such as waited */
	__u64 interrupted;	/* waits that ended without what was waited for */
	__u64 user_exits;	/* gate calls that left to the VMM */
	__u64 refused_calls;	/* gate calls that were answered with an error */
};
#define RVMRPC_GATE_STATUS	_IOR(RVMRPC_IOC_MAGIC, 0x12, struct rvmrpc_gate_status)

/* On a channel: what happened to the VM.  The argument is one of RVMRPC_KVM_*. */
#define RVMRPC_NOTICE		_IO(RVMRPC_IOC_MAGIC, 0x02)
#define RVMRPC_KVM_RUN		1	/* vCPUs run */
#define RVMRPC_KVM_STOP		2	/* vCPUs are stopped */
#define RVMRPC_KVM_RESET	3	/* reset, state loaded or moved away: calls in flight get RESET */

/* On a channel: state and counters; those of the gate are the token's. */
#define RVMRPC_KVM_HISTOGRAM	32
struct rvmrpc_kvm_status {
	__u64 epoch;		/* 0: no driver is registered */
	__u64 last_seen_ns;	/* ago */
	__u32 os;
	__u16 abi;
	__u16 nslots;
	__u32 in_flight;
	__u32 silent;		/* the guest does not answer */
	__u32 vmlp;		/* the last poll asked to wait in the host */
	__u32 stopped;
	char release[64];
	__u64 calls, completed, failed, refused, timed_out, cancelled, reset;
	__u64 late_replies, bad_replies, registrations, kicks;
	__u64 rings, interrupts, rekicks, lost;
	__u64 events, events_lost, events_dropped;	/* that the guest told */
	__u64 histogram[RVMRPC_KVM_HISTOGRAM];	/* answered calls by us, as in rvmrpc_stats */
};
#define RVMRPC_STATUS		_IOR(RVMRPC_IOC_MAGIC, 0x03, struct rvmrpc_kvm_status)

/* On /dev/rvmrpc: the attached VMs. */
struct rvmrpc_vm_info {
	__u64 id;		/* never used twice */
	__u8 uuid[16];
	char name[RVMRPC_VM_NAME_SIZE];
	__s32 pid;		/* of the VMM */
	__u32 connected;
	__u32 uid;		/* who attached it */
	__u32 reserved;
};

struct rvmrpc_vm_list {
	__u32 size;		/* in: elements that fit at vms; out: elements there are */
	__u32 reserved;
	__u64 vms;		/* address of struct rvmrpc_vm_info[] */
};
#define RVMRPC_LIST_VMS		_IOWR(RVMRPC_IOC_MAGIC, 0x04, struct rvmrpc_vm_list)

/* On both: cancels the call with that cookie; its answer comes nevertheless.  ENOENT: no such call. */
#define RVMRPC_CANCEL		_IOW(RVMRPC_IOC_MAGIC, 0x05, __u64)

/* On /dev/rvmrpc: status of the VM whose id is in epoch. */
#define RVMRPC_VM_STATUS	_IOWR(RVMRPC_IOC_MAGIC, 0x06, struct rvmrpc_kvm_status)

/*
 * write(): one request, followed by arglen bytes.  EINVAL: bad sizes or limits.  EBUSY: too many requests are in flight
 * or have an answer that was not read (16, on a channel 64); POLLOUT says when there is room.  Once taken it is answered,
 * with the status that refuses it if need be.
 */
struct rvmrpc_submit {
	__u64 cookie;		/* the caller's, comes back */
	__u64 vm;		/* id, on /dev/rvmrpc; zero on a channel */
	__u32 module;
	__u32 procedure;
	__u32 arglen;
	__u32 res_max;		/* most bytes of an answer; at most 1 MiB */
	__u32 timeout_ms;	/* 1 to 60000 */
	__u32 list;		/* generation of the guest's list that told the numbers (core.list); 0: any */
	__u16 version;		/* of the module; 0: any */
	__u16 flags;		/* zero */
	__u32 reserved;		/* zero */
};

#define RVMRPC_REC_ANSWER	0
#define RVMRPC_REC_CONNECTED	1	/* channel only: a driver has registered */
#define RVMRPC_REC_GONE		2	/* channel only: it left or was replaced; status is one of RVMRPC_GONE_* */
#define RVMRPC_REC_DETACH	3	/* channel only: RVMRPC_VM_DETACH now; the module wants to go, or the window lost pages */
#define RVMRPC_REC_STUCK	4	/* channel only: the guest answers in none of its slots */

#define RVMRPC_REC_EVENT	5	/* channel only: the guest told something; a struct rvmrpc_event, cookie: it missed so many */

#define RVMRPC_GONE_EXIT	0	/* the driver left */
#define RVMRPC_GONE_REPLACED	1	/* it, or another one, said hello */
#define RVMRPC_GONE_OVERWRITTEN	2	/* a state was loaded over the window, its pages were discarded, or worse */

/*
 * read(): one record, followed by reslen bytes.  EMSGSIZE: they do not fit, the record stays.  CONNECTED to STUCK are not
 * counted: of several of one kind the last is told, and the one that happened last is told last.  Of EVENT the last 64 are
 * kept, and they come first.
 */
struct rvmrpc_record {
	__u64 cookie;
	__u32 type;		/* RVMRPC_REC_* */
	__u32 status;		/* RVMRPC_STATUS_* of the ABI; RVMRPC_REC_GONE: why */
	__u32 reslen;
	__u32 reserved;
	__u64 elapsed_ns;
};

/*
 * A VMRPC of the guest for the VMM's process: KVM_RUN returns with this exit reason and the call in kvm_run.hypercall:
 * nr = op, args[0..2] = a0..a2; the VMM leaves the answer in hypercall.ret and runs the vCPU again.  Only an attached VM
 * can cause it.
 */
#define KVM_EXIT_VMRPC		0x52564d52

#endif /* _UAPI_LINUX_RVMRPC_H */
