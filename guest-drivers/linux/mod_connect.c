// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module connect: TCP connections of this guest for its host, to where connect_allow= says.
 *
 * A socket never waits: the server thread hands bytes over between it and the call, and what would wait is left to an
 * event.  Events come by the socket's own wait queue.  Whoever waits for them, waits for all of its client's
 * connections, and holds one worker at most half of which wait so.
 *
 * A connection ends with its epoch, and when its client has not spoken of it for connect_lease seconds.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/spinlock.h>
#include <linux/suspend.h>
#include <linux/tcp.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_connect.h"
#include "rvmrpc_drv.h"

#define CONNECT_LEASE_CHECK_S	5

static unsigned int connect_max = 256;
module_param(connect_max, uint, 0644);
MODULE_PARM_DESC(connect_max, "connections that the host may have at a time, at most 1024 (default 256)");

static unsigned int connect_lease = 30;
module_param(connect_lease, uint, 0644);
MODULE_PARM_DESC(connect_lease, "seconds after which a connection is closed whose client is not heard of (default 30)");

/* One who looks for it in the table has a reference. */
struct connect_socket {
	struct rvmrpc_connection c;
	struct kref ref;		/* the table's, and of who uses it */
	struct socket *sock;
	wait_queue_entry_t wait;	/* in the socket's queue */
	bool reset;			/* set before the last reference goes */
};

/* A worker that waits for events. */
struct connect_waiter {
	struct list_head link;		/* connect_lock */
	u64 xid;
	bool over;			/* nobody wants its answer any more; connect_lock */
};

static DEFINE_MUTEX(connect_rules_lock);		/* short */
static struct rvmrpc_connect_rules connect_rules;	/* connect_rules_lock */

static DEFINE_SPINLOCK(connect_lock);			/* interrupts off: inside a socket's wait queue */
static struct rvmrpc_connections connect_table;		/* connect_lock */
static LIST_HEAD(connect_waiters);			/* connect_lock */
static u32 connect_nwaiters;				/* connect_lock */
static u32 connect_waiters_max = 1;			/* connect_lock */
static bool connect_asleep;				/* the machine is about to; connect_lock */
static DECLARE_WAIT_QUEUE_HEAD(connect_wake);		/* of all waiters */

static void connect_lease_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(connect_lease_check, connect_lease_work);

/* ---- Sockets ---- */

static struct connect_socket *connect_of(struct rvmrpc_connection *c)
{
	return container_of(c, struct connect_socket, c);
}

/* What an error of the kernel's means; EAGAIN is none. */
static u32 connect_failed(int err)
{
	switch (err) {
	case 0:
	case -EAGAIN:
	case -EINPROGRESS:
	/* No memory now; who looks again later finds some. */
	case -ENOMEM:
	case -ENOBUFS:
		return RVMRPC_CONNECT_FAILED_NOT;
	case -ECONNREFUSED:
		return RVMRPC_CONNECT_REFUSED;
	case -ENETUNREACH:
	case -EHOSTUNREACH:
	case -ENETDOWN:
	case -EHOSTDOWN:
	case -EADDRNOTAVAIL:
	case -EAFNOSUPPORT:
		return RVMRPC_CONNECT_UNREACHABLE;
	case -ETIMEDOUT:
		return RVMRPC_CONNECT_TIMED_OUT;
	case -ECONNRESET:
	case -EPIPE:
		return RVMRPC_CONNECT_BROKEN;
	default:
		return RVMRPC_CONNECT_OTHER;
	}
}

/* Of the socket's wait queue, whose lock is held; any context. */
static int connect_event(wait_queue_entry_t *entry, unsigned int mode, int sync, void *key)
{
	struct connect_socket *s = container_of(entry, struct connect_socket, wait);
	__poll_t what = key_to_poll(key);
	u32 events = 0;
	unsigned long flags;
	bool news;

	/* Without a key it may be anything: the connection is there, or has failed. */
	if (!what || (what & ~(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)))
		events |= RVMRPC_CONNECT_READ;
	if (!what || (what & ~(EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLPRI)))
		events |= RVMRPC_CONNECT_WRITE;
	spin_lock_irqsave(&connect_lock, flags);
	news = events & ~s->c.events;
	s->c.events |= events;
	spin_unlock_irqrestore(&connect_lock, flags);
	if (news)
		wake_up(&connect_wake);
	return 0;
}

static void connect_free(struct kref *ref)
{
	struct connect_socket *s = container_of(ref, struct connect_socket, ref);

	if (s->sock) {
		remove_wait_queue(sk_sleep(s->sock->sk), &s->wait);
		/* Else what was sent goes on its way without us. */
		if (s->reset)
			sock_no_linger(s->sock->sk);
		sock_release(s->sock);
	}
	kfree(s);
}

static void connect_put(struct connect_socket *s)
{
	kref_put(&s->ref, connect_free);
}

static int connect_begin(struct connect_socket *s, const struct rvmrpc_connect_open_req *wanted)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(wanted->port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(wanted->port) };
	bool v4 = rvmrpc_connect_is_v4(wanted->address);

	memcpy(&four.sin_addr, wanted->address + 12, sizeof(four.sin_addr));
	memcpy(&six.sin6_addr, wanted->address, sizeof(six.sin6_addr));
	six.sin6_scope_id = wanted->scope;
	/* The pointer's type is another one since 6.19. */
	return kernel_connect(s->sock, v4 ? (void *)&four : (void *)&six, v4 ? sizeof(four) : sizeof(six), O_NONBLOCK);
}

/* A connection that is on its way, of nobody's table yet. */
static int connect_make(struct connect_socket *s, const struct rvmrpc_connect_open_req *wanted)
{
	int family = rvmrpc_connect_is_v4(wanted->address) ? AF_INET : AF_INET6;
	struct socket *sock;
	int err;

	err = sock_create_kern(&init_net, family, SOCK_STREAM, IPPROTO_TCP, &sock);
	if (err)
		return err;
	/* The server thread does not wait for memory either. */
	sock->sk->sk_allocation = GFP_NOWAIT | __GFP_NOWARN;
	tcp_sock_set_nodelay(sock->sk);
	sock_set_keepalive(sock->sk);
	s->sock = sock;
	add_wait_queue(sk_sleep(sock->sk), &s->wait);
	err = connect_begin(s, wanted);
	return err == -EINPROGRESS ? 0 : err;
}

/* ---- Procedures ---- */

bool rvmrpc_os_connect_allowed(const u8 address[16], u16 port)
{
	bool allowed;

	mutex_lock(&connect_rules_lock);
	allowed = rvmrpc_connect_rules_allow(&connect_rules, address, port);
	mutex_unlock(&connect_rules_lock);
	return allowed;
}

static u32 connect_add(struct connect_socket *s)
{
	u32 failed;

	spin_lock_irq(&connect_lock);
	failed = rvmrpc_connections_add(&connect_table, &s->c, READ_ONCE(connect_max), ktime_get_ns());
	spin_unlock_irq(&connect_lock);
	/* It looks again as long as there is one. */
	if (!failed)
		schedule_delayed_work(&connect_lease_check, CONNECT_LEASE_CHECK_S * HZ);
	return failed;
}

static bool connect_exists(u64 session, u32 number)
{
	struct rvmrpc_connection *c;

	spin_lock_irq(&connect_lock);
	c = rvmrpc_connections_find(&connect_table, session, number, ktime_get_ns());
	spin_unlock_irq(&connect_lock);
	return c;
}

int rvmrpc_os_connect_open(const struct rvmrpc_connect_open_req *wanted, u32 *failed)
{
	struct connect_socket *s;
	int err;

	/* The caller asks again, after an answer that was lost. */
	if (connect_exists(wanted->session, wanted->connection))
		return RVMRPC_STATUS_OK;
	s = kzalloc(sizeof(*s), GFP_KERNEL | __GFP_NOWARN);
	if (!s)
		return RVMRPC_STATUS_BUSY;
	kref_init(&s->ref);
	s->c.session = wanted->session;
	s->c.number = wanted->connection;
	init_waitqueue_func_entry(&s->wait, connect_event);
	err = connect_make(s, wanted);
	*failed = err ? connect_failed(err) ?: RVMRPC_CONNECT_OTHER : connect_add(s);
	if (*failed) {
		s->reset = true;
		connect_put(s);
	}
	/* Its own second call was quicker. */
	if (!err && *failed == RVMRPC_CONNECT_OTHER)
		*failed = RVMRPC_CONNECT_FAILED_NOT;
	return RVMRPC_STATUS_OK;
}

struct rvmrpc_connection *rvmrpc_os_connect_get(u64 session, u32 number)
{
	struct rvmrpc_connection *c;

	spin_lock_irq(&connect_lock);
	c = rvmrpc_connections_find(&connect_table, session, number, ktime_get_ns());
	if (c)
		kref_get(&connect_of(c)->ref);
	spin_unlock_irq(&connect_lock);
	return c;
}

void rvmrpc_os_connect_put(struct rvmrpc_connection *c)
{
	connect_put(connect_of(c));
}

u32 rvmrpc_os_connect_send(struct rvmrpc_connection *c, const void *data, u32 length, u32 *taken)
{
	struct kvec vec = { .iov_base = (void *)data, .iov_len = length };
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	int got = kernel_sendmsg(connect_of(c)->sock, &msg, &vec, 1, length);

	*taken = max(got, 0);
	return connect_failed(min(got, 0));
}

void rvmrpc_os_connect_finish(struct rvmrpc_connection *c)
{
	kernel_sock_shutdown(connect_of(c)->sock, SHUT_WR);
}

/* Bytes, 0 at the end, or -errno. */
static int connect_recv(struct connect_socket *s, void *to, size_t length, int flags)
{
	struct kvec vec = { .iov_base = to, .iov_len = length };
	struct msghdr msg = { };

	return kernel_recvmsg(s->sock, &msg, &vec, 1, length, MSG_DONTWAIT | flags);
}

u32 rvmrpc_os_connect_recv(struct rvmrpc_connection *c, u64 drop, void *to, u32 *length, bool *ended)
{
	struct connect_socket *s = connect_of(c);
	u32 room = *length;
	int got;

	*length = 0;
	/* They are there: a look at them was what its client was told. */
	while (drop) {
		got = connect_recv(s, NULL, drop, MSG_TRUNC);
		if (got <= 0)
			return connect_failed(got) ?: RVMRPC_CONNECT_OTHER;
		drop -= got;
	}
	if (!room)
		return RVMRPC_CONNECT_FAILED_NOT;
	got = connect_recv(s, to, room, MSG_PEEK);
	/* Its error was told by now, perhaps in an answer that was lost: only the other end makes an end. */
	if (!got && !sock_flag(s->sock->sk, SOCK_DONE))
		return c->failed ?: RVMRPC_CONNECT_BROKEN;
	*length = max(got, 0);
	*ended = !got;
	return connect_failed(min(got, 0));
}

/* What was taken out of the table. */
static void connect_drop(struct rvmrpc_connection *c, bool reset)
{
	struct connect_socket *s = connect_of(c);

	if (reset)
		s->reset = true;
	else	/* What lies unread, be it told, makes the kernel forget what was sent. */
		connect_recv(s, NULL, INT_MAX, MSG_TRUNC);
	connect_put(s);
}

/* Those of a session, or of all (0), and the one of a number, or all (0). */
static void connect_close(u64 session, u32 number, bool reset)
{
	struct rvmrpc_connection *c;

	do {
		spin_lock_irq(&connect_lock);
		c = rvmrpc_connections_take(&connect_table, session, number);
		spin_unlock_irq(&connect_lock);
		if (c)
			connect_drop(c, reset);
	} while (c);
}

void rvmrpc_os_connect_close(u64 session, u32 number, bool reset)
{
	connect_close(session, number, reset);
}

/* ---- Waiting ---- */

static bool connect_wait_begin(struct connect_waiter *waiter)
{
	bool begun;

	spin_lock_irq(&connect_lock);
	begun = !connect_asleep && connect_nwaiters < connect_waiters_max && rvmrpc_jobs_hold();
	if (begun) {
		connect_nwaiters++;
		list_add(&waiter->link, &connect_waiters);
	}
	spin_unlock_irq(&connect_lock);
	return begun;
}

static bool connect_wait_ends(const struct connect_waiter *waiter, u64 session)
{
	bool ends;

	spin_lock_irq(&connect_lock);
	ends = waiter->over || rvmrpc_connections_ready(&connect_table, session);
	spin_unlock_irq(&connect_lock);
	return ends;
}

int rvmrpc_os_connect_wait(u64 xid, u64 session, u32 ms, struct rvmrpc_connect_ready *to, u32 max, u32 *n)
{
	struct connect_waiter waiter = { .xid = xid };

	if (!connect_wait_begin(&waiter))
		return RVMRPC_STATUS_BUSY;
	wait_event_idle_timeout(connect_wake, connect_wait_ends(&waiter, session), msecs_to_jiffies(ms));
	spin_lock_irq(&connect_lock);
	list_del(&waiter.link);
	connect_nwaiters--;
	*n = waiter.over ? 0 : rvmrpc_connections_tell(&connect_table, session, to, max, ktime_get_ns());
	spin_unlock_irq(&connect_lock);
	rvmrpc_jobs_let_go();
	return RVMRPC_STATUS_OK;
}

/* Of one xid, or all (0).  connect_lock held. */
static void connect_waits_end(u64 xid)
{
	struct connect_waiter *waiter;

	list_for_each_entry(waiter, &connect_waiters, link) {
		if (!xid || waiter->xid == xid)
			waiter->over = true;
	}
	wake_up(&connect_wake);
}

void rvmrpc_connect_cancel(u64 xid)
{
	spin_lock_irq(&connect_lock);
	connect_waits_end(xid);
	spin_unlock_irq(&connect_lock);
}

/**
 * rvmrpc_connect_epoch() - an epoch begins or ends: the connections of the last one end
 * @workers: that may run at a time in the next one, or 0
 *
 * Context: may sleep.
 */
void rvmrpc_connect_epoch(u32 workers)
{
	spin_lock_irq(&connect_lock);
	if (workers)
		connect_waiters_max = max_t(u32, workers / 2, 1);
	connect_waits_end(0);
	spin_unlock_irq(&connect_lock);
	connect_close(0, 0, true);
}

/* Workers are frozen, and what waits would hold that up. */
static int connect_pm_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	spin_lock_irq(&connect_lock);
	connect_asleep = rvmrpc_pm_sleeps(event);
	if (connect_asleep)
		connect_waits_end(0);
	spin_unlock_irq(&connect_lock);
	return NOTIFY_DONE;
}

static struct notifier_block connect_pm = { .notifier_call = connect_pm_notify };

/* ---- Leases ---- */

static void connect_lease_work(struct work_struct *work)
{
	u64 lease_ns = (u64)READ_ONCE(connect_lease) * NSEC_PER_SEC;
	u64 now = ktime_get_ns();
	struct rvmrpc_connection *c;
	bool more;

	do {
		spin_lock_irq(&connect_lock);
		c = now > lease_ns ? rvmrpc_connections_take_old(&connect_table, now - lease_ns) : NULL;
		more = connect_table.n;
		spin_unlock_irq(&connect_lock);
		if (c)
			connect_drop(c, true);
	} while (c);
	if (more)
		schedule_delayed_work(&connect_lease_check, CONNECT_LEASE_CHECK_S * HZ);
}

/* ---- connect_allow= ---- */

static int connect_allow_set(const char *text, const struct kernel_param *kp)
{
	u32 bad = 0;
	int status;

	mutex_lock(&connect_rules_lock);
	status = rvmrpc_connect_rules_set(&connect_rules, text, &bad);
	mutex_unlock(&connect_rules_lock);
	if (status == RVMRPC_STATUS_GARBAGE_ARGS)
		pr_err("connect_allow: no address, colon and port from byte %u on\n", bad);
	return rvmrpc_status_errno(status);
}

static int connect_allow_get(char *buffer, const struct kernel_param *kp)
{
	int length;

	mutex_lock(&connect_rules_lock);
	length = sysfs_emit(buffer, "%s\n", connect_rules.text);
	mutex_unlock(&connect_rules_lock);
	return length;
}

static const struct kernel_param_ops connect_allow_ops = {
	.set = connect_allow_set,
	.get = connect_allow_get,
};
module_param_cb(connect_allow, &connect_allow_ops, NULL, 0644);
MODULE_PARM_DESC(connect_allow, "where the host may connect to from this guest: ADDRESS[/BITS]:PORT, comma separated; IPv6 in brackets, * any, PORT-PORT several (default: nowhere)");

/* ---- Life ---- */

int rvmrpc_mod_connect_init(void)
{
	int err = register_pm_notifier(&connect_pm);

	if (err)
		return err;
	err = rvmrpc_builtin_add(&rvmrpc_connect_module);
	if (err)
		unregister_pm_notifier(&connect_pm);
	return err;
}

/* No worker runs any more; one that did after its epoch may have left a connection. */
void rvmrpc_mod_connect_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_connect_module);
	unregister_pm_notifier(&connect_pm);
	connect_close(0, 0, true);
	cancel_delayed_work_sync(&connect_lease_check);
}
