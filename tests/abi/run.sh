#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh SOURCE-ROOT: compares the layout of the wire ABI and of the
# socket's frames, as each compiler sees it, with golden.txt. Prints TAP.
set -euo pipefail

root=$1
here=$root/tests/abi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
number=0
failed=0

# report STATUS NAME: one line of TAP, with the log of a failure before it.
report() {
    number=$((number + 1))
    if [[ $1 == 0 ]]; then
        echo "ok $number $2"
    else
        sed 's/^/# /' "$tmp/log"
        echo "not ok $number $2"
        failed=1
    fi
}

# layout NAME COMPILER...: the header is as golden.txt says, without padding.
layout() {
    local name=$1 status=0
    shift
    {
        "$@" -Wall -Wextra -Wpadded -Werror -I "$root/include" -o "$tmp/layout" &&
            "$tmp/layout" >"$tmp/out" &&
            diff -u "$here/golden.txt" "$tmp/out"
    } >"$tmp/log" 2>&1 || status=$?
    report "$status" "$name"
}

# Every constant of the headers is in golden.txt.
complete() {
    local status=0
    gcc -dM -E -I "$root/include" "$root/include/rvmrpc_socket.h" |
        sed -n 's/^#define \(RVMRPC_[A-Z0-9_]*\) ..*/\1/p' | sort >"$tmp/have"
    sed -n 's/^\(RVMRPC_[A-Z0-9_]*\) .*/\1/p' "$here/golden.txt" | sort >"$tmp/want"
    diff -u "$tmp/want" "$tmp/have" >"$tmp/log" || status=$?
    [[ -s $tmp/have ]] || status=1
    report "$status" complete
}

# A wrong size must not compile: the assertions of the header are alive.
assertions() {
    local status=0
    sed 's/^\tuint64_t reserved2;$/\tuint64_t reserved2[2];/' \
        "$root/include/rvmrpc_abi.h" >"$tmp/rvmrpc_abi.h"
    cp "$root/include/rvmrpc_socket.h" "$tmp"
    if gcc -fsyntax-only -I "$tmp" "$here/layout.c" >"$tmp/log" 2>&1 ||
        ! grep -q 'rvmrpc_hdr has the wrong size' "$tmp/log"; then
        status=1
    fi
    report "$status" assertions
}

echo 1..7
layout gcc gcc -std=c11 "$here/layout.c"
layout gcc-m32 gcc -m32 -std=c11 "$here/layout.c"
layout clang clang -std=c11 "$here/layout.c"
layout g++ g++ -std=c++11 -x c++ "$here/layout.c"
layout clang++ clang++ -std=c++11 -x c++ "$here/layout.c"
complete
assertions
exit "$failed"
