/* SPDX-License-Identifier: GPL-2.0-or-later */
/* channel/'s listener: sockets as files, as QEMU and rvmrpcd make, replace and remove them. */
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib.h>
#include <glib/gstdio.h>

#include "rvmrpc_listener.h"

#define NOBODY	65534

static char *folder, *path;
static unsigned taken;

static void begin(void)
{
	folder = g_dir_make_tmp("rvmrpc-listener-XXXXXX", NULL);
	g_assert_nonnull(folder);
	path = g_build_filename(folder, "a.sock", NULL);
}

static void end(void)
{
	g_assert_cmpint(g_rmdir(folder), ==, 0);
	g_clear_pointer(&folder, g_free);
	g_clear_pointer(&path, g_free);
}

static void accepted(int fd, void *opaque)
{
	(void)opaque;
	taken++;
	close(fd);
}

static RvmrpcListener *listen_at(const char *where, GError **error)
{
	return rvmrpc_listener_new(where, 0600, (gid_t)-1, NULL, accepted, NULL, error);
}

static struct sockaddr_un address(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
	return addr;
}

/* A socket of another program, of any type. */
static int bound(int type)
{
	struct sockaddr_un addr = address();
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	if (type != SOCK_DGRAM)
		g_assert_cmpint(listen(fd, 1), ==, 0);
	return fd;
}

static ino_t inode(void)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

/* It is there before and after, the same, and the reason is said. */
static void assert_refused(const char *reason)
{
	g_autoptr(GError) error = NULL;
	ino_t before = inode();

	g_assert_cmpuint(before, !=, 0);
	g_assert_null(listen_at(path, &error));
	g_assert_nonnull(strstr(error->message, reason));
	g_assert_cmpuint(inode(), ==, before);
}

/* Runs @func in a process of its own, which may change what it is. */
static void in_child(int (*func)(void))
{
	pid_t pid = fork();
	int status;

	g_assert_cmpint(pid, >=, 0);
	if (!pid)
		_exit(func());
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
}

/* ---- what is there already ---- */

static void test_stale(void)
{
	RvmrpcListener *l;

	begin();
	close(bound(SOCK_STREAM));
	l = listen_at(path, NULL);
	g_assert_nonnull(l);
	rvmrpc_listener_free(l);
	g_assert_cmpuint(inode(), ==, 0);
	end();
}

static void test_live(void)
{
	static const struct {
		int type;
		const char *reason;
	} kinds[] = {
		{ SOCK_STREAM, "in use" },
		{ SOCK_SEQPACKET, "cannot tell" },
		{ SOCK_DGRAM, "cannot tell" },
	};

	for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
		int fd;

		begin();
		fd = bound(kinds[i].type);
		assert_refused(kinds[i].reason);
		close(fd);
		g_unlink(path);
		end();
	}
}

static int refused_as_nobody(void)
{
	g_autoptr(GError) error = NULL;

	if (setgid(NOBODY) || setuid(NOBODY))
		return 1;
	if (listen_at(path, &error))
		return 2;
	return strstr(error->message, "cannot tell") && inode() ? 0 : 3;
}

/* Who may not connect cannot know whether it is served. */
static void test_forbidden(void)
{
	int fd;

	if (geteuid()) {
		g_test_skip("needs root to become somebody else");
		return;
	}
	begin();
	g_assert_cmpint(chmod(folder, 0777), ==, 0);
	fd = bound(SOCK_STREAM);
	g_assert_cmpint(chmod(path, 0600), ==, 0);
	in_child(refused_as_nobody);
	close(fd);
	g_unlink(path);
	end();
}

/* ---- what is removed ---- */

static void test_successor(void)
{
	RvmrpcListener *l;
	int fd;

	begin();
	l = listen_at(path, NULL);
	g_unlink(path);
	fd = bound(SOCK_STREAM);
	rvmrpc_listener_free(l);
	g_assert_cmpuint(inode(), !=, 0);
	close(fd);
	g_unlink(path);
	end();
}

static int removed_elsewhere(void)
{
	RvmrpcListener *l;

	if (chdir(folder))
		return 1;
	l = listen_at("a.sock", NULL);
	if (!l || !inode() || chdir("/"))
		return 2;
	rvmrpc_listener_free(l);
	return inode() ? 3 : 0;
}

static int removed_in_chroot(void)
{
	RvmrpcListener *l = listen_at(path, NULL);

	if (!l || dup2(open("/", O_PATH | O_DIRECTORY), 9) != 9 || chroot("/proc") || chdir("/"))
		return 1;
	rvmrpc_listener_free(l);
	if (fchdir(9) || chroot("."))
		return 2;
	return inode() ? 3 : 0;
}

/* As QEMU's -daemonize and -run-with chroot= do. */
static void test_elsewhere(void)
{
	begin();
	in_child(removed_elsewhere);
	if (geteuid() == 0)
		in_child(removed_in_chroot);
	end();
}

static int fails_as_nobody(void)
{
	g_autoptr(GError) error = NULL;

	if (setgid(NOBODY) || setuid(NOBODY))
		return 1;
	/* Nobody may not give the file to that group. */
	if (rvmrpc_listener_new(path, 0660, 0, NULL, accepted, NULL, &error))
		return 2;
	return inode() ? 3 : 0;
}

static void test_failed(void)
{
	if (geteuid()) {
		g_test_skip("needs root to become somebody else");
		return;
	}
	begin();
	g_assert_cmpint(chmod(folder, 0777), ==, 0);
	in_child(fails_as_nobody);
	end();
}

/* Others see where it is, whatever its folder is by then. */
static int listens_by_whole_path(void)
{
	struct sockaddr_un addr = address(), peer = { 0 };
	socklen_t size = sizeof(peer);
	RvmrpcListener *l;
	int fd;

	if (chdir(folder))
		return 1;
	l = listen_at("a.sock", NULL);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (!l || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    getpeername(fd, (struct sockaddr *)&peer, &size))
		return 2;
	rvmrpc_listener_free(l);
	return strcmp(peer.sun_path, path) ? 3 : 0;
}

static void test_absolute(void)
{
	begin();
	in_child(listens_by_whole_path);
	end();
}

/* ---- accept ---- */

static double cpu_seconds(void)
{
	struct rusage use;

	getrusage(RUSAGE_THREAD, &use);
	return use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static gboolean stop(void *loop)
{
	g_main_loop_quit(loop);
	return G_SOURCE_REMOVE;
}

static void run_for(unsigned ms)
{
	GMainLoop *loop = g_main_loop_new(NULL, FALSE);

	g_timeout_add(ms, stop, loop);
	g_main_loop_run(loop);
	g_main_loop_unref(loop);
}

/* At the limit of descriptors it waits, and goes on once there is room. */
static void test_limit(void)
{
	struct sockaddr_un addr;
	struct rlimit old, low;
	RvmrpcListener *l;
	double before;
	int fd;

	begin();
	l = listen_at(path, NULL);
	addr = address();
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	run_for(1);
	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
	low = old;
	low.rlim_cur = fd + 1;
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &low), ==, 0);
	g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	taken = 0;
	before = cpu_seconds();
	run_for(1000);
	g_test_message("%.3f s of CPU time in 1 s", cpu_seconds() - before);
	g_assert_cmpfloat(cpu_seconds() - before, <, 0.1);
	g_assert_cmpuint(taken, ==, 0);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
	run_for(300);
	g_assert_cmpuint(taken, ==, 1);
	close(fd);
	rvmrpc_listener_free(l);
	end();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/listener/stale", test_stale);
	g_test_add_func("/listener/live", test_live);
	g_test_add_func("/listener/forbidden", test_forbidden);
	g_test_add_func("/listener/successor", test_successor);
	g_test_add_func("/listener/elsewhere", test_elsewhere);
	g_test_add_func("/listener/failed", test_failed);
	g_test_add_func("/listener/absolute", test_absolute);
	g_test_add_func("/listener/limit", test_limit);
	return g_test_run();
}
