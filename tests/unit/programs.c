/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What programs that serve may say, and which of their calls are whose. */
#include <glib.h>

#include "rvmrpc_programs.h"

static struct rvmrpc_programs all;
static struct rvmrpc_program first, second;
static uint32_t woken;

void rvmrpc_os_program_over(struct rvmrpc_program_call *call)
{
	g_assert_cmpint(call->state, ==, RVMRPC_PROGRAM_OVER);
	woken++;
}

static int handler(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	(void)req;
	(void)res;
	return RVMRPC_STATUS_OK;
}

static void setup(uint32_t workers)
{
	memset(&all, 0, sizeof(all));
	memset(&first, 0, sizeof(first));
	memset(&second, 0, sizeof(second));
	woken = 0;
	rvmrpc_programs_epoch(&all, workers);
}

static void test_describe(void)
{
	struct rvmrpc_serve_register *d = &first.description;

	setup(3);
	g_assert_false(rvmrpc_program_may(&first));
	d->nprocs = 2;
	g_assert_true(rvmrpc_program_may(&first));
	d->number = RVMRPC_MOD_USER - 1;
	g_assert_false(rvmrpc_program_may(&first));
	d->number = RVMRPC_MOD_USER;
	d->nprocs = RVMRPC_SERVE_PROCS_MAX + 1;
	g_assert_false(rvmrpc_program_may(&first));
	d->nprocs = 2;
	memset(d->name, 'a', sizeof(d->name));
	g_assert_false(rvmrpc_program_may(&first));
	d->name[sizeof(d->name) - 1] = '\0';
	d->reserved[1] = 1;
	g_assert_false(rvmrpc_program_may(&first));
	d->reserved[1] = 0;
	d->version = 7;
	first.entries[1] = (struct rvmrpc_serve_proc){ .number = 9, .flags = RVMRPC_PROC_SECRET, .name = "p" };
	g_assert_true(rvmrpc_program_describe(&first, handler));
	g_assert_cmpuint(first.module.version, ==, 7);
	g_assert_cmpuint(first.module.nprocs, ==, 2);
	g_assert_cmpuint(first.procs[1].flags, ==, RVMRPC_PROC_SECRET | RVMRPC_PROC_MAY_SLEEP);
	g_assert_true(first.procs[1].number == 9 && first.procs[1].handler == handler && !strcmp(first.procs[1].name, "p"));
	first.entries[1].flags = RVMRPC_PROC_ALLOWED;
	g_assert_false(rvmrpc_program_describe(&first, handler));
	first.entries[1].flags = 0;
	memset(first.entries[1].name, 'a', sizeof(first.entries[1].name));
	g_assert_false(rvmrpc_program_describe(&first, handler));
}

static void test_answers(void)
{
	struct rvmrpc_serve_answer answer = { .status = RVMRPC_STATUS_OK, .length = 3 };

	g_assert_true(rvmrpc_program_may_answer(&answer, 3));
	g_assert_false(rvmrpc_program_may_answer(&answer, 2));
	answer.status = RVMRPC_STATUS_GARBAGE_ARGS;
	g_assert_false(rvmrpc_program_may_answer(&answer, 3));
	answer.length = 0;
	g_assert_true(rvmrpc_program_may_answer(&answer, 0));
	answer.status = RVMRPC_STATUS_STOPPED;
	g_assert_false(rvmrpc_program_may_answer(&answer, 0));
}

static void test_turns(void)
{
	struct rvmrpc_program_call calls[4] = { { .xid = 1 }, { .xid = 2 }, { .xid = 3 }, { .xid = 4 } };

	setup(4);
	g_assert_cmpint(rvmrpc_program_post(&all, NULL, &calls[0]), ==, RVMRPC_STATUS_MODULE_UNAVAILABLE);
	g_assert_cmpint(rvmrpc_program_post(&all, &first, &calls[0]), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_program_post(&all, &second, &calls[1]), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_program_post(&all, &first, &calls[2]), ==, RVMRPC_STATUS_OK);
	/* One worker is left. */
	g_assert_cmpint(rvmrpc_program_post(&all, &first, &calls[3]), ==, RVMRPC_STATUS_BUSY);
	g_assert_true(rvmrpc_program_next(&all, &first) == &calls[0]);
	g_assert_true(rvmrpc_program_next(&all, &second) == &calls[1]);
	g_assert_null(rvmrpc_program_find(&all, &first, calls[0].id));
	calls[0].state = RVMRPC_PROGRAM_READ;
	g_assert_true(rvmrpc_program_next(&all, &first) == &calls[2]);
	g_assert_true(rvmrpc_program_find(&all, &first, calls[0].id) == &calls[0]);
	g_assert_null(rvmrpc_program_find(&all, &second, calls[0].id));
	g_assert_true(rvmrpc_program_end(&calls[0], RVMRPC_STATUS_OK));
	g_assert_false(rvmrpc_program_end(&calls[0], RVMRPC_STATUS_TOO_BIG));
	g_assert_null(rvmrpc_program_find(&all, &first, calls[0].id));
	g_assert_cmpuint(woken, ==, 1);
	rvmrpc_program_leave(&all, &calls[0]);
	g_assert_cmpuint(calls[0].status, ==, RVMRPC_STATUS_OK);
	/* In the place of an older one, and yet after who waits. */
	g_assert_cmpint(rvmrpc_program_post(&all, &first, &calls[3]), ==, RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_program_next(&all, &first) == &calls[2]);
	rvmrpc_program_leave(&all, &calls[2]);
	g_assert_cmpuint(calls[2].status, ==, RVMRPC_STATUS_CANCELLED);
	g_assert_true(rvmrpc_program_next(&all, &first) == &calls[3]);
	g_assert_cmpuint(all.held, ==, 2);
}

static void test_ends(void)
{
	struct rvmrpc_program_call calls[3] = { { .xid = 1 }, { .xid = 2 }, { .xid = 3 } };
	uint32_t i;

	setup(4);
	for (i = 0; i < 3; i++)
		rvmrpc_program_post(&all, i ? &first : &second, &calls[i]);
	calls[1].state = RVMRPC_PROGRAM_READ;
	rvmrpc_program_close(&all, &first);
	g_assert_cmpuint(calls[1].status, ==, RVMRPC_STATUS_SYSTEM_ERROR);
	g_assert_cmpuint(calls[2].status, ==, RVMRPC_STATUS_MODULE_UNAVAILABLE);
	g_assert_cmpuint(woken, ==, 2);
	rvmrpc_program_leave(&all, &calls[1]);
	g_assert_cmpint(rvmrpc_program_post(&all, &first, &calls[1]), ==, RVMRPC_STATUS_MODULE_UNAVAILABLE);
	rvmrpc_programs_cancel(&all, 99);
	g_assert_cmpint(calls[0].state, ==, RVMRPC_PROGRAM_QUEUED);
	rvmrpc_programs_cancel(&all, 1);
	g_assert_cmpuint(calls[0].status, ==, RVMRPC_STATUS_CANCELLED);
	rvmrpc_program_leave(&all, &calls[0]);
	all.asleep = true;
	g_assert_cmpint(rvmrpc_program_post(&all, &second, &calls[0]), ==, RVMRPC_STATUS_BUSY);
	all.asleep = false;
	g_assert_cmpint(rvmrpc_program_post(&all, &second, &calls[0]), ==, RVMRPC_STATUS_OK);
	rvmrpc_programs_epoch(&all, 0);
	g_assert_cmpuint(calls[0].status, ==, RVMRPC_STATUS_CANCELLED);
	g_assert_cmpuint(all.held_max, ==, 3);
	/* Even the only worker. */
	rvmrpc_programs_epoch(&all, 1);
	g_assert_cmpuint(all.held_max, ==, 1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/programs/describe", test_describe);
	g_test_add_func("/programs/answers", test_answers);
	g_test_add_func("/programs/turns", test_turns);
	g_test_add_func("/programs/ends", test_ends);
	return g_test_run();
}
