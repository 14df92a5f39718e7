#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds all harnesses as OSS-Fuzz wants them: CC, CFLAGS, LIB_FUZZING_ENGINE
# and OUT are its own. What runs them has no glib, so the libraries that they
# are linked with go along, in OUT/lib.
set -euo pipefail
root=${SRC:+$SRC/reverse-vmrpc}
root=${root:-$(cd "$(dirname "$0")/../.." && pwd)}
out=$(realpath -- "${OUT:-.}")
read -ra cflags <<<"${CFLAGS:-}"
# shellcheck source=tests/fuzz/harnesses.sh
. "$root/tests/fuzz/harnesses.sh"

# ship BINARY: its libraries that are not there yet, but libc's own, which every machine has.
ship() {
    mkdir -p "$out/lib"
    ldd "$1" | awk -v there="$out/lib/" '$3 ~ /^\// && index($3, there) != 1 { print $3 }' |
        { grep -Ev '/(libc|libm|libdl|librt|libpthread|libresolv)\.so' || true; } | xargs -r cp -t "$out/lib"
}

if ! pkg-config --exists 'glib-2.0 >= 2.68'; then
    echo "build.sh: needs glib 2.68 or newer, and its pkg-config file" >&2
    exit 1
fi
for harness in "${harness_names[@]}"; do
    harness_of "$root" "$harness" "${WORK:-$out}"
    # shellcheck disable=SC2016
    if ((${#packages[@]})); then flags+=('-Wl,-rpath,$ORIGIN/lib'); fi
    "${CC:-clang}" "${cflags[@]}" "${sources[@]}" "${flags[@]}" \
        "${LIB_FUZZING_ENGINE:--fsanitize=fuzzer}" -o "$out/$harness"
    if ((${#packages[@]})); then ship "$out/$harness"; fi
done
