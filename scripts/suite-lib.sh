# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Kernels of other Debians than this machine's, for fetch-headers and
# fetch-kernels, by names: SUITE[-cloud|-rt|-arm64|-arm64-16k], such as sid or
# bullseye-rt. Nothing of them is installed.
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# use_series NAME: the kernel that the functions below are about. Its flavour is
# what Debian's packages end with.
use_series() {
    suite=$1 flavour=amd64
    case $1 in
    *-cloud | *-rt) suite=${1%-*} flavour=${1##*-}-amd64 ;;
    *-arm64*) suite=${1%%-arm64*} flavour=arm64${1#*-arm64} ;;
    esac
    arch=amd64 apt_dir=$cache/apt-headers-$suite apt_options=(-o Dir::State::status=/dev/null)
    apt_options+=(-o Dir::Cache::pkgcache="$apt_dir/packages.bin" -o APT::Default-Release="$suite")
    if [[ $flavour == arm64* ]]; then
        # Its kernels, and what runs here.
        arch=arm64 apt_dir=$apt_dir-arm64
        apt_options+=(-o APT::Architectures::=amd64 -o APT::Architectures::=arm64)
    fi
}

suite_sources() {
    local archive architectures=amd64 base=
    # A suite of backports has no libraries.
    if [[ $suite == *-backports ]]; then base=${suite%-backports}; fi
    archive=$(debian_mirror)
    if [[ $arch != amd64 ]]; then architectures+=" $arch"; fi
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$archive" \
        "$suite${base:+ $base}"
    printf 'Architectures: %s\n' "$architectures"
    printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n'
}

# depends_of PACKAGE PATTERN: names of its dependencies, without architectures.
depends_of() {
    apt_private apt-cache depends "$1" |
        awk '$1 == "Depends:" { gsub(/[<>]|:.*/, "", $2); print $2 }' | grep -E "$2" || true
}

# download PACKAGE...: into the archives of $apt_dir, with nothing else there.
download() {
    rm -f "$apt_dir"/archives/*.deb
    (cd "$apt_dir/archives" && apt_private apt-get download "$@")
}
