// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * soak-lib PATH LEDGER GUEST-LEDGER NUMBER SEED: a client by librvmrpc, one call at a time, by the name or the number
 * of its procedure.  PATH is the VM's socket or its QMP's.  SIGTERM: ends after the call.
 */
#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "rvmrpc.h"
#include "ledger.h"
#include "ledger_host.h"

#define CONNECT_MS	1000
#define AGAIN_US	20000

static volatile sig_atomic_t ending;
static uint64_t seed;

static void on_term(int number)
{
	(void)number;
	ending = 1;
}

/* A status of the guest's or the channel's by its name; all else tells nothing, as the end of a connection. */
static const char *end_name(const GError *error)
{
	if (error->domain == RVMRPC_ERROR && error->code < RVMRPC_ERROR_NO_VM)
		return ledger_status(error->code);
	return g_error_matches(error, RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED) ? "wrong-answer" : "closed";
}


struct canceller {
	GCancellable *cancellable;
	uint64_t id;
	uint32_t ms;
};

static gpointer cancel_later(gpointer data)
{
	struct canceller *c = data;

	g_usleep(c->ms * 1000);
	ledger_cancelled(c->id);
	g_cancellable_cancel(c->cancellable);
	return NULL;
}

static GBytes *run(RvmrpcConn *conn, const struct plan *plan, GBytes *arg, GCancellable *cancellable, GError **error)
{
	if (plan_random(&seed, 2))
		return rvmrpc_call(conn, MOD_LEDGER, plan->procedure, arg, plan->timeout, NULL, cancellable, error);
	return rvmrpc_call_by_name(conn, "ledger", plan->procedure == LEDGER_SLOW ? "slow" : "quick", arg, plan->timeout,
				   NULL, cancellable, error);
}

/* False: connect anew. */
static gboolean call_once(RvmrpcConn *conn)
{
	g_autoptr(GCancellable) cancellable = g_cancellable_new();
	g_autoptr(GError) error = NULL;
	g_autoptr(GBytes) arg = NULL, answer = NULL;
	struct canceller canceller = { .cancellable = cancellable };
	GThread *thread = NULL;
	const char *status;
	struct plan plan;
	uint64_t digest;
	uint32_t bytes;
	char *text;

	plan_next(&seed, &plan);
	bytes = sizeof(struct ledger_arg) + plan.bytes;
	canceller.ms = plan.cancel;
	canceller.id = ledger_begin(plan.timeout, bytes);
	text = g_malloc(bytes);
	digest = plan_argument(&plan, canceller.id, text);
	arg = g_bytes_new_take(text, bytes);
	ledger_sent(canceller.id, ledger_now());
	if (plan.cancel)
		thread = g_thread_new("cancel", cancel_later, &canceller);
	answer = run(conn, &plan, arg, cancellable, &error);
	status = answer ? "ok" : end_name(error);
	if (answer && !plan_matches(&plan, canceller.id, digest, g_bytes_get_data(answer, NULL), g_bytes_get_size(answer)))
		status = "wrong-answer";
	ledger_end(canceller.id, ledger_now(), status);
	if (thread)
		g_thread_join(thread);
	g_usleep(plan.pause);
	return answer || (error->domain == RVMRPC_ERROR && error->code < RVMRPC_ERROR_NO_VM);
}

static RvmrpcConn *come_again(const char *path)
{
	g_autoptr(RvmrpcVm) vm = rvmrpc_find_vm(path, NULL, NULL);
	RvmrpcConn *conn = vm ? rvmrpc_connect(vm, CONNECT_MS, NULL, NULL) : NULL;

	if (!conn)
		g_usleep(AGAIN_US);
	return conn;
}

int main(int argc, char **argv)
{
	RvmrpcConn *conn = NULL;

	if (argc != 6)
		errx(2, "usage: soak-lib PATH LEDGER GUEST-LEDGER NUMBER SEED");
	seed = strtoull(argv[5], NULL, 0) | 1;
	signal(SIGTERM, on_term);
	signal(SIGPIPE, SIG_IGN);
	ledger_open(argv[2], argv[3], strtoul(argv[4], NULL, 0));
	while (!ending) {
		if (!conn)
			conn = come_again(argv[1]);
		else if (!call_once(conn))
			g_clear_pointer(&conn, rvmrpc_conn_free);
	}
	g_clear_pointer(&conn, rvmrpc_conn_free);
	return 0;
}
