// SPDX-License-Identifier: GPL-2.0-only
/*
 * State and counters: files of the PCI device, one value each.
 */
#include <linux/device.h>
#include <linux/sysfs.h>
#include "rvmrpc_drv.h"

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	static const char * const names[] = {
		[RVMRPC_STATE_STOPPED] = "stopped",
		[RVMRPC_STATE_DISCONNECTED] = "disconnected",
		[RVMRPC_STATE_CONNECTED] = "connected",
		[RVMRPC_STATE_LEFT] = "left",
	};
	const struct rvmrpc_dev *rdev = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", names[READ_ONCE(rdev->state)]);
}
static DEVICE_ATTR_RO(state);

static ssize_t epoch_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct rvmrpc_dev *rdev = dev_get_drvdata(dev);

	return sysfs_emit(buf, "0x%016llx\n", READ_ONCE(rdev->epoch));
}
static DEVICE_ATTR_ADMIN_RO(epoch);

static ssize_t gate_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	static const char * const names[] = {
		[RVMRPC_GATE_KIND_NONE] = "none",
		[RVMRPC_GATE_KIND_HYPERCALL] = "hypercall",
		[RVMRPC_GATE_KIND_DOORBELL] = "doorbell",
	};
	const struct rvmrpc_dev *rdev = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", names[READ_ONCE(rdev->gate.kind)]);
}
static DEVICE_ATTR_RO(gate);

static ssize_t wait_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct rvmrpc_dev *rdev = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", rvmrpc_wait_mode(rdev));
}
static DEVICE_ATTR_RO(wait);

/* How the window is mapped. */
static ssize_t window_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct rvmrpc_dev *rdev = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", rdev->w.write_back ? "write-back" : "uncached");
}
static DEVICE_ATTR_RO(window);

static ssize_t slots_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct rvmrpc_dev *rdev = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(rdev->nslots));
}
static DEVICE_ATTR_RO(slots);

static ssize_t abandoned_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&rvmrpc_abandoned));
}
static DEVICE_ATTR_RO(abandoned);

static struct attribute *rvmrpc_attrs[] = {
	&dev_attr_state.attr,
	&dev_attr_epoch.attr,
	&dev_attr_gate.attr,
	&dev_attr_wait.attr,
	&dev_attr_window.attr,
	&dev_attr_slots.attr,
	&dev_attr_abandoned.attr,
	NULL
};

static const struct attribute_group rvmrpc_group = {
	.attrs = rvmrpc_attrs,
};

/* ---- counters/ ---- */

struct rvmrpc_counter_attribute {
	struct device_attribute attr;
	enum rvmrpc_counter counter;
};

static ssize_t rvmrpc_counter_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct rvmrpc_counter_attribute *counter =
		container_of(attr, struct rvmrpc_counter_attribute, attr);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&rvmrpc_counters[counter->counter]));
}

#define RVMRPC_COUNTER(_name, _counter)							\
	static struct rvmrpc_counter_attribute rvmrpc_counter_##_name = {		\
		.attr = __ATTR(_name, 0444, rvmrpc_counter_show, NULL),			\
		.counter = _counter,							\
	}

RVMRPC_COUNTER(calls, RVMRPC_CNT_CALLS);
RVMRPC_COUNTER(refused, RVMRPC_CNT_REFUSED);
RVMRPC_COUNTER(workers, RVMRPC_CNT_WORKERS);
RVMRPC_COUNTER(polls, RVMRPC_CNT_POLLS);
RVMRPC_COUNTER(waits, RVMRPC_CNT_WAITS);
RVMRPC_COUNTER(sleeps, RVMRPC_CNT_SLEEPS);
RVMRPC_COUNTER(interrupts, RVMRPC_CNT_INTERRUPTS);
RVMRPC_COUNTER(connects, RVMRPC_CNT_CONNECTS);
RVMRPC_COUNTER(resets, RVMRPC_CNT_RESETS);
RVMRPC_COUNTER(late, RVMRPC_CNT_LATE);
RVMRPC_COUNTER(malformed, RVMRPC_CNT_MALFORMED);
RVMRPC_COUNTER(rings, RVMRPC_CNT_RINGS);
RVMRPC_COUNTER(spins, RVMRPC_CNT_SPINS);
RVMRPC_COUNTER(watchdog, RVMRPC_CNT_WATCHDOG);
RVMRPC_COUNTER(events, RVMRPC_CNT_EVENTS);
RVMRPC_COUNTER(errors, RVMRPC_CNT_ERRORS);

static struct attribute *rvmrpc_counter_attrs[] = {
	&rvmrpc_counter_calls.attr.attr,
	&rvmrpc_counter_refused.attr.attr,
	&rvmrpc_counter_workers.attr.attr,
	&rvmrpc_counter_polls.attr.attr,
	&rvmrpc_counter_waits.attr.attr,
	&rvmrpc_counter_sleeps.attr.attr,
	&rvmrpc_counter_interrupts.attr.attr,
	&rvmrpc_counter_connects.attr.attr,
	&rvmrpc_counter_resets.attr.attr,
	&rvmrpc_counter_late.attr.attr,
	&rvmrpc_counter_malformed.attr.attr,
	&rvmrpc_counter_rings.attr.attr,
	&rvmrpc_counter_spins.attr.attr,
	&rvmrpc_counter_watchdog.attr.attr,
	&rvmrpc_counter_events.attr.attr,
	&rvmrpc_counter_errors.attr.attr,
	NULL
};

static const struct attribute_group rvmrpc_counter_group = {
	.name = "counters",
	.attrs = rvmrpc_counter_attrs,
};

const struct attribute_group *rvmrpc_dev_groups[] = {
	&rvmrpc_group,
	&rvmrpc_counter_group,
	NULL
};
