// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * gate_main: RVMRPC_MAIN with our KVM, rvmrpc_host.ko and rvmrpc_kvm.ko: a VM of one gate call at a time, whose window
 * this program serves as its guest.  Prints TAP.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <time.h>
#include <linux/rvmrpc.h>
#include "tiny_vm.h"

#define SIZE		0x80000u
#define SEEN_HELLO	0x1234
#define WAIT_US		500000u
#define SOON_MS		450u		/* before that is over */
#define TRIES		5		/* of what a busy host may be too late for */
#define CALL_MS		30000u
#define STAT_NAME_SIZE	48		/* KVM's */

static int cases, failed, token, host, submitted;
static unsigned char *window;
static uint32_t handle;
static uint64_t epoch;
static uint32_t seen;

static void check(bool ok, const char *what)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", ++cases, what);
	failed += !ok;
}

static struct rvmrpc_host_page *host_page(void)
{
	return (void *)(window + RVMRPC_HOST_PAGE);
}

static struct rvmrpc_guest_page *guest_page(void)
{
	return (void *)(window + RVMRPC_GUEST_PAGE);
}

static unsigned int ms_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- VMM ---- */

static void attach(bool with_token)
{
	const struct rvmrpc_kvm_attach kvm = { .version = RVMRPC_KVM_VERSION };
	static struct rvmrpc_vm_attach a = {
		.version = RVMRPC_HOST_VERSION,
		.name = "tiny",
		.window_bytes = SIZE,
		.nslots = 4,
		.req_bytes = 4096,
		.res_bytes = 65536,
	};
	int memory = memfd_create("window", MFD_CLOEXEC);

	must(memory >= 0 && !ftruncate(memory, SIZE), "memory");
	window = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	must(window != MAP_FAILED, "map");
	token = ioctl(vm_fd, RVMRPC_ATTACH, &kvm);
	must(token >= 0, "token");
	host = open("/dev/rvmrpc-vm", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	must(host >= 0, "/dev/rvmrpc-vm");
	a.window = (uintptr_t)window;
	a.doorbell_fd = eventfd(0, EFD_NONBLOCK);
	a.interrupt_fd = eventfd(0, EFD_NONBLOCK);
	a.token_fd = memory;
	check(ioctl(host, RVMRPC_VM_ATTACH, &a) < 0 && errno == EINVAL, "what is no token is refused");
	a.token_fd = with_token ? token : -1;
	must(!ioctl(host, RVMRPC_VM_ATTACH, &a), "attach");
}

/* ---- Guest ---- */

static void say_hello(void)
{
	struct rvmrpc_guest_page *g = guest_page();

	g->hello.seen = __atomic_load_n(&host_page()->epoch, __ATOMIC_ACQUIRE);
	g->hello.abi_min = g->hello.abi_max = RVMRPC_ABI_VERSION;
	g->hello.os = RVMRPC_OS_LINUX;
	__atomic_store_n(&g->hello.nonce, g->hello.nonce + SEEN_HELLO, __ATOMIC_RELEASE);
}

static bool has_channel(void)
{
	for (int i = 0; i < 300 && host_page()->answer.nonce != guest_page()->hello.nonce; i++)
		usleep(10000);
	epoch = __atomic_load_n(&host_page()->answer.epoch, __ATOMIC_ACQUIRE);
	seen = host_page()->answer.posted;
	return host_page()->answer.nonce == guest_page()->hello.nonce && epoch;
}

static uint64_t bind_server(void)
{
	struct vmrpc_bind bind = { RVMRPC_PROXY_NAME, RVMRPC_PROXY_VERSION };

	memcpy(mem + 0x10000, &bind, sizeof(bind));
	return gate(RVMRPC_OP_BIND | RVMRPC_OP_KERNEL, 0x10000, 0, 0);
}

static uint64_t guest_main(uint64_t of, uint32_t wait_us)
{
	return gate(RVMRPC_OP_PERFORM | RVMRPC_OP_KERNEL, handle | (uint64_t)RVMRPC_MAIN << 32, of,
		    RVMRPC_MAIN_ARG(seen, wait_us));
}

static const struct rvmrpc_layout *layout(void)
{
	return &host_page()->answer.layout;
}

/* Takes the one request there is, which is a null call. */
static void answer_call(void)
{
	for (unsigned int i = 0; i < layout()->nslots; i++) {
		const struct rvmrpc_host_slot *req = (void *)(window + layout()->host_slots + i * sizeof(*req));
		struct rvmrpc_guest_slot *res = (void *)(window + layout()->guest_slots + i * sizeof(*res));
		uint32_t seq = (uint32_t)req->hdr.reserved2;

		if (!seq || seq == (uint32_t)res->hdr.reserved2)
			continue;
		memcpy(&res->hdr, &req->hdr, RVMRPC_SLOT_SEQ);
		res->hdr.timeout_ms = 0;
		__atomic_store_n((uint32_t *)((char *)res + RVMRPC_SLOT_SEQ), seq, __ATOMIC_RELEASE);
		seen = seq;
	}
}

/* ---- A client ---- */

static void submit(void)
{
	const struct rvmrpc_submit s = { .cookie = 1, .timeout_ms = CALL_MS };

	must(write(host, &s, sizeof(s)) == sizeof(s), "submit");
	submitted++;
}

static void *submit_later(void *unused)
{
	usleep(100000);
	submit();
	return unused;
}

static void *reset_later(void *unused)
{
	usleep(100000);
	must(!ioctl(host, RVMRPC_NOTICE, RVMRPC_KVM_RESET), "reset");
	return unused;
}

static void *detach_later(void *unused)
{
	usleep(100000);
	must(!ioctl(host, RVMRPC_VM_DETACH), "detach");
	return unused;
}

static uint32_t read_status(void)
{
	struct rvmrpc_record rec;

	for (int i = 0; i < 300; i++) {
		if (read(host, &rec, sizeof(rec)) == sizeof(rec) && rec.type == RVMRPC_REC_ANSWER)
			return rec.status;
		usleep(10000);
	}
	return ~0u;
}

/* What MAIN answers that waits while another thread does something, and how long it took. */
static uint64_t main_beside(void *(*other)(void *), unsigned int *ms)
{
	unsigned int start = ms_now();
	pthread_t thread;
	uint64_t ret;

	must(!pthread_create(&thread, NULL, other, NULL), "thread");
	ret = guest_main(epoch, WAIT_US);
	*ms = ms_now() - start;
	pthread_join(thread, NULL);
	printf("# %u ms\n", *ms);
	return ret;
}

/* ---- Cases ---- */

static void test_woken_by_call(void)
{
	bool woken = false, answered = true;
	unsigned int ms;
	uint64_t ret;

	for (int i = 0; i < TRIES && !woken && answered; i++) {
		ret = main_beside(submit_later, &ms);
		woken = ret == RVMRPC_GATE_ANSWER(RVMRPC_MAIN_POSTED) && ms >= 80 && ms < SOON_MS;
		answer_call();
		guest_main(epoch, 0);
		answered = read_status() == RVMRPC_STATUS_OK;
	}
	check(woken, "a vCPU that waits is woken by a call");
	check(answered, "which it answers");
}

static void test_woken_by_reset(void)
{
	bool woken = false, again = true;
	unsigned int ms;
	uint64_t ret;

	for (int i = 0; i < TRIES && !woken && again; i++) {
		ret = main_beside(reset_later, &ms);
		woken = ret == RVMRPC_GATE_ANSWER(RVMRPC_GATE_RESET) && ms < SOON_MS;
		say_hello();
		guest_main(epoch, 0);
		again = has_channel();
	}
	check(woken, "a vCPU that waits is woken by the end of the epoch");
	check(again, "and says hello again, without a ring");
}

static void test_calls(bool waits)
{
	struct rvmrpc_gate_status s;

	check(guest_main(epoch, 0) == RVMRPC_GATE_ANSWER(RVMRPC_GATE_AGAIN), "nothing is posted: AGAIN");
	check(guest_main(epoch + 1, WAIT_US) == RVMRPC_GATE_ANSWER(RVMRPC_GATE_RESET), "another epoch: RESET");
	submit();
	check(guest_main(epoch, WAIT_US) == RVMRPC_GATE_ANSWER(RVMRPC_MAIN_POSTED), "a call: POSTED at once");
	answer_call();
	check(guest_main(epoch, 0) == RVMRPC_GATE_ANSWER(RVMRPC_GATE_AGAIN), "its answer, without a ring");
	check(read_status() == RVMRPC_STATUS_OK, "the client has it");
	if (!waits)
		return;
	test_woken_by_call();
	check(!ioctl(token, RVMRPC_GATE_STATUS, &s) && s.hypercalls >= 6 && s.waits >= 1, "the token counts");
	test_woken_by_reset();
}

static void set_spin(const char *ns)
{
	FILE *f = fopen("/sys/module/kvm/parameters/vmlp_spin_ns", "w");

	must(f && fputs(ns, f) > 0 && !fclose(f), "vmlp_spin_ns");
}

static void test_spin(void)
{
	unsigned int start, ms = ~0u;

	set_spin("400000000");
	for (int i = 0; i < TRIES && ms >= 200; i++) {
		start = ms_now();
		guest_main(epoch, 1000);
		ms = ms_now() - start;
		printf("# %u ms\n", ms);
	}
	set_spin("50000");
	check(ms < 200, "a wait of 1 ms spins no longer than that");
}

/* ---- What KVM has counted, as its own counters are read ---- */

/* From a file descriptor of KVM_GET_STATS_FD, by pread() alone, as QEMU does it.  ~0: there is no such counter. */
static uint64_t stat_of(int fd, const char *name)
{
	struct {
		struct kvm_stats_desc desc;
		char name[STAT_NAME_SIZE];
	} d;
	struct kvm_stats_header h;
	uint64_t value = ~0ull;

	must(pread(fd, &h, sizeof(h), 0) == sizeof(h) && h.name_size == sizeof(d.name), "header of the statistics");
	for (uint32_t i = 0; i < h.num_desc; i++) {
		size_t size = sizeof(d.desc) + h.name_size;

		must(pread(fd, &d, size, h.desc_offset + i * size) == (ssize_t)size, "descriptor");
		if (!strcmp(d.name, name))
			must(pread(fd, &value, sizeof(value), h.data_offset + d.desc.offset) == sizeof(value), "value");
	}
	return value;
}

/* Of the VM's folder.  ~0: there is no such file. */
static uint64_t debugfs_of(const char *name)
{
	unsigned long long value;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/vmrpc/%s", getpid(), vm_fd, name);
	f = fopen(path, "r");
	if (!f)
		return ~0ull;
	must(fscanf(f, "%llu", &value) == 1, path);
	fclose(f);
	return value;
}

static int test_stats(void)
{
	int fd = ioctl(token, KVM_GET_STATS_FD, NULL), other = ioctl(vm_fd, KVM_GET_STATS_FD, NULL);
	char id[STAT_NAME_SIZE], kvm[STAT_NAME_SIZE];
	struct rvmrpc_gate_status s;
	struct kvm_stats_header h;

	check(gate(RVMRPC_OP_UNBIND, handle, 0, 0) == RVMRPC_GATE_ANSWER(VMM_ANSWER), "the VMM answers its own");
	must(other >= 0 && !ioctl(token, RVMRPC_GATE_STATUS, &s), "counters");
	check(fd >= 0 && pread(fd, &h, sizeof(h), 0) == sizeof(h) && h.num_desc * 8 == sizeof(s),
	      "the token has statistics as KVM's");
	check(pread(fd, id, sizeof(id), h.id_offset) == sizeof(id) &&
	      pread(other, kvm, sizeof(kvm), h.id_offset) == sizeof(kvm) && !strncmp(id, kvm, strlen(kvm)) &&
	      !strcmp(id + strlen(kvm), "/vmrpc"), "of which VM they say");
	check(s.hypercalls == gates && stat_of(fd, "hypercalls") == gates && debugfs_of("hypercalls") == gates,
	      "all three count each gate call");
	check(stat_of(fd, "waits") == s.waits && debugfs_of("waits") == s.waits, "and each wait");
	check(stat_of(fd, "interrupted") == s.interrupted && stat_of(fd, "refused_calls") == s.refused_calls &&
	      stat_of(fd, "user_exits") == s.user_exits && s.refused_calls && s.user_exits == 1, "and what became of them");
	close(other);
	return fd;
}

/* For those who count beside: all so far. */
static void tell_counters(void)
{
	struct rvmrpc_gate_status s;

	must(!ioctl(token, RVMRPC_GATE_STATUS, &s), "counters");
	printf("# gates %llu waits %llu interrupted %llu submitted %d\n", (unsigned long long)gates,
	       (unsigned long long)s.waits, (unsigned long long)s.interrupted, submitted);
}

static void test_ends(void)
{
	int fd = test_stats();
	uint64_t before;
	unsigned int ms;

	check(main_beside(detach_later, &ms) == RVMRPC_GATE_ANSWER(RVMRPC_GATE_NO_MODULE) ||
	      guest_main(epoch, 0) == RVMRPC_GATE_ANSWER(RVMRPC_GATE_NO_MODULE), "after a detach there is no server");
	tell_counters();
	before = gates;
	close(token);
	check(gate(RVMRPC_OP_NULL, 0, 0, 0) != RVMRPC_GATE_ANSWER(RVMRPC_NULL_ANSWER), "without a token no gate");
	check(stat_of(fd, "hypercalls") == before && debugfs_of("hypercalls") == ~0ull,
	      "statistics outlive their token, the files in debugfs go");
}

int main(int argc, char **argv)
{
	irqchip = argc > 1 && !strcmp(argv[1], "waits");
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(60);
	create_vm();
	attach(true);
	handle = bind_server();
	check(!RVMRPC_GATE_IS_CODE(handle), "the server is bound");
	say_hello();
	guest_main(1, 0);
	check(has_channel(), "a hello is heard by MAIN");
	test_calls(irqchip);
	if (irqchip)
		test_spin();
	test_ends();
	printf("1..%d\n", cases);
	return failed ? 1 : 0;
}
