# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The parts of staging that stage, devtree and refresh-patches share.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

patches=$top/qemu/patches
manifest=$top/qemu/overlay.manifest

# Debian's QEMU source, unpacked once into the cache. apt's signature says
# that it is Debian's, dpkg-source checks the sums.
qemu_fetch() {
    local dl=$cache/src dsc version
    mkdir -p "$dl"
    cd "$dl"
    dsc=$(qemu_dsc)
    if [[ -z $dsc ]]; then
        apt_private_update >&2
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

# The unpacked tree to start from: QEMU_SRC as it is, or Debian's.
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

# A word that changes when the source does. A cached tree is named after its
# version; a tree of the user's own is listed.
qemu_version() {
    local tree=$1
    if [[ -n ${QEMU_SRC:-} ]]; then
        find "$tree" -name .git -prune -o -type f -printf '%P %s %T@\n' | sort | hash_of
    else
        basename "$tree"
    fi
}

copy_pristine() {
    mkdir -p "$2"
    tar -C "$1" --exclude=./.git --exclude=./build --exclude=./.pc --exclude=./roms -cf - . |
        tar -C "$2" -xf -
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
    local tree=$1 p
    while read -r p; do
        echo "applying $p"
        patch -d "$tree" -p1 -F0 -N --no-backup-if-mismatch -E <"$patches/$p" || {
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
