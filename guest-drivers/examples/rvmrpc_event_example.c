// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module that tells its host something by itself: here, that one of its network interfaces goes up or down.
 *
 *	insmod rvmrpc_event_example.ko
 *	rvmrpc events VM			(on the host)
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/notifier.h>
#include "rvmrpc.h"

#define MOD_EXAMPLE	(RVMRPC_MOD_USER + 0x20)
#define EVENT_LINK	1

static int link_event(struct notifier_block *nb, unsigned long what, void *data)
{
	const struct net_device *dev = netdev_notifier_info_to_dev(data);
	char text[64];

	if (what != NETDEV_UP && what != NETDEV_DOWN)
		return NOTIFY_DONE;
	snprintf(text, sizeof(text), "%s is %s", dev->name, what == NETDEV_UP ? "up" : "down");
	/* Nobody listens: nothing to be done about it. */
	rvmrpc_event(MOD_EXAMPLE, EVENT_LINK, text, dev->dev_addr, dev->addr_len);
	return NOTIFY_DONE;
}

static struct notifier_block link_notifier = {
	.notifier_call = link_event,
};

static int __init event_init(void)
{
	return register_netdevice_notifier(&link_notifier);
}

static void __exit event_exit(void)
{
	unregister_netdevice_notifier(&link_notifier);
}

module_init(event_init);
module_exit(event_exit);

MODULE_DESCRIPTION("Reverse VMRPC example: events");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
