// SPDX-License-Identifier: GPL-2.0-only
/*
 * Puts pages of the guest's choice into the balloon, as no proper driver does: insmod rvmrpc_balloon.ko first=PFN count=N,
 * while no other driver has the virtio-balloon device.  Its host then discards them.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>

#define BATCH		256
#define WAIT_MS		10000

static unsigned int first;
module_param(first, uint, 0);
MODULE_PARM_DESC(first, "number of the first page");

static unsigned int count;
module_param(count, uint, 0);
MODULE_PARM_DESC(count, "how many pages");

static int result = -ENODEV;

/* One batch, until its host has taken it. */
static int inflate(struct virtqueue *vq, __le32 *pfns, unsigned int from, unsigned int n)
{
	struct scatterlist sg;
	unsigned int len, i;
	int ret;

	for (i = 0; i < n; i++)
		pfns[i] = cpu_to_le32(from + i);
	sg_init_one(&sg, pfns, n * sizeof(*pfns));
	ret = virtqueue_add_outbuf(vq, &sg, 1, pfns, GFP_KERNEL);
	if (ret)
		return ret;
	virtqueue_kick(vq);
	for (i = 0; i < WAIT_MS; i++) {
		if (virtqueue_get_buf(vq, &len))
			return 0;
		usleep_range(1000, 1100);
	}
	return -ETIMEDOUT;
}

static int inflate_all(struct virtio_device *vdev)
{
	struct virtqueue *vq = virtio_find_single_vq(vdev, NULL, "inflate");
	unsigned int done, n;
	__le32 *pfns;
	int ret = 0;

	if (IS_ERR(vq))
		return PTR_ERR(vq);
	virtio_device_ready(vdev);
	pfns = kmalloc_array(BATCH, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		ret = -ENOMEM;
	for (done = 0; done < count && !ret; done += n) {
		n = min_t(unsigned int, count - done, BATCH);
		ret = inflate(vq, pfns, first + done, n);
	}
	vdev->config->reset(vdev);
	vdev->config->del_vqs(vdev);
	kfree(pfns);
	return ret;
}

static int balloon_probe(struct virtio_device *vdev)
{
	result = inflate_all(vdev);
	/* It is nobody's again. */
	return -ENODEV;
}

static const struct virtio_device_id balloon_ids[] = {
	{ VIRTIO_ID_BALLOON, VIRTIO_DEV_ANY_ID },
	{ },
};

static struct virtio_driver balloon_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.id_table = balloon_ids,
	.probe = balloon_probe,
};

static int __init balloon_init(void)
{
	int ret = register_virtio_driver(&balloon_driver);

	if (ret)
		return ret;
	unregister_virtio_driver(&balloon_driver);
	return result ?: -ECANCELED;	/* Done; there is nothing to unload. */
}
module_init(balloon_init);

MODULE_DESCRIPTION("Reverse VMRPC test: a balloon of pages of one's choice");
MODULE_AUTHOR("The Reverse VMRPC project");
MODULE_LICENSE("GPL");
