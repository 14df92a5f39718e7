/*
 * VMRPC: where accelerators find the hypercall gate
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "hw/rvmrpc/vmrpc.h"

/* Apart from vmrpc.c, so that a build without the device links. */
const VmrpcGateOps *vmrpc_gate_ops;
const VmrpcGateOps *vmrpc_wait_gate_ops;
