/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's kernel as owner of a window: rvmrpc_channel.c itself, without a kernel (host-kernel.h). */
#include "host-kernel.h"
#include "host-channel.h"	/* rvmrpc_channel.c and its headers, without those of Linux (meson.build) */

#define WINDOW_BYTES	(512 * 1024)

static struct rvmrpc_vm vm;
static unsigned char *window;
static unsigned int runs;	/* of the work */

/* ---- What the module's other files have ---- */

void rvmrpc_events_put(struct rvmrpc_events *events, const struct rvmrpc_told *told)
{
	(void)events;
	(void)told;
}

bool rvmrpc_events_take(struct rvmrpc_events *events, struct rvmrpc_told *told)
{
	(void)events;
	(void)told;
	return false;
}

void rvmrpc_file_told(struct rvmrpc_file *file, const struct rvmrpc_told *told)
{
	(void)file;
	(void)told;
}

void rvmrpc_file_event(struct rvmrpc_file *file, u32 type, u32 why)
{
	(void)file;
	(void)type;
	(void)why;
}

void rvmrpc_vm_event(struct rvmrpc_vm *v, const struct rvmrpc_told *told)
{
	(void)v;
	(void)told;
}

bool rvmrpc_pin_torn(const struct rvmrpc_pin *pin)
{
	(void)pin;
	return false;
}

struct rvmrpc_vm *rvmrpc_vm_get(struct rvmrpc_vm *v)
{
	v->kref.n++;
	return v;
}

void rvmrpc_vm_put(struct rvmrpc_vm *v)
{
	g_assert_cmpint(--v->kref.n, >, 0);
}

void rvmrpc_vm_unmap(struct rvmrpc_vm *v)
{
	g_assert_cmpint(--v->mapped.n, >, 0);
}

/* ---- The world ---- */

/* Time goes on, and the work runs when it is due. */
static void pass(u64 ns)
{
	u64 until = now_ns + ns;

	while (vm.work.work.queued && vm.work.work.at <= until) {
		now_ns = max(now_ns, vm.work.work.at);
		vm.work.work.queued = false;
		vm.work.work.func(&vm.work.work);
		runs++;
	}
	now_ns = max(now_ns, until);
}

static void open_window(u32 nslots)
{
	struct rvmrpc_owner_config config = { .doorbell = 1 };

	g_assert_true(rvmrpc_layout_make(WINDOW_BYTES, nslots, 4096, 65536, &config.layout));
	window = g_malloc0(WINDOW_BYTES);
	memset(&vm, 0, sizeof(vm));
	vm.kref.n = vm.mapped.n = 1;
	vm.pin.base = window;
	vm.pin.npages = WINDOW_BYTES >> PAGE_SHIFT;
	rvmrpc_channel_prepare(&vm);
	rvmrpc_channel_open(&vm, &config, false);
	pass(0);
}

static void close_window(void)
{
	rvmrpc_channel_close(&vm);
	g_assert_cmpint(vm.kref.n, ==, 1);
	g_assert_cmpint(vm.mapped.n, ==, 1);
	g_free(window);
}

static void ring(void)
{
	rung(&vm.ring_wait, 0, 0, GUINT_TO_POINTER(EPOLLIN));
	g_assert_false(vm.ring_work.queued);
}

static u64 epoch(void)
{
	return ((const struct rvmrpc_host_page *)window)->epoch;
}

static void say_hello(u64 nonce, u64 seen)
{
	struct rvmrpc_guest_page *page = (void *)(window + RVMRPC_GUEST_PAGE);

	page->hello = (struct rvmrpc_hello) {
		.nonce = nonce,
		.seen = seen,
		.abi_min = RVMRPC_ABI_VERSION,
		.abi_max = RVMRPC_ABI_VERSION,
		.os = RVMRPC_OS_LINUX,
	};
	ring();
}

static void connect_guest(void)
{
	say_hello(1, epoch());
	pass(0);
	g_assert_cmpuint(vm.owner.proxy.epoch, ==, epoch());
	g_assert_cmpuint(vm.owner.proxy.epoch, !=, 0);
}

/* The guest answers the request in slot 0 with OK, and rings if that is wished. */
static void answer(void)
{
	unsigned char *from = window + vm.owner.config.layout.host_slots, *to = window + vm.owner.config.layout.guest_slots;
	struct rvmrpc_hdr hdr;
	u32 want;

	memcpy(&hdr, from, sizeof(hdr));
	hdr.version = 1;
	hdr.length = hdr.timeout_ms = 0;
	memcpy(to, &hdr, sizeof(hdr));
	memcpy(&want, from + RVMRPC_WANT_AT, sizeof(want));
	if (want)
		ring();
}

static u32 call_guest(void (*other)(void))
{
	struct rvmrpc_kcall call = { .core = { .module = RVMRPC_MOD_CORE }, .task = current };
	u32 status;

	meanwhile = other;
	status = rvmrpc_channel_call(&vm, &call, 1000);
	meanwhile = NULL;
	this_task.killed = false;
	return status;
}

/* ---- Cases ---- */

/* A guest that says hello in vain, as often as it can ring, has no more of the work than a look each millisecond or so. */
static void test_vain_hellos(void)
{
	u64 end, nonce = 2;

	open_window(4);
	runs = 0;
	for (end = now_ns + NSEC_PER_SEC; now_ns < end; pass(2000))
		say_hello(nonce++, 7);
	g_assert_cmpuint(nonce, >, 100000);
	g_assert_cmpuint(runs, <, 1100);
	/* One that is meant is not held up by it for longer than a tick or two. */
	say_hello(1, epoch());
	pass(NSEC_PER_MSEC + 2 * TICK_NS);
	g_assert_cmpuint(vm.owner.proxy.epoch, !=, 0);
	close_window();
}

/* The guest rings for no answer whose caller was killed before it slept: it is looked for before a call is refused. */
static void kill_caller(void)
{
	this_task.killed = true;
	now_ns += NSEC_PER_MSEC;
}

static void test_unrung_answer(void)
{
	open_window(1);
	connect_guest();
	g_assert_cmpuint(call_guest(answer), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(call_guest(kill_caller), ==, RVMRPC_STATUS_CANCELLED);
	g_assert_cmpuint(call_guest(answer), ==, RVMRPC_STATUS_BUSY);
	answer();
	g_assert_cmpuint(call_guest(answer), ==, RVMRPC_STATUS_OK);
	close_window();
}

/* Such an answer is not looked for before somebody calls: the guest rings for it, as others may wait for its slot already. */
static struct rvmrpc_kcall other;

static void ended(struct rvmrpc_kcall *call)
{
	call->ended = true;
}

static void kill_caller_after_other(void)
{
	if (this_task.killed)
		return;
	other = (struct rvmrpc_kcall) {
		.core = { .module = RVMRPC_MOD_CORE, .deadline = now_ns + NSEC_PER_SEC }, .done = ended,
	};
	g_assert_cmpuint(rvmrpc_channel_submit(&vm, &other), ==, RVMRPC_STATUS_OK);
	kill_caller();
}

static void test_unrung_slot(void)
{
	open_window(1);
	connect_guest();
	g_assert_cmpuint(call_guest(kill_caller_after_other), ==, RVMRPC_STATUS_CANCELLED);
	answer();
	pass(0);
	g_assert_cmpint(other.core.state, ==, RVMRPC_CALL_DELIVERED);
	answer();
	pass(0);
	g_assert_true(other.ended);
	g_assert_cmpuint(other.core.status, ==, RVMRPC_STATUS_OK);
	close_window();
}

/* The work is due for something else, but its timer waits for the tick: no answer that the guest rings for waits with it. */
static void test_ring_before_tick(void)
{
	struct rvmrpc_kcall call = { .core = { .module = RVMRPC_MOD_CORE }, .done = ended };

	open_window(1);
	connect_guest();
	pass(TICK_NS - now_ns % TICK_NS);
	call.core.deadline = now_ns + NSEC_PER_SEC;
	g_assert_cmpuint(rvmrpc_channel_submit(&vm, &call), ==, RVMRPC_STATUS_OK);
	pass(AGAIN_MIN_NS + NSEC_PER_MSEC);
	g_assert_cmpuint(vm.work.work.at, >, now_ns);
	answer();
	pass(0);
	g_assert_true(call.ended);
	g_assert_cmpuint(call.core.status, ==, RVMRPC_STATUS_OK);
	close_window();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/host-kernel/vain-hellos", test_vain_hellos);
	g_test_add_func("/host-kernel/unrung-answer", test_unrung_answer);
	g_test_add_func("/host-kernel/unrung-slot", test_unrung_slot);
	g_test_add_func("/host-kernel/ring-before-tick", test_ring_before_tick);
	return g_test_run();
}
