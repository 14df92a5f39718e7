#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds the core's harnesses as OSS-Fuzz wants them: CC, CFLAGS,
# LIB_FUZZING_ENGINE and OUT are its own. librvmrpc's (reply) needs glib as a
# static library, which its image has not.
set -euo pipefail
root=${SRC:+$SRC/reverse-vmrpc}
root=${root:-$(cd "$(dirname "$0")/../.." && pwd)}
read -ra flags <<<"${CFLAGS:-}"

for harness in owner guest allow server records; do
    "${CC:-clang}" "${flags[@]}" -std=gnu11 -pthread \
        -I "$root/include" -I "$root/core" -I "$root/channel" \
        "$root/tests/fuzz/$harness.c" "$root"/core/rvmrpc_{proxy,server,owner,guest,records,reader,ring,tell}.c \
        "${LIB_FUZZING_ENGINE:--fsanitize=fuzzer}" -o "${OUT:-.}/$harness"
done
