#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# host-channel.sh ROOT SOURCE...: sources of the host's kernel module and their
# headers as one text, without the headers of Linux: for who has what they need
# of it (host-kernel.h).
set -euo pipefail
root=$1
shift
cd "$root/linux-kvm/host"
sed -E '/^#include (<linux|"rvmrpc_(host|host_trace|compat)[.]h)/d; s:"[.]+/[.]+/core/:":' \
    include/linux/rvmrpc.h include/linux/rvmrpc_glue.h rvmrpc_host.h "$@"
