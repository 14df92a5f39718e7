# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# How QEMU is configured: with as few features as the tests allow.
# shellcheck source=scripts/stage-lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/stage-lib.sh"

qemu_args=(
    --python="$python" --target-list=x86_64-softmmu
    --without-default-features --enable-system --enable-tools
    --enable-tcg --enable-kvm --enable-fdt=system --enable-pixman
    --enable-slirp --enable-virtfs --enable-attr --enable-cap-ng
    --enable-vhost-kernel --enable-vhost-net
    --enable-trace-backends=log --enable-coroutine-pool --enable-werror
    --disable-debug-info --disable-docs --disable-download
    # The ds tarball has no firmware: Debian's packages do.
    --disable-install-blobs --firmwarepath=/usr/share/seabios:/usr/lib/ipxe/qemu
)

if command -v ccache >/dev/null; then
    # Paths below the build folder are hashed relative to it, so that every
    # clone hits the same entries.
    export CCACHE_DIR=$cache/ccache CCACHE_BASEDIR=$build CCACHE_NOHASHDIR=1
    export CCACHE_MAXSIZE=2G
    qemu_args+=(--cc="ccache gcc" --host-cc="ccache gcc")
fi

run_configure() {
    local src=$1 dir=$2
    mkdir -p "$dir"
    cd "$dir"
    rm -f .rvmrpc-args
    "$src/configure" "${qemu_args[@]}"
    printf '%s\n' "${qemu_args[@]}" >.rvmrpc-args
}

# configure_qemu SRC DIR: unless DIR is configured so.
configure_qemu() {
    if ! cmp -s <(printf '%s\n' "${qemu_args[@]}") "$2/.rvmrpc-args"; then
        step configure-qemu "configuring QEMU" run_configure "$1" "$2"
    fi
}

# A QEMU that is not installed looks for its data in qemu-bundle only. Its
# option ROMs, without which -kernel does not boot, come from a Makefile and
# not from ninja.
make_data() {
    local data=$1/qemu-bundle/usr/local/share/qemu
    make -C "$1/pc-bios/optionrom" all
    mkdir -p "$data"
    ln -sf -t "$data" /usr/share/seabios/*.bin /usr/lib/ipxe/qemu/*.rom \
        "$1"/pc-bios/optionrom/*.bin
}

# qemu_data DIR: what the QEMU that was built there loads into its guests.
qemu_data() {
    if [[ ! -e $1/qemu-bundle/usr/local/share/qemu/bios-256k.bin ]]; then
        step build-roms "building QEMU's option ROMs" make_data "$1"
    fi
}
