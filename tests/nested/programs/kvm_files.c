// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VMM with a guest of two instructions, which the test speaks through: what KVM's files do, without QEMU and a driver.
 *
 * Prints TAP; runs as root in a host that has our kvm.ko.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/capability.h>
#include <linux/rvmrpc.h>
#include "tiny_vm.h"

/* Guest-physical. */
#define INIT		0x10000
#define REQUEST(slot)	(0x20000 + 0x4000 * (slot))
#define RESPONSE(slot)	(REQUEST(slot) + 0x1000)
#define SLOTS		2
#define RES_PAGES	2

static int cases, failures;

static void check(bool ok, const char *what)
{
	printf("%s %d - %s\n", ok ? "ok" : "not ok", ++cases, what);
	failures += !ok;
}

static uint32_t perform(uint32_t func, uint64_t arg, uint64_t bytes)
{
	static uint32_t handle = RVMRPC_GATE_BAD_HANDLE;
	struct vmrpc_bind bind = { RVMRPC_PROXY_NAME, RVMRPC_PROXY_VERSION };

	if (handle == RVMRPC_GATE_BAD_HANDLE) {
		memcpy(mem + INIT, &bind, sizeof(bind));
		handle = gate(RVMRPC_OP_BIND | RVMRPC_OP_KERNEL, INIT, 0, 0);
	}
	return gate(RVMRPC_OP_PERFORM | RVMRPC_OP_KERNEL, handle | (uint64_t)func << 32, arg, bytes);
}

static uint64_t epoch;

static uint32_t register_guest(void)
{
	const uint32_t size = sizeof(struct rvmrpc_init) + SLOTS * (1 + RES_PAGES) * sizeof(uint64_t);
	struct rvmrpc_init *init = (struct rvmrpc_init *)(mem + INIT);
	uint64_t *pages = (uint64_t *)(init + 1);
	uint32_t code, slot;

	perform(RVMRPC_EXIT, epoch, 0);
	memset(init, 0, sizeof(*init));
	init->magic = RVMRPC_INIT_MAGIC;
	init->abi_min = init->abi_max = RVMRPC_ABI_MAX;
	init->size = size;
	init->os = RVMRPC_OS_OTHER;
	init->nslots = SLOTS;
	init->req_pages = 1;
	init->res_pages = RES_PAGES;
	memcpy(init->release, "test", sizeof("test"));
	for (slot = 0; slot < SLOTS; slot++) {
		*pages++ = REQUEST(slot);
		*pages++ = RESPONSE(slot);
		*pages++ = RESPONSE(slot) + 0x1000;
	}
	code = perform(RVMRPC_INIT_HOST, INIT, size);
	epoch = init->answer.epoch;
	return code;
}

/* The slot of a request, or a code. */
static uint32_t poll_request(void)
{
	return perform(RVMRPC_MAIN, epoch, RVMRPC_MAIN_ARG(RVMRPC_SLOT_NONE, 0));
}

static uint32_t reply(uint32_t slot, const void *payload, uint32_t length)
{
	struct rvmrpc_hdr hdr;

	memcpy(&hdr, mem + REQUEST(slot), sizeof(hdr));
	hdr.timeout_ms = 0;
	hdr.version = 1;
	hdr.length = length;
	memcpy(mem + RESPONSE(slot), &hdr, sizeof(hdr));
	memcpy(mem + RESPONSE(slot) + sizeof(hdr), payload, length);
	return perform(RVMRPC_REPLY, epoch, slot);
}

/* ---- The host's side ---- */

static const struct rvmrpc_submit usual = { .module = RVMRPC_MOD_ECHO, .res_max = 8192, .timeout_ms = 60000 };

/* The result of write(), or -errno. */
static int submit(int fd, struct rvmrpc_submit s, const void *arg, size_t bytes)
{
	struct iovec iov[] = { { &s, sizeof(s) }, { (void *)arg, bytes } };
	ssize_t ret = writev(fd, iov, 2);

	return ret < 0 ? -errno : (int)ret;
}

static int submit_cookie(int fd, uint64_t vm, uint64_t cookie)
{
	struct rvmrpc_submit s = usual;

	s.vm = vm;
	s.cookie = cookie;
	return submit(fd, s, NULL, 0);
}

static unsigned char payload[8192];

/* The length of a record, or -errno; -EAGAIN at once when there is none. */
static int take(int fd, struct rvmrpc_record *rec, size_t room)
{
	struct iovec iov[] = { { rec, sizeof(*rec) }, { payload, room } };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t ret;

	memset(rec, 0xff, sizeof(*rec));
	if (poll(&p, 1, 0) != 1)
		return -EAGAIN;
	ret = readv(fd, iov, 2);
	return ret < 0 ? -errno : (int)ret;
}

static bool answered(int fd, uint64_t cookie, uint32_t status)
{
	struct rvmrpc_record rec;

	return take(fd, &rec, sizeof(payload)) == sizeof(rec) && rec.type == RVMRPC_REC_ANSWER &&
	       rec.cookie == cookie && rec.status == status && !rec.reslen;
}

static bool event(int fd, uint32_t type)
{
	struct rvmrpc_record rec;

	return take(fd, &rec, 0) == sizeof(rec) && rec.type == type;
}

static bool nothing(int fd)
{
	struct rvmrpc_record rec;

	return take(fd, &rec, sizeof(payload)) == -EAGAIN;
}

static int cancel(int fd, uint64_t cookie)
{
	return ioctl(fd, RVMRPC_CANCEL, &cookie) ? -errno : 0;
}

static struct rvmrpc_kvm_status status_of(int channel)
{
	struct rvmrpc_kvm_status status;

	must(!ioctl(channel, RVMRPC_STATUS, &status), "status");
	return status;
}

static short ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) == 1 ? p.revents : 0;
}

static uint32_t count_vms(int dev, struct rvmrpc_vm_info *first)
{
	struct rvmrpc_vm_list list = { .size = first ? 1 : 0, .vms = (uintptr_t)first };

	must(!ioctl(dev, RVMRPC_LIST_VMS, &list), "list");
	return list.size;
}

static const struct rvmrpc_attach attach = {
	.version = RVMRPC_KVM_VERSION, .uuid = { 1, 2, 3 }, .name = "tiny", .slots = 4, .req_pages = 1, .res_pages = 4,
};

static int attach_vm(struct rvmrpc_attach a)
{
	static int kick = -1;
	int fd;

	if (kick < 0)
		kick = eventfd(0, EFD_CLOEXEC);
	a.kick_fd = kick;
	fd = ioctl(vm_fd, RVMRPC_ATTACH, &a);
	return fd < 0 ? -errno : fd;
}

/* ---- Cases ---- */

static int test_attach(void)
{
	struct rvmrpc_attach bad = attach;
	int channel;

	check(gate(RVMRPC_OP_NULL, 0, 0, 0) == (uint64_t)-1000, "a VM that is not attached has no gate");
	bad.version++;
	check(attach_vm(bad) == -EINVAL, "attach refuses another version");
	bad = attach;
	bad.reserved[3] = 1;
	check(attach_vm(bad) == -EINVAL, "attach refuses what is reserved");
	bad = attach;
	memset(bad.name, 'x', sizeof(bad.name));
	check(attach_vm(bad) == -EINVAL, "attach refuses a name without an end");
	bad = attach;
	bad.slots = RVMRPC_SLOTS_MAX + 1;
	check(attach_vm(bad) == -EINVAL, "attach refuses too many slots");

	channel = attach_vm(attach);
	check(channel >= 0, "attach gives a channel");
	must(channel >= 0, "attach");
	check(fcntl(channel, F_GETFD) == FD_CLOEXEC, "the channel is closed at exec");
	check(attach_vm(attach) == -EBUSY, "a VM is attached once");
	check(gate(RVMRPC_OP_NULL, 0, 0, 0) == RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER), "the gate answers");
	return channel;
}

static void test_bad_submit(int channel)
{
	struct rvmrpc_submit s = usual;

	check(write(channel, &s, sizeof(s) - 1) < 0 && errno == EINVAL, "a short request is refused");
	s.arglen = 4;
	check(submit(channel, s, "abc", 3) == -EINVAL, "a request shorter than it says is refused");
	s.arglen = 2;
	check(submit(channel, s, "abc", 3) == -EINVAL, "a request longer than it says is refused");
	s = usual;
	s.arglen = ~0u;
	check(submit(channel, s, NULL, 0) == -EINVAL, "a huge argument is refused");
	s = usual;
	s.res_max = (1 << 20) + 1;
	check(submit(channel, s, NULL, 0) == -EINVAL, "a huge answer is refused");
	s = usual;
	s.timeout_ms = 0;
	check(submit(channel, s, NULL, 0) == -EINVAL, "no time is refused");
	s.timeout_ms = 60001;
	check(submit(channel, s, NULL, 0) == -EINVAL, "too much time is refused");
	s = usual;
	s.reserved = 1;
	check(submit(channel, s, NULL, 0) == -EINVAL, "what is reserved is refused");
	check(submit_cookie(channel, 1, 1) == -EINVAL, "a channel calls its own VM only");
	s = usual;
	s.arglen = 3;
	check(submit(channel, s, (void *)1, 3) == -EFAULT, "a bad address is refused");
	check(ioctl(channel, RVMRPC_NOTICE, 4) && errno == EINVAL, "an unknown notice is refused");
	check(ioctl(channel, RVMRPC_LIST_VMS, &s) && errno == ENOTTY, "a channel does not list VMs");
}

static void test_quota(int channel)
{
	struct rvmrpc_record rec;
	int i, taken = 0;

	for (i = 0; i < RVMRPC_CALLS_MAX; i++)
		taken += submit_cookie(channel, 0, i) > 0;
	check(taken == RVMRPC_CALLS_MAX, "calls that are refused are answered");
	check(submit_cookie(channel, 0, i) == -EBUSY, "who does not read is busy");
	check(ready(channel, POLLIN | POLLOUT) == POLLIN, "poll says that there is no room");
	check(read(channel, &rec, sizeof(rec) - 1) < 0 && errno == EMSGSIZE, "a record that does not fit stays");
	check(answered(channel, 0, RVMRPC_STATUS_NOT_CONNECTED), "the first answer is the first call's");
	check(ready(channel, POLLOUT) == POLLOUT, "reading makes room");
	check(submit_cookie(channel, 0, i) > 0, "and a call goes in");
	for (i = 1; i <= RVMRPC_CALLS_MAX; i++)
		taken -= answered(channel, i, RVMRPC_STATUS_NOT_CONNECTED);
	check(!taken && nothing(channel), "each is answered once");
	check(fcntl(channel, F_SETFL, O_NONBLOCK) == 0 && read(channel, &rec, sizeof(rec)) < 0 && errno == EAGAIN,
	      "an empty channel does not block who asked for that");
}

static void test_registration(int channel)
{
	check(register_guest() == 0 && epoch, "the guest registers");
	check(event(channel, RVMRPC_REC_CONNECTED) && nothing(channel), "the channel says so, once");
	check(status_of(channel).epoch == epoch, "the status has its epoch");
	check(submit_cookie(channel, 0, 1) > 0 && answered(channel, 1, RVMRPC_STATUS_STOPPED),
	      "a VM that does not run answers STOPPED");
	check(!ioctl(channel, RVMRPC_NOTICE, RVMRPC_KVM_RUN) && poll_request() == RVMRPC_GATE_AGAIN,
	      "it runs, and has nothing to do");
}

static uint64_t test_list(int dev)
{
	struct rvmrpc_kvm_status status;
	struct rvmrpc_vm_info info;

	check(count_vms(dev, NULL) == 1, "an empty list says how many VMs there are");
	check(count_vms(dev, &info) == 1 && !memcmp(info.uuid, attach.uuid, 16) && !strcmp(info.name, "tiny") &&
	      info.pid == getpid() && info.connected == 1, "the list has our VM");
	status.epoch = info.id;
	check(!ioctl(dev, RVMRPC_VM_STATUS, &status) && status.epoch == epoch, "its status has its epoch");
	status.epoch = info.id + 1;
	check(ioctl(dev, RVMRPC_VM_STATUS, &status) && errno == ENODEV, "another VM has none");
	check(submit_cookie(dev, info.id + 1, 1) > 0 && answered(dev, 1, RVMRPC_STATUS_NOT_CONNECTED),
	      "a call to no VM is answered");
	return info.id;
}

static void test_call(int dev, uint64_t vm)
{
	struct rvmrpc_submit s = usual;
	unsigned char text[3000];
	struct rvmrpc_record rec;
	uint32_t slot;
	size_t i;

	for (i = 0; i < sizeof(text); i++)
		text[i] = i * 7;
	s.vm = vm;
	s.cookie = 42;
	s.arglen = sizeof(text);
	check(submit(dev, s, text, sizeof(text)) == sizeof(s) + sizeof(text), "a call goes in");
	check(nothing(dev), "and is not answered yet");
	slot = poll_request();
	must(slot < SLOTS, "poll");
	check(!memcmp(mem + REQUEST(slot) + sizeof(struct rvmrpc_hdr), text, sizeof(text)), "the guest gets its bytes");
	for (i = 0; i < sizeof(text); i++)
		text[i] ^= 0x55;
	check(reply(slot, text, sizeof(text)) == 0, "and answers");
	check(reply(slot, text, sizeof(text)) == RVMRPC_GATE_BAD_ARGS, "but once");
	check(take(dev, &rec, sizeof(text) - 1) == -EMSGSIZE, "an answer that does not fit stays");
	check(take(dev, &rec, sizeof(payload)) == sizeof(rec) + sizeof(text) && rec.cookie == 42 &&
	      rec.status == RVMRPC_STATUS_OK && rec.reslen == sizeof(text) && !memcmp(payload, text, sizeof(text)),
	      "the caller gets the guest's bytes");
	s.arglen = 0;
	s.res_max = 100;
	check(submit(dev, s, NULL, 0) > 0 && reply(poll_request(), text, 101) == 0 &&
	      answered(dev, 42, RVMRPC_STATUS_TOO_BIG), "more than the caller takes is TOO_BIG");
	check(submit(dev, s, NULL, 0) > 0 && reply(poll_request(), text, 0) == 0 &&
	      answered(dev, 42, RVMRPC_STATUS_OK), "an empty answer is one");
}

static void test_cancel(int channel, int dev, uint64_t vm)
{
	struct rvmrpc_submit s = usual;
	struct pollfd p = { .fd = dev, .events = POLLIN };
	uint64_t cancelled = status_of(channel).cancelled;
	uint32_t slot;

	check(cancel(dev, 1) == -ENOENT, "there is nothing to cancel");
	submit_cookie(dev, vm, 1);
	check(cancel(channel, 1) == -ENOENT, "another client's call cannot be cancelled");
	check(cancel(dev, 1) == 0 && answered(dev, 1, RVMRPC_STATUS_CANCELLED), "a waiting call is cancelled");
	submit_cookie(dev, vm, 2);
	slot = poll_request();
	check(cancel(dev, 2) == 0 && answered(dev, 2, RVMRPC_STATUS_CANCELLED), "a call in the guest is cancelled");
	check(reply(slot, NULL, 0) == 0 && status_of(channel).late_replies == 1 && nothing(dev),
	      "its answer is late, and dropped");
	check(status_of(channel).cancelled == cancelled + 2, "both are counted");

	s.vm = vm;
	s.timeout_ms = 50;
	submit(dev, s, NULL, 0);
	check(poll(&p, 1, 10000) == 1 && answered(dev, 0, RVMRPC_STATUS_TIMED_OUT), "time ends a call");
}

static void test_close(int channel, uint64_t vm)
{
	uint64_t cancelled = status_of(channel).cancelled;
	int dev = open("/dev/rvmrpc", O_RDWR), i, taken = 0;

	must(dev >= 0, "/dev/rvmrpc");
	for (i = 0; i < RVMRPC_CLIENT_CALLS_MAX; i++)
		taken += submit_cookie(dev, vm, i) > 0;
	check(taken == RVMRPC_CLIENT_CALLS_MAX && submit_cookie(dev, vm, i) == -EBUSY,
	      "a client has at most 16 calls");
	check(poll_request() < SLOTS, "one of them is in the guest");
	check(cancel(dev, 3) == 0, "one is cancelled, and not read");
	close(dev);
	check(status_of(channel).in_flight == 0 &&
	      status_of(channel).cancelled == cancelled + RVMRPC_CLIENT_CALLS_MAX, "close cancels them");
	check(poll_request() == RVMRPC_GATE_AGAIN, "the guest sees no more of them");
}

static void test_reset(int channel, int dev, uint64_t vm)
{
	submit_cookie(dev, vm, 5);
	check(!ioctl(channel, RVMRPC_NOTICE, RVMRPC_KVM_RESET) && answered(dev, 5, RVMRPC_STATUS_RESET),
	      "a reset ends calls");
	check(poll_request() == RVMRPC_GATE_RESET, "the guest has to register again");
	check(event(channel, RVMRPC_REC_GONE) && nothing(channel), "the channel says that it has gone");

	register_guest();
	ioctl(channel, RVMRPC_NOTICE, RVMRPC_KVM_RESET);
	register_guest();
	ioctl(channel, RVMRPC_NOTICE, RVMRPC_KVM_RESET);
	check(event(channel, RVMRPC_REC_CONNECTED) && event(channel, RVMRPC_REC_GONE) && nothing(channel),
	      "events that nobody read are told once, the last one last");
	register_guest();
	ioctl(channel, RVMRPC_NOTICE, RVMRPC_KVM_RESET);
	register_guest();
	check(event(channel, RVMRPC_REC_GONE) && event(channel, RVMRPC_REC_CONNECTED) && nothing(channel),
	      "whichever that is");
}

/* What a guest's other vCPU can do: the header is right before and after, and something else in between. */
static void *scribble(void *stop)
{
	static const unsigned int fields[] = { 1, 2, 4, 6, 8, 9, 10, 12 };
	unsigned int seed = 1;

	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED)) {
		unsigned int field = fields[rand_r(&seed) % (sizeof(fields) / sizeof(fields[0]))];
		volatile uint32_t *word = (uint32_t *)(mem + RESPONSE(rand_r(&seed) % SLOTS)) + field;
		uint32_t right = *word;

		*word = rand_r(&seed) % 2 ? rand_r(&seed) : rand_r(&seed) % 9000;
		*word = right;
	}
	return NULL;
}

/* One call, answered under the scribbler's hands: its status, ~0 when it did not end once and well. */
static uint32_t scribbled_call(int dev, uint64_t vm, uint64_t cookie)
{
	struct rvmrpc_submit s = usual;
	unsigned char text[256] = { 0 };
	struct rvmrpc_record rec;
	uint32_t slot;
	int got, tries;

	s.vm = vm;
	s.cookie = cookie;
	s.res_max = sizeof(text);
	if (submit(dev, s, NULL, 0) < 0)
		return ~0u;
	slot = poll_request();
	for (tries = 0, got = -EAGAIN; slot < SLOTS && tries < 20 && got == -EAGAIN; tries++) {
		reply(slot, text, sizeof(text));
		got = take(dev, &rec, sizeof(payload));
	}
	if (got == -EAGAIN) {
		/* Each answer was another call's. */
		cancel(dev, cookie);
		got = take(dev, &rec, sizeof(payload));
	}
	if (slot >= SLOTS)
		register_guest();
	if (got < (int)sizeof(rec) || rec.cookie != cookie || rec.reslen > sizeof(text) ||
	    got != (int)(sizeof(rec) + rec.reslen) || !nothing(dev))
		return ~0u;
	return rec.status;
}

static void test_scribble(int channel, int dev, uint64_t vm)
{
	unsigned int ended[RVMRPC_STATUS_MAX + 1] = { 0 }, wrong = 0, i;
	uint64_t bad = status_of(channel).bad_replies;
	struct rvmrpc_record rec;
	pthread_t thread;
	bool stop = false;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		printf("# headers that change: not tried, there is one CPU\n");
		return;
	}
	register_guest();
	must(!pthread_create(&thread, NULL, scribble, &stop), "a thread");
	for (i = 0; i < 3000; i++) {
		uint32_t status = scribbled_call(dev, vm, i);

		if (status > RVMRPC_STATUS_MAX)
			wrong++;
		else
			ended[status]++;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("# headers that change: ok %u, system-error %u, too-big %u, cancelled %u, bad replies %llu\n",
	       ended[RVMRPC_STATUS_OK], ended[RVMRPC_STATUS_SYSTEM_ERROR], ended[RVMRPC_STATUS_TOO_BIG],
	       ended[RVMRPC_STATUS_CANCELLED], (unsigned long long)(status_of(channel).bad_replies - bad));
	check(!wrong, "a header that changes while the host reads it ends each call once, within its room");
	check(ended[RVMRPC_STATUS_OK] && (ended[RVMRPC_STATUS_SYSTEM_ERROR] || status_of(channel).bad_replies > bad),
	      "some of them were read while they were right, and some while wrong");
	register_guest();
	while (take(channel, &rec, 0) > 0)
		;
	check(status_of(channel).in_flight == 0, "and none is left");
}

static void test_detach(int channel, int dev, uint64_t vm)
{
	check(submit_cookie(dev, vm, 6) > 0 && poll_request() < SLOTS, "a call is in the guest");
	close(channel);
	check(answered(dev, 6, RVMRPC_STATUS_NOT_CONNECTED), "detaching ends it");
	check(count_vms(dev, NULL) == 0, "the VM is in no list");
	check(submit_cookie(dev, vm, 7) > 0 && answered(dev, 7, RVMRPC_STATUS_NOT_CONNECTED), "nor can be called");
	check(gate(RVMRPC_OP_NULL, 0, 0, 0) == (uint64_t)-1000, "it has no gate");
	channel = attach_vm(attach);
	check(channel >= 0 && count_vms(dev, NULL) == 1, "and can be attached again");
	close(channel);
}

/* errno of an open by root without CAP_SYS_ADMIN. */
static int open_without_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		syscall(SYS_capget, &header, caps);
		caps[0].effective &= ~(1u << CAP_SYS_ADMIN);
		syscall(SYS_capset, &header, caps);
		_exit(open("/dev/rvmrpc", O_RDWR) < 0 ? errno : 0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
	int dev = open("/dev/rvmrpc", O_RDWR);
	uint64_t vm;
	int channel;

	setvbuf(stdout, NULL, _IOLBF, 0);
	must(dev >= 0, "/dev/rvmrpc");
	check(open_without_admin() == EPERM, "/dev/rvmrpc asks for CAP_SYS_ADMIN");
	check(count_vms(dev, NULL) == 0, "no VM is attached");
	create_vm();
	channel = test_attach();
	test_bad_submit(channel);
	test_quota(channel);
	test_registration(channel);
	vm = test_list(dev);
	test_call(dev, vm);
	test_cancel(channel, dev, vm);
	test_close(channel, vm);
	test_reset(channel, dev, vm);
	test_scribble(channel, dev, vm);
	test_detach(channel, dev, vm);
	printf("1..%d\n", cases);
	return failures != 0;
}
