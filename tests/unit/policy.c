/*
 * Unit tests: whom `rvmrpc balance` asks for how much
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <math.h>
#include "policy.h"

#define MiB ((guint64)1 << 20)
#define GiB ((guint64)1 << 30)

/* A guest with 3 GiB of cold cache, of 4 GiB. */
static PolicyGuest idle(void)
{
	return (PolicyGuest) {
		.look = {
			.has_memory = TRUE, .has_psi = TRUE, .has_rates = TRUE,
			.total = 4 * GiB, .free = 512 * MiB, .available = 3584 * MiB, .cached = 3 * GiB,
		},
	};
}

static PolicyHost poor(void)
{
	return (PolicyHost) { .available = 3 * GiB, .target = 4 * GiB, .limit = 1 };
}

/* One round of one guest. */
static PolicyReason decide(PolicyHost *host, PolicyGuest *g)
{
	PolicyGuest *all[] = { g };

	policy_decide(host, all, 1, 10);
	g_assert_true((g->reason == POLICY_ASKED) == (g->ask != 0));
	return g->reason;
}

static void test_asks(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	g_assert_cmpuint(host.need, ==, GiB + GiB / 4);
	/* What is needed, and of what it can spare the half. */
	g_assert_cmpuint(g.ask, ==, host.need);
	g.look.available = 2560 * MiB;
	host = poor();
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	g_assert_cmpuint(g.ask, ==, GiB);
}

static void test_hysteresis(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	host.available = 4 * GiB;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ENOUGH);
	host.available = 4 * GiB - 1;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	/* It goes on beyond the target, and begins anew below it only. */
	host.available = 4 * GiB + 100 * MiB;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	host.available = 4 * GiB + 256 * MiB;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ENOUGH);
	host.available = 4 * GiB + 100 * MiB;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ENOUGH);
}

static void test_refusals(void)
{
	const struct {
		PolicyReason reason;
		PolicyLook change;	/* what is not 0 */
	} all[] = {
		{ POLICY_PRESSURE, { .psi = 1 } },
		{ POLICY_SWAPS, { .swap_in = 1e6 } },
		{ POLICY_SWAPS, { .stalls = 3 } },
		{ POLICY_HOT, { .refault = 2e6 } },
		{ POLICY_FIRST, { .first = TRUE } },
	};

	for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
		PolicyHost host = poor();
		PolicyGuest g = idle();

		g.before = g.pressure = 5;	/* that it does not rise */
		g.look.psi = all[i].change.psi;
		g.look.swap_in = all[i].change.swap_in;
		g.look.stalls = all[i].change.stalls;
		g.look.refault = all[i].change.refault;
		g.look.first = all[i].change.first;
		g.look.has_rates = !g.look.first;
		g_assert_cmpint(decide(&host, &g), ==, all[i].reason);
	}
}

/* What could not be found out is never "it can spare it". */
static void test_unknown(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	g.look.has_memory = FALSE;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_UNKNOWN);
	g = idle();
	g.look.has_rates = FALSE;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_UNKNOWN);
	/* Without PSI its swap and stalls speak. */
	g = idle();
	g.look.has_psi = FALSE;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	/* That its PSI could not be had is not that there is none. */
	g.look.psi_unknown = TRUE;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_UNKNOWN);
}

/* A look that failed is no fall of the pressure, after which it would rise. */
static void test_missed(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	g.look.psi = g.pressure = 0.5;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	g.look = (PolicyLook) { .psi_unknown = TRUE };
	g_assert_cmpint(decide(&host, &g), ==, POLICY_UNKNOWN);
	g.look = idle().look;
	g.look.psi = 0.5;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
}

static void test_hot_of_large(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	g.look.total = 128 * GiB;
	g.look.cached = g.look.available = 64 * GiB;
	g.look.refault = 8e6;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	g.look.refault = 32e6;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_HOT);
}

/* Whatever is asked in however many rounds, it keeps its floor. */
static void test_floor(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();
	guint asked = 0;

	g.floor = 3 * GiB;
	for (guint i = 0; i < 50; i++) {
		if (decide(&host, &g) == POLICY_ASKED) {
			asked++;
			/* A kernel that takes a tenth more. */
			g.look.free += g.ask + g.ask / 10;
			g_assert_cmpuint(g.look.total - g.look.free, >=, g.floor);
			policy_told(&host, &g, g.ask, 0.1);
		}
	}
	g_assert_cmpint(g.reason, ==, POLICY_FLOOR);
	g_assert_cmpuint(asked, >, 1);
	g_assert_cmpuint(g.look.total - g.look.free, <, g.floor + 32 * MiB);
	/* One that is below it already, and one that has hardly anything. */
	g.floor = 4 * GiB;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_FLOOR);
	g = idle();
	g.look.available = g.look.free + 20 * MiB;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_LITTLE);
	g.look.available = g.look.free / 2;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_LITTLE);
}

static void test_rising(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	g.look.psi = 0.5;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_RISING);
	/* It stays away for a while, though it does not rise any more. */
	for (guint i = 0; i < 5; i++) {
		g_assert_cmpint(decide(&host, &g), ==, POLICY_WAITS);
	}
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
}

/* A kernel that was made to reclaim waits for memory because of that. */
static void test_own_pressure(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	policy_told(&host, &g, g.ask, 0.5);
	host.available += g.ask / 2;
	g.look.psi = 1.8;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	g_assert_cmpfloat(g.pressure, <, 0.1);
	/* That fades, as the kernel's average does: the rest is the guest's. */
	host.available += MiB;
	g.look.psi = 1.5;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_RISING);
}

/* However long it took: the kernel's average rises while it reclaims, and falls from then to the next look. */
static void test_own_long(void)
{
	for (double took = 0.5; took <= 20; took += 0.5) {
		PolicyHost host = poor();
		PolicyGuest g = idle(), *all[] = { &g };

		g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
		policy_told(&host, &g, g.ask, took);
		host.available += g.ask / 2;
		g.look.psi = 100 * (1 - exp(-took / 10)) * exp(-1);
		policy_decide(&host, all, 1, took + 10);
		g_assert_cmpfloat(g.pressure, <, 0.01);
		g_assert_cmpint(g.reason, ==, POLICY_ASKED);
		/* What is beyond that is the guest's. */
		g.look.psi = 100 * (1 - exp(-took / 10)) * exp(-2) + 2;
		policy_decide(&host, all, 1, 10);
		g_assert_cmpfloat(g.pressure, >, 1.99);
	}
}

static void test_backoff(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();
	guint asked = 0;

	for (guint i = 0; i < 200; i++) {
		host.available = 3 * GiB;
		if (decide(&host, &g) == POLICY_ASKED) {
			asked++;
			policy_told(&host, &g, 0, 0);
		}
	}
	g_assert_cmpuint(asked, >=, 5);
	g_assert_cmpuint(asked, <=, 8);
	/* For 2 rounds at first, as the page has it. */
	g = idle();
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	policy_told(&host, &g, 0, 0);
	g_assert_cmpint(decide(&host, &g), ==, POLICY_WAITS);
	g_assert_cmpint(decide(&host, &g), ==, POLICY_WAITS);
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	policy_told(&host, &g, 0, 0);
	/* It is trusted again once it frees something. */
	while (decide(&host, &g) != POLICY_ASKED) {
	}
	policy_told(&host, &g, g.ask / 2, 0);
	host.available += g.ask / 2;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
}

static void test_order(void)
{
	PolicyHost host = poor();
	PolicyGuest warm = idle(), cold = idle(), large = idle();
	PolicyGuest *all[] = { &warm, &cold, &large };

	warm.look.refault = 1e5;
	large.look.total = 8 * GiB;
	large.look.available = 3600 * MiB;
	policy_decide(&host, all, 3, 10);
	g_assert_cmpint(large.reason, ==, POLICY_ASKED);
	g_assert_cmpuint(large.ask, ==, host.need);
	g_assert_cmpint(cold.reason, ==, POLICY_NOT_NEEDED);
	g_assert_cmpint(warm.reason, ==, POLICY_NOT_NEEDED);
	/* More than one can give: the next one, and the warm one last. */
	host = poor();
	host.available = GiB;
	policy_decide(&host, all, 3, 10);
	g_assert_cmpuint(large.ask + cold.ask + warm.ask, ==, host.need);
	g_assert_cmpuint(cold.ask, ==, 1536 * MiB);
	g_assert_cmpuint(warm.ask, <, cold.ask);
}

/* What was freed and is on its way is not asked for again; nor for ever. */
static void test_coming(void)
{
	PolicyHost host = poor();
	PolicyGuest g = idle();

	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	policy_told(&host, &g, g.ask, 0);
	g_assert_cmpint(decide(&host, &g), ==, POLICY_WAITS);
	g_assert_cmpuint(host.need, ==, (GiB + GiB / 4) / 2);
	g_assert_cmpuint(host.futile, ==, 1);
	/* The rest comes. */
	host.available += 500 * MiB;
	g_assert_cmpint(decide(&host, &g), ==, POLICY_ASKED);
	g_assert_cmpuint(host.futile, ==, 0);
}

/* One that says it freed whatever is wanted, and did not, keeps others from nothing. */
static void test_liar(void)
{
	PolicyHost host = poor();
	PolicyGuest liar = idle(), honest = idle();
	PolicyGuest *all[] = { &liar, &honest };
	guint lied = 0;

	liar.look.available = liar.look.total = G_MAXUINT64;
	for (guint i = 0; i < 40 && (!i || host.asking); i++) {
		policy_decide(&host, all, 2, 10);
		if (liar.ask) {
			lied++;
			policy_told(&host, &liar, G_MAXUINT64, 0);
		}
		if (honest.ask) {
			honest.look.free += honest.ask;
			host.available += honest.ask;
			policy_told(&host, &honest, honest.ask, 0);
		}
	}
	g_assert_cmpuint(lied, >, 0);
	g_assert_cmpuint(host.available, >=, host.target);
	g_assert_false(host.asking);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/policy/asks", test_asks);
	g_test_add_func("/policy/hysteresis", test_hysteresis);
	g_test_add_func("/policy/refusals", test_refusals);
	g_test_add_func("/policy/unknown", test_unknown);
	g_test_add_func("/policy/missed", test_missed);
	g_test_add_func("/policy/hot-of-large", test_hot_of_large);
	g_test_add_func("/policy/floor", test_floor);
	g_test_add_func("/policy/rising", test_rising);
	g_test_add_func("/policy/own-pressure", test_own_pressure);
	g_test_add_func("/policy/own-long", test_own_long);
	g_test_add_func("/policy/backoff", test_backoff);
	g_test_add_func("/policy/order", test_order);
	g_test_add_func("/policy/coming", test_coming);
	g_test_add_func("/policy/liar", test_liar);
	return g_test_run();
}
