/*
 * Unit tests: who has to go when many are connected to the exporter
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The test is libmicrohttpd, whose connection is one of all: it goes when its socket is shut down.
 */
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "connections.h"

#define MOST	512	/* as many as there ever are */

static struct one {
	int fd, peer;
	void *context;	/* connections.c's; NULL: it has gone */
	union MHD_ConnectionInfo info;
} all[MOST];

const union MHD_ConnectionInfo *MHD_get_connection_info(struct MHD_Connection *connection,
							enum MHD_ConnectionInfoType type, ...)
{
	struct one *c = (void *)connection;

	if (type == MHD_CONNECTION_INFO_SOCKET_CONTEXT)
		c->info.socket_context = c->context;
	else
		c->info.connect_fd = c->fd;
	return &c->info;
}

static void begin(struct one *c)
{
	int fds[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
	c->fd = fds[0];
	c->peer = fds[1];
	connections_notify(NULL, (void *)c, &c->context, MHD_CONNECTION_NOTIFY_STARTED);
}

static void end(struct one *c)
{
	connections_notify(NULL, (void *)c, &c->context, MHD_CONNECTION_NOTIFY_CLOSED);
	close(c->fd);
	close(c->peer);
}

/* Those that were told to go do. */
static guint let_go(void)
{
	guint n = 0;

	for (struct one *c = all; c < all + MOST; c++) {
		struct pollfd p = { .fd = c->peer };

		if (c->context && poll(&p, 1, 0) == 1 && p.revents & POLLHUP) {
			end(c);
			n++;
		}
	}
	return n;
}

static gpointer make_room(gpointer made)
{
	connections_make_room();
	g_atomic_int_set((gint *)made, 1);
	return NULL;
}

/* All are answered when one more comes, and then nobody reads his answer: who waits for a place gets one. */
static void test_unread(void)
{
	gint64 limit;
	GThread *thread;
	gint made = 0;
	guint gone = 0;

	for (struct one *c = all; c < all + MOST; c++) {
		begin(c);
		connections_answering((void *)c, TRUE);
	}
	thread = g_thread_new("accepts", make_room, &made);
	g_usleep(50000);
	g_assert_cmpuint(let_go(), ==, 0);
	for (struct one *c = all; c < all + MOST; c++)
		connections_answering((void *)c, FALSE);
	limit = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
	while (!g_atomic_int_get(&made)) {
		g_assert_cmpint(g_get_monotonic_time(), <, limit);
		gone += let_go();
		g_usleep(1000);
	}
	g_thread_join(thread);
	gone += let_go();
	g_assert_cmpuint(gone, >=, 1);
	/* The others stay. */
	g_assert_cmpuint(gone, <, 10);
	for (struct one *c = all; c < all + MOST; c++) {
		if (c->context)
			end(c);
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;

	g_test_init(&argc, &argv, NULL);
	/* Two for each; often there are 1024. */
	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &files), ==, 0);
	files.rlim_cur = files.rlim_max;
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &files), ==, 0);
	g_test_add_func("/crowd/unread", test_unread);
	return g_test_run();
}
