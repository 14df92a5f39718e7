#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh SOURCE-ROOT WORK-FOLDER HARNESS SECONDS: builds one harness with
# libFuzzer, ASan and UBSan and runs it for so long, or FUZZ_SECONDS. Prints TAP;
# an input that fails is kept in the work folder, and those that reached
# something new in the cache, for the next run: at its end without the others.
set -euo pipefail

root=$1
work=$2/$3
harness=$3
seconds=${FUZZ_SECONDS:-$4}
corpus=${RVMRPC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rvmrpc}/fuzz/$harness

sources=("$root"/core/rvmrpc_{proxy,server,owner,guest,records,reader,ring,tell}.c)
flags=()
if [[ $harness == files ]]; then
    sources+=("$root"/core/rvmrpc_{files,files_change}.c)
fi
if [[ $harness == reply || $harness == conn ]]; then
    sources=("$root"/host-tools/librvmrpc/*.c "$root/core/rvmrpc_reader.c" "$root/channel/rvmrpc_fdsource.c"
        "$root/host-tools/common/crowd.c" "$root/host-tools/common/json.c")
    read -ra flags < <(pkg-config --cflags --libs gio-unix-2.0 json-glib-1.0)
    flags+=(-D_GNU_SOURCE -I "$root/host-tools/librvmrpc"
        -I "$root/linux-kvm/host/include/uapi")
fi
if [[ $harness == conn ]]; then flags+=("-Wl,--wrap=unix_connect"); fi

if [[ $harness == daemon ]]; then
    sources+=("$root"/channel/*.c "$root"/host-tools/rvmrpcd/{config,info,ivshmem,vm}.c
        "$root/host-tools/common/size.c")
    read -ra flags < <(pkg-config --cflags --libs gio-unix-2.0 json-glib-1.0)
    # Not -I: it has an stdio.h.
    flags+=(-D_GNU_SOURCE -iquote "$root/host-tools/common" -I "$root/host-tools/rvmrpcd"
        -I "$root/linux-kvm/host/include/uapi")
fi

if [[ $harness == connect ]]; then sources=("$root/core/rvmrpc_connect.c"); fi

mkdir -p "$work" "$corpus"
echo 1..2
if ! clang -std=gnu11 -g -O1 -Wall -Wextra -Werror \
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -pthread \
    -I "$root/include" -I "$root/core" -I "$root/channel" \
    "$root/tests/fuzz/$harness.c" "${sources[@]}" "${flags[@]}" \
    -o "$work/fuzz" >"$work/log" 2>&1; then
    sed 's/^/# /' "$work/log"
    echo "not ok 1 $harness builds"
    exit 1
fi
echo "ok 1 $harness builds"

status=0
"$work/fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
    -print_final_stats=1 -artifact_prefix="$work/" "$corpus" >"$work/log" 2>&1 || status=$?
# No input run at all would be no success.
if [[ $status == 0 ]] && grep -Eq '^Done [1-9][0-9]* runs' "$work/log"; then
    # A folder beside it, so that an interrupt loses nothing.
    mkdir -p "$corpus.new"
    if "$work/fuzz" -merge=1 "$corpus.new" "$corpus" >"$work/merge.log" 2>&1; then
        rm -rf "$corpus"
        mv "$corpus.new" "$corpus"
    fi
    rm -rf "$corpus.new"
    grep -E '^(INFO: Seed|Done|stat::)' "$work/log" | sed 's/^/# /'
    echo "ok 2 $harness survives $seconds s"
else
    tail -n 60 "$work/log" | sed 's/^/# /'
    echo "not ok 2 $harness survives $seconds s"
    exit 1
fi
