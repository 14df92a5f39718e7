# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The parts of staging that stage, devtree and refresh-patches share, for both
# of upstream's trees: qemu, and kvm (the part of Linux that has KVM).
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# What kvm is made of; the headers that it needs come with Debian's kernels.
kvm_parts=(arch/x86/kvm virt/kvm)

# use_tree NAME: the tree that the functions below are about.
# shellcheck disable=SC2034
use_tree() {
    tree=$1
    case $tree in
    qemu) ours=$top/qemu title="QEMU's source" ;;
    kvm) ours=$top/linux-kvm title="KVM's source" ;;
    *) die "no tree \"$tree\"; there are qemu and kvm" ;;
    esac
    patches=$ours/patches
    manifest=$ours/overlay.manifest
}

# The unpacked source to start from: the user's own as it is, or Debian's.
pristine_tree() { "${tree}_pristine"; }

# Whether pristine_tree has to unpack first, which takes its time.
pristine_missing() { "${tree}_missing"; }

# A word that changes when the source at $1 does. A cached tree is named after
# its version; a tree of the user's own is listed.
pristine_version() {
    if [[ $1 == "$cache"/* ]]; then
        basename "$1"
    else
        list_pristine "$1" | hash_of
    fi
}

list_pristine() {
    local parts=(.)
    if [[ $tree == kvm ]]; then parts=("${kvm_parts[@]}"); fi
    list_parts "$1" "${parts[@]}"
}

# list_parts TREE PART...: its files, with their sizes and times.
list_parts() {
    (
        cd "$1"
        shift
        find "$@" -name .git -prune -o -type f -printf '%p %s %T@\n' | sort
    )
}

# Debian's QEMU source, unpacked once into the cache. apt's signature says
# that it is Debian's, dpkg-source checks the sums.
qemu_fetch() {
    local dl=$cache/src dsc version
    mkdir -p "$dl"
    cd "$dl"
    dsc=$(qemu_dsc)
    if [[ -z $dsc ]]; then
        apt_private_update apt_sources >&2
        apt_private apt-get source --download-only --only-source qemu >&2
        dsc=$(qemu_dsc)
        [[ -n $dsc ]] || die "apt gave no QEMU 10.0 source"
    fi
    version=${dsc#qemu_}
    version=${version%.dsc}
    if [[ ! -d $dl/qemu-$version ]]; then
        rm -rf "$dl/unpack"
        dpkg-source --no-copy -x "$dsc" unpack >&2
        # Firmware's sources: most of the tree, and not built.
        rm -rf unpack/roms
        mv unpack "qemu-$version"
    fi
    printf '%s\n' "$dl/qemu-$version"
}

qemu_dsc() {
    find "$cache/src" -maxdepth 1 -name 'qemu_10.0.*.dsc' -printf '%f\n' | sort -V | tail -n 1
}

qemu_missing() { [[ -z ${QEMU_SRC:-} && -z $(qemu_dsc 2>/dev/null) ]]; }

qemu_pristine() {
    if [[ -n ${QEMU_SRC:-} ]]; then
        [[ -f $QEMU_SRC/VERSION ]] || die "QEMU_SRC=$QEMU_SRC is no QEMU tree"
        [[ $(<"$QEMU_SRC/VERSION") == 10.0.* ]] ||
            die "the patches are for QEMU 10.0, not $(<"$QEMU_SRC/VERSION")"
        realpath "$QEMU_SRC"
    else
        locked src qemu_fetch
    fi
}

# The version of Debian's package PACKAGE ($1), "" when it is not installed.
deb_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

kvm_missing() {
    [[ -z ${LINUX_SRC:-} && ! -d $cache/src/linux-$(deb_version linux-source-6.12) ]]
}

# unpack_linux TO PART...: parts of Debian's Linux source.
unpack_linux() {
    local to=$1 tarball=/usr/src/linux-source-6.12.tar.xz
    shift
    [[ -f $tarball ]] || die "no linux-source-6.12: run scripts/setup"
    tar -C "$to" --strip-components=1 -xf "$tarball" "${@/#/linux-source-6.12/}" >&2
}

# KVM's part of Debian's Linux source, unpacked once into the cache.
kvm_fetch() {
    local version dest
    version=$(deb_version linux-source-6.12)
    [[ -n $version ]] || die "no linux-source-6.12: run scripts/setup"
    dest=$cache/src/linux-$version
    if [[ ! -d $dest ]]; then
        rm -rf "$dest.new"
        mkdir -p "$dest.new"
        unpack_linux "$dest.new" "${kvm_parts[@]}" Makefile
        mv "$dest.new" "$dest"
    fi
    printf '%s\n' "$dest"
}

# linux_version TREE: such as 6.12.117.
linux_version() {
    sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = //p' "$1/Makefile" | paste -sd .
}

kvm_pristine() {
    if [[ -n ${LINUX_SRC:-} ]]; then
        [[ -d $LINUX_SRC/virt/kvm ]] || die "LINUX_SRC=$LINUX_SRC is no Linux tree"
        [[ $(linux_version "$LINUX_SRC") == 6.12.* ]] ||
            die "the patches are for Linux 6.12, not $(linux_version "$LINUX_SRC")"
        realpath "$LINUX_SRC"
    else
        locked src kvm_fetch
    fi
}

copy_pristine() {
    local parts=(.)
    if [[ $tree == kvm ]]; then parts=("${kvm_parts[@]}"); fi
    mkdir -p "$2"
    tar -C "$1" --exclude=./.git --exclude=./build --exclude=./.pc --exclude=./roms \
        -cf - "${parts[@]}" | tar -C "$2" -xf -
}

series() {
    if [[ -f $patches/series ]]; then
        sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$patches/series"
    fi
}

# Lines "source<TAB>destination" for every file of the overlay.
overlay() {
    local src dst f
    while read -r src dst; do
        case $src in '' | '#'*) continue ;; esac
        if [[ $src == */ ]]; then
            if [[ -d $top/$src ]]; then
                find "$top/$src" -type f ! -name '*~' ! -name '.*.sw?' \
                    -printf "%p\t${dst#./}%P\n"
            fi
            continue
        fi
        # The globs of the manifest are meant to expand.
        for f in "$top"/$src; do
            [[ -f $f ]] || continue
            if [[ $dst == */ ]]; then
                printf '%s\t%s\n' "$f" "$dst${f##*/}"
            else
                printf '%s\t%s\n' "$f" "$dst"
            fi
        done
    done <"$manifest" | sort
}

apply_patches() {
    local in=$1 p
    while read -r p; do
        echo "applying $p"
        patch -d "$in" -p1 -F0 -N --no-backup-if-mismatch -E <"$patches/$p" || {
            echo "$p does not apply"
            return 1
        }
    done < <(series)
}

# Files of upstream that the series changes.
patched_files() {
    local p
    while read -r p; do
        sed -n 's#^+++ b/\([^[:space:]]*\).*#\1#p' "$patches/$p"
    done < <(series) | sort -u
}

git_quiet() {
    git -c user.name=rvmrpc -c user.email=rvmrpc@localhost -c core.autocrlf=false \
        -c commit.gpgSign=false -c gc.auto=0 "$@"
}

# import_series DIR PATH...: makes DIR a git tree, with PATH... as tag "base"
# and one commit per patch.
import_series() {
    local dir=$1 p
    shift
    git_quiet -C "$dir" init -q -b main
    printf '%s\n' "$@" | git_quiet -C "$dir" add -f --pathspec-from-file=-
    git_quiet -C "$dir" commit -q --allow-empty -m base
    git_quiet -C "$dir" tag base
    while read -r p; do
        git_quiet -C "$dir" am -q --keep-cr --whitespace=nowarn <"$patches/$p"
    done < <(series)
}
