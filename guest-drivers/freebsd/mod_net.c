/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module net: interfaces of the first network stack, and their addresses.
 *
 * Runs in the server thread, in the network's epoch: who changes interfaces may
 * hold their lock for long, or for ever.
 */
#include "rvmrpc_drv.h"
#include "rvmrpc_format.h"
#include <sys/epoch.h>
#include <sys/socket.h>
#include <net/if.h>
#include <net/if_dl.h>
#include <net/if_var.h>
#include <net/vnet.h>
#include <netinet/in.h>

/*
 * A cursor is the place of an interface, and in it that of a record: the
 * interface's own, then its addresses.
 */
#define	NET_CURSOR(place, n)	((uint64_t)(place) << 32 | (n))

struct net_list {
	struct rvmrpc_record_writer *w;
	uint32_t	place;
	uint32_t	n;	/* of the record that comes next there */
};

static void
net_string(struct net_list *list, uint16_t key, const char *s)
{
	rvmrpc_record_string(list->w, key, s, strlen(s));
}

/* False: the answer is full. */
static bool
net_end(struct net_list *list)
{
	return (rvmrpc_record_end(list->w,
	    NET_CURSOR(list->place, list->n++)));
}

/* Whether an earlier answer has it. */
static bool
net_had(struct net_list *list)
{
	if (NET_CURSOR(list->place, list->n) >= list->w->wanted.cursor)
		return (false);
	list->n++;
	return (true);
}

/* ---- Addresses ---- */

static bool
net_address(struct net_list *list, struct ifnet *ifp, const void *address,
    const void *mask, uint32_t bytes)
{
	rvmrpc_record_begin(list->w, RVMRPC_RECORD_ADDRESS);
	rvmrpc_record_u64(list->w, RVMRPC_ADDRESS_INTERFACE,
	    rvmrpc_if_index(ifp));
	rvmrpc_record_bytes(list->w, RVMRPC_ADDRESS_BYTES, address, bytes);
	if (mask != NULL)
		rvmrpc_record_u64(list->w, RVMRPC_ADDRESS_PREFIX,
		    rvmrpc_prefix(mask, bytes));
	net_string(list, RVMRPC_ADDRESS_SCOPE,
	    rvmrpc_address_scope(address, bytes));
	return (net_end(list));
}

static bool
net_address4(struct net_list *list, struct ifnet *ifp,
    const struct ifaddr *ifa)
{
	const struct sockaddr_in *sin = (const void *)ifa->ifa_addr;
	const struct sockaddr_in *mask = (const void *)ifa->ifa_netmask;

	return (net_address(list, ifp, &sin->sin_addr,
	    mask != NULL ? &mask->sin_addr : NULL, sizeof(sin->sin_addr)));
}

static bool
net_address6(struct net_list *list, struct ifnet *ifp,
    const struct ifaddr *ifa)
{
	const struct sockaddr_in6 *sin6 = (const void *)ifa->ifa_addr;
	const struct sockaddr_in6 *mask = (const void *)ifa->ifa_netmask;
	struct in6_addr address = sin6->sin6_addr;

	/* There the kernel keeps the number of the interface. */
	if (IN6_IS_ADDR_LINKLOCAL(&address))
		address.s6_addr[2] = address.s6_addr[3] = 0;
	return (net_address(list, ifp, &address,
	    mask != NULL ? &mask->sin6_addr : NULL, sizeof(address)));
}

static bool
net_addresses(struct net_list *list, struct ifnet *ifp)
{
	struct rvmrpc_ifa_iter iter;
	const struct ifaddr *ifa;
	bool more = true;

	RVMRPC_IFA_FOREACH(ifa, ifp, &iter) {
		if (ifa->ifa_addr->sa_family != AF_INET &&
		    ifa->ifa_addr->sa_family != AF_INET6)
			continue;
		if (net_had(list))
			continue;
		more = ifa->ifa_addr->sa_family == AF_INET ?
		    net_address4(list, ifp, ifa) : net_address6(list, ifp, ifa);
		if (!more)
			break;
	}
	RVMRPC_IFA_FINISH(&iter);
	return (more);
}

/* ---- Interfaces ---- */

static const char *
net_state(struct ifnet *ifp)
{
	if ((if_getflags(ifp) & IFF_UP) == 0)
		return ("down");
	switch (rvmrpc_if_linkstate(ifp)) {
	case LINK_STATE_UP:
		return ("up");
	case LINK_STATE_DOWN:
		return ("down");
	default:
		return ("unknown");
	}
}

static void
net_counters(struct net_list *list, struct ifnet *ifp)
{
	static const struct {
		uint16_t	key;
		ift_counter	counter;
	} counters[] = {
		{ RVMRPC_NET_RX_BYTES, IFCOUNTER_IBYTES },
		{ RVMRPC_NET_RX_PACKETS, IFCOUNTER_IPACKETS },
		{ RVMRPC_NET_RX_ERRORS, IFCOUNTER_IERRORS },
		{ RVMRPC_NET_RX_DROPPED, IFCOUNTER_IQDROPS },
		{ RVMRPC_NET_TX_BYTES, IFCOUNTER_OBYTES },
		{ RVMRPC_NET_TX_PACKETS, IFCOUNTER_OPACKETS },
		{ RVMRPC_NET_TX_ERRORS, IFCOUNTER_OERRORS },
		{ RVMRPC_NET_TX_DROPPED, IFCOUNTER_OQDROPS },
	};
	u_int i;

	for (i = 0; i < nitems(counters); i++)
		rvmrpc_record_u64(list->w, counters[i].key,
		    rvmrpc_if_counter(ifp, counters[i].counter));
}

static bool
net_interface(struct net_list *list, struct ifnet *ifp)
{
	bool loopback = (if_getflags(ifp) & IFF_LOOPBACK) != 0;
	uint8_t bytes = rvmrpc_if_addrlen(ifp);
	char name[IFNAMSIZ];

	/* Renaming may come between, but it ends with a NUL. */
	strlcpy(name, if_name(ifp), sizeof(name));
	rvmrpc_record_begin(list->w, RVMRPC_RECORD_INTERFACE);
	rvmrpc_record_u64(list->w, RVMRPC_NET_INDEX, rvmrpc_if_index(ifp));
	net_string(list, RVMRPC_NET_NAME, name);
	if (bytes != 0 && !loopback && rvmrpc_if_ifaddr(ifp) != NULL)
		rvmrpc_record_bytes(list->w, RVMRPC_NET_MAC,
		    if_getlladdr(ifp), bytes);
	rvmrpc_record_u64(list->w, RVMRPC_NET_MTU, if_getmtu(ifp));
	rvmrpc_record_u64(list->w, RVMRPC_NET_UP,
	    (if_getflags(ifp) & IFF_UP) != 0);
	net_string(list, RVMRPC_NET_STATE, net_state(ifp));
	if (loopback)
		rvmrpc_record_u64(list->w, RVMRPC_NET_LOOPBACK, 1);
	net_counters(list, ifp);
	return (net_end(list));
}

/* In the epoch, and in the network stack. */
static void
net_walk(struct net_list *list)
{
	struct rvmrpc_if_iter iter;
	struct ifnet *ifp;

	RVMRPC_IF_FOREACH(ifp, &iter) {
		list->n = 0;
		if ((!net_had(list) && !net_interface(list, ifp)) ||
		    !net_addresses(list, ifp))
			break;
		list->place++;
	}
	RVMRPC_IF_FINISH(&iter);
}

int
rvmrpc_os_net_list(struct rvmrpc_record_writer *w, uint32_t ms)
{
	struct net_list list = { .w = w };
	struct epoch_tracker tracker;

	CURVNET_SET(vnet0);
	epoch_enter_preempt(net_epoch_preempt, &tracker);
	net_walk(&list);
	epoch_exit_preempt(net_epoch_preempt, &tracker);
	CURVNET_RESTORE();
	return (RVMRPC_STATUS_OK);
}

int
rvmrpc_mod_net_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_net_module));
}

void
rvmrpc_mod_net_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_net_module);
}
