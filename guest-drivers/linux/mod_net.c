// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module net: interfaces and their addresses.
 *
 * Runs in the server thread, under RCU: the lock of who changes interfaces may be held for long, or for ever.
 */
#include <linux/inetdevice.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/string.h>
#include <net/if_inet6.h>
#include <net/ipv6.h>
#include <net/net_namespace.h>
#include "rvmrpc_drv.h"

/* A cursor is the place of an interface, and in it that of a record: the interface's own, then its addresses. */
#define NET_CURSOR(place, n)	((u64)(place) << 32 | (n))

struct net_list {
	struct rvmrpc_record_writer *w;
	u32 place;
	u32 n;		/* of the record that comes next in this place */
};

static void net_string(struct net_list *list, u16 key, const char *s)
{
	rvmrpc_record_string(list->w, key, s, strlen(s));
}

/* False: the answer is full. */
static bool net_end(struct net_list *list)
{
	return rvmrpc_record_end(list->w, NET_CURSOR(list->place, list->n++));
}

/* Whether an earlier answer has it. */
static bool net_had(struct net_list *list)
{
	if (NET_CURSOR(list->place, list->n) >= list->w->wanted.cursor)
		return false;
	list->n++;
	return true;
}

/* ---- Addresses ---- */

static bool net_address(struct net_list *list, const struct net_device *dev, const void *address, size_t bytes,
			u32 prefix, const char *scope)
{
	rvmrpc_record_begin(list->w, RVMRPC_RECORD_ADDRESS);
	rvmrpc_record_u64(list->w, RVMRPC_ADDRESS_INTERFACE, dev->ifindex);
	rvmrpc_record_bytes(list->w, RVMRPC_ADDRESS_BYTES, address, bytes);
	rvmrpc_record_u64(list->w, RVMRPC_ADDRESS_PREFIX, prefix);
	net_string(list, RVMRPC_ADDRESS_SCOPE, scope);
	return net_end(list);
}

static const char *net_scope4(u8 scope)
{
	switch (scope) {
	case RT_SCOPE_HOST:
		return "host";
	case RT_SCOPE_LINK:
		return "link";
	case RT_SCOPE_SITE:
		return "site";
	default:
		return "global";
	}
}

static bool net_addresses4(struct net_list *list, const struct net_device *dev)
{
	struct in_device *in = __in_dev_get_rcu(dev);
	const struct in_ifaddr *ifa;

	if (!in)
		return true;
	in_dev_for_each_ifa_rcu(ifa, in) {
		if (!net_had(list) && !net_address(list, dev, &ifa->ifa_local, sizeof(ifa->ifa_local),
						   ifa->ifa_prefixlen, net_scope4(ifa->ifa_scope)))
			return false;
	}
	return true;
}

#if IS_ENABLED(CONFIG_IPV6)
static const char *net_scope6(const struct in6_addr *address)
{
	if (ipv6_addr_loopback(address))
		return "host";
	if ((address->s6_addr32[0] & htonl(0xffc00000)) == htonl(0xfe800000))
		return "link";
	if ((address->s6_addr32[0] & htonl(0xffc00000)) == htonl(0xfec00000))
		return "site";
	return "global";
}

static bool net_addresses6(struct net_list *list, const struct net_device *dev)
{
	struct inet6_dev *in6 = rcu_dereference(dev->ip6_ptr);
	const struct inet6_ifaddr *ifa;

	if (!in6)
		return true;
	list_for_each_entry_rcu(ifa, &in6->addr_list, if_list) {
		if (!net_had(list) && !net_address(list, dev, &ifa->addr, sizeof(ifa->addr), ifa->prefix_len,
						   net_scope6(&ifa->addr)))
			return false;
	}
	return true;
}
#else
static bool net_addresses6(struct net_list *list, const struct net_device *dev)
{
	return true;
}
#endif

/* ---- Interfaces ---- */

static const char *net_state(const struct net_device *dev)
{
	static const char * const names[] = {
		[IF_OPER_UNKNOWN] = "unknown",
		[IF_OPER_NOTPRESENT] = "notpresent",
		[IF_OPER_DOWN] = "down",
		[IF_OPER_LOWERLAYERDOWN] = "lowerlayerdown",
		[IF_OPER_TESTING] = "testing",
		[IF_OPER_DORMANT] = "dormant",
		[IF_OPER_UP] = "up",
	};
	u32 state = netif_running(dev) ? READ_ONCE(dev->operstate) : IF_OPER_DOWN;

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

static void net_counters(struct net_list *list, struct net_device *dev)
{
	struct rtnl_link_stats64 storage;
	const struct rtnl_link_stats64 *stats = dev_get_stats(dev, &storage);

	rvmrpc_record_u64(list->w, RVMRPC_NET_RX_BYTES, stats->rx_bytes);
	rvmrpc_record_u64(list->w, RVMRPC_NET_RX_PACKETS, stats->rx_packets);
	rvmrpc_record_u64(list->w, RVMRPC_NET_RX_ERRORS, stats->rx_errors);
	rvmrpc_record_u64(list->w, RVMRPC_NET_RX_DROPPED, stats->rx_dropped);
	rvmrpc_record_u64(list->w, RVMRPC_NET_TX_BYTES, stats->tx_bytes);
	rvmrpc_record_u64(list->w, RVMRPC_NET_TX_PACKETS, stats->tx_packets);
	rvmrpc_record_u64(list->w, RVMRPC_NET_TX_ERRORS, stats->tx_errors);
	rvmrpc_record_u64(list->w, RVMRPC_NET_TX_DROPPED, stats->tx_dropped);
}

static bool net_interface(struct net_list *list, struct net_device *dev)
{
	const bool loopback = dev->flags & IFF_LOOPBACK;
	char name[IFNAMSIZ];

	/* Renaming may come between, but it ends with a NUL. */
	memcpy(name, dev->name, sizeof(name));
	rvmrpc_record_begin(list->w, RVMRPC_RECORD_INTERFACE);
	rvmrpc_record_u64(list->w, RVMRPC_NET_INDEX, dev->ifindex);
	rvmrpc_record_string(list->w, RVMRPC_NET_NAME, name, strnlen(name, sizeof(name)));
	if (dev->addr_len && !loopback)
		rvmrpc_record_bytes(list->w, RVMRPC_NET_MAC, dev->dev_addr, dev->addr_len);
	rvmrpc_record_u64(list->w, RVMRPC_NET_MTU, READ_ONCE(dev->mtu));
	rvmrpc_record_u64(list->w, RVMRPC_NET_UP, !!(dev->flags & IFF_UP));
	net_string(list, RVMRPC_NET_STATE, net_state(dev));
	if (loopback)
		rvmrpc_record_u64(list->w, RVMRPC_NET_LOOPBACK, 1);
	net_counters(list, dev);
	return net_end(list);
}

int rvmrpc_os_net_list(struct rvmrpc_record_writer *w, u32 ms)
{
	struct net_list list = { .w = w };
	struct net_device *dev;

	rcu_read_lock();
	for_each_netdev_rcu(&init_net, dev) {
		list.n = 0;
		if (!net_had(&list) && !net_interface(&list, dev))
			break;
		if (!net_addresses4(&list, dev) || !net_addresses6(&list, dev))
			break;
		list.place++;
	}
	rcu_read_unlock();
	return RVMRPC_STATUS_OK;
}

int rvmrpc_mod_net_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_net_module);
}

void rvmrpc_mod_net_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_net_module);
}
