#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# harnesses.sh: the names of all fuzz targets, and sourced also what each is
# made of. Whoever builds them (run.sh, scripts/coverage, packaging/oss-fuzz)
# takes both from here.

harness_names=(owner guest allow server reply records connect files conn client daemon)

# shellcheck disable=SC2034  # who sources this uses them
# harness_of ROOT NAME FOLDER: sets sources, flags (the compiler's and the linker's)
# and packages (pkg-config's, whose flags are among these) of the harness NAME, its
# own source first. What must be made for it is made in FOLDER.
harness_of() {
    local root=$1 name=$2 folder=$3 more
    local tools=$root/host-tools core=$root/core
    sources=("$root/tests/fuzz/$name.c")
    flags=(-std=gnu11 -pthread -I "$root/include" -I "$core" -I "$root/channel")
    packages=()
    case $name in
    owner | guest | allow | server | records | files | daemon)
        sources+=("$core"/rvmrpc_{proxy,server,owner,guest,records,reader,ring,tell}.c)
        ;;&
    files)
        sources+=("$core"/rvmrpc_{files,files_change}.c)
        ;;
    connect)
        sources+=("$core/rvmrpc_connect.c")
        ;;
    reply | conn | client)
        sources+=("$tools"/librvmrpc/*.c "$core/rvmrpc_reader.c" "$root/channel/rvmrpc_fdsource.c")
        sources+=("$tools"/common/{crowd,json}.c)
        flags+=(-I "$tools/librvmrpc")
        ;;&
    conn | client)
        flags+=("-Wl,--wrap=unix_connect")
        ;;&
    client)
        sources+=("$core/rvmrpc_records.c")
        flags+=("-Wl,--wrap=rvmrpc_find_vm" "-Wl,--wrap=g_timeout_source_new")
        ;;&
    daemon)
        sources+=("$root"/channel/*.c "$tools"/rvmrpcd/{config,info,ivshmem,vm}.c "$tools/common/size.c")
        # Not -I: it has an stdio.h.
        flags+=(-iquote "$tools/common" -I "$tools/rvmrpcd")
        ;;&
    reply | conn | client | daemon)
        flags+=(-D_GNU_SOURCE -I "$root/linux-kvm/host/include/uapi")
        packages=(gio-unix-2.0 json-glib-1.0)
        ;;
    kernel)
        mkdir -p "$folder"
        bash "$root/tests/unit/host-channel.sh" "$root" rvmrpc_channel.c rvmrpc_events.c >"$folder/host-channel.h"
        sources+=("$core"/rvmrpc_{guest,tell,records}.c)
        flags+=(-I "$root/linux-kvm/host/include" -I "$folder")
        flags+=(-Wno-missing-field-initializers -Wno-unused-function -Wno-unused-parameter)
        packages=(glib-2.0)
        ;;
    owner | guest | allow | server | records) ;;
    *)
        echo "no harness '$name'; there are ${harness_names[*]}" >&2
        return 1
        ;;
    esac
    if ((${#packages[@]})); then
        read -ra more < <(pkg-config --cflags --libs "${packages[@]}")
        flags+=("${more[@]}")
    fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then printf '%s\n' "${harness_names[@]}"; fi
