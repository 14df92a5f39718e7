#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# run.sh SOURCE-ROOT WORK-FOLDER HARNESS SECONDS: builds one harness with
# libFuzzer, ASan and UBSan and runs it for so long, or RVMRPC_FUZZ_S. Prints TAP;
# an input that fails is kept in the work folder, and those that reached
# something new in the cache, for the next run: at its end without the others.
set -euo pipefail

root=$1
work=$2/$3
harness=$3
seconds=${RVMRPC_FUZZ_S:-$4}
corpus=${RVMRPC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rvmrpc}/fuzz/$harness

# shellcheck source=tests/fuzz/harnesses.sh
. "$root/tests/fuzz/harnesses.sh"
mkdir -p "$work" "$corpus"
harness_of "$root" "$harness" "$work"

echo 1..2
if ! clang -g -O1 -Wall -Wextra -Werror \
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    "${sources[@]}" "${flags[@]}" -o "$work/fuzz" >"$work/log" 2>&1; then
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
