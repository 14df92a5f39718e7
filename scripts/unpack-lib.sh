# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Programs of Debian 13 with libraries of their own, beside the system: nothing
# of them is installed. For fetch-bochs and fetch-qemu; build-nested packs the
# machine's own QEMU in the same way.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lib=usr/lib/x86_64-linux-gnu
loader=ld-linux-x86-64.so.2

trixie_sources() {
    local archive
    archive=$(debian_mirror)
    printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\n' "$archive"
    printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n'
}

# libraries_of ROOT FILE...: those that these programs need, as the dynamic
# linker of the system in ROOT finds them.
libraries_of() {
    local root=$1 file
    shift
    for file in "$@"; do
        "$root/$lib/$loader" --library-path "$root/$lib" --list "$file"
    done | grep -o "=> $root/[^ ]*" | cut -c 4- | sort -u
}

# add_libraries_of ROOT TO FILE...: copies them, and the linker, into TO/lib.
add_libraries_of() {
    local root=$1 to=$2
    shift 2
    mkdir -p "$to/lib"
    libraries_of "$root" "$@" | xargs cp -L -t "$to/lib"
    cp -L "$root/$lib/$loader" "$to/lib/"
}

# fetch_apart DEST PACK PACKAGE...: unpacks packages of Debian 13 and calls
# PACK ROOT NEW, which takes from ROOT what will be DEST. Of the closure that
# apt finds for an empty system only the libraries count. Needs apt_dir.
fetch_apart() {
    local dest=$1 pack=$2 root=$1.root new=$1.new names deb
    shift 2
    names=" $* "
    apt_private_update trixie_sources
    rm -rf "$root" "$new" "$apt_dir"/archives/*.deb
    apt_private apt-get install -y --download-only --no-install-recommends \
        -o Dir::State::status=/dev/null "$@"
    mkdir -p "$root" "$new"
    for deb in "$apt_dir"/archives/*.deb; do
        deb=${deb##*/}
        if [[ $deb == lib* || $deb == zlib1g_* || $names == *" ${deb%%_*} "* ]]; then
            dpkg-deb --fsys-tarfile "$apt_dir/archives/$deb" |
                tar -C "$root" --keep-directory-symlink -xf -
        fi
    done
    "$pack" "$root" "$new"
    rm -rf "$dest" "$root" "$apt_dir"/archives/*.deb
    mv "$new" "$dest"
}

# What starts QEMU with these libraries; it is a process of its own, no child.
qemu_starter() {
    cat <<'END'
#!/bin/sh
# Debian's QEMU with the libraries and the firmware that belong to it.
here=$(dirname "$(realpath "$0")")
export QEMU_MODULE_DIR="$here/modules"
exec "$here/lib/ld-linux-x86-64.so.2" --argv0 "$0" --library-path "$here/lib" \
    "$here/qemu-system-x86_64.bin" -L "$here/data" "$@"
END
}

# pack_qemu ROOT NEW: the QEMU of the Debian in ROOT, as NEW/qemu-system-x86_64.
pack_qemu() {
    local root=$1 new=$2
    mkdir -p "$new"/{modules,data}
    cp "$root/usr/bin/qemu-system-x86_64" "$new/qemu-system-x86_64.bin"
    # TCG is a module in 7.2; the network cards' ROMs have moved since.
    find "$root/$lib" -name accel-tcg-x86_64.so -exec cp -t "$new/modules" {} +
    find "$root"/usr/{lib,share} \( -path '*/qemu/*.rom' -o -path '*/seabios/*.bin' -o \
        -regex '.*/share/qemu/\(kvmvapic\|linuxboot_dma\|pvh\)\.bin' \) \
        -exec cp -L -t "$new/data" {} +
    add_libraries_of "$root" "$new" "$new/qemu-system-x86_64.bin"
    qemu_starter >"$new/qemu-system-x86_64"
    chmod 755 "$new/qemu-system-x86_64"
}
