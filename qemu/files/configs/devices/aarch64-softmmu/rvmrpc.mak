# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests on arm64 need, and no board beside.
CONFIG_ARM_VIRT=y
CONFIG_RVMRPC=y
CONFIG_SERIAL_PCI=y
CONFIG_VIRTIO_PCI=y
