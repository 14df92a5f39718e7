# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Shared by the scripts of this folder: paths, progress, privileges, and an
# apt configuration of our own that never touches the machine's.

set -euo pipefail
# Messages that we parse, and the order of globs and sorts, must not vary.
export LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${RVMRPC_BUILD:-$top/build}
cache=${RVMRPC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rvmrpc}
apt_dir=$cache/apt
logs=$build/logs
# shellcheck disable=SC2034
series_list="6.12 6.1"
# Where the kernel of the tests' hosts and guests is from: debian, or debug, kcsan or kmsan, those of build-debug-kernel
# in the place of Debian's 6.12. Each has a build folder of its own.
kernel_kind=${RVMRPC_KERNEL:-debian}
debug_kernel=$cache/debug-kernel
debug_part=${kernel_kind/#debug/}
debug_part=${debug_part:+-$debug_part}
# shellcheck disable=SC2034
python=/usr/bin/python3
mkdir -p "$cache"

log() { printf '%s\n' "$*" >&2; }
die() { log "${0##*/}: $*"; exit 1; }

# step NAME TEXT COMMAND...: runs the command with its output in a log, and
# says on stderr what runs, for how long, and why it failed. Not for use as a
# condition: bash would then ignore errors inside the command.
step() {
    local name=$1 text=$2 start=$SECONDS pid rc=0 tick=0 logfile
    shift 2
    mkdir -p "$logs"
    logfile=$logs/$name.log
    log "==> $text"
    # A process group of its own, so that an interrupt ends all of it.
    set -m
    ( set -e; "$@" ) >"$logfile" 2>&1 </dev/null &
    set +m
    pid=$!
    trap 'kill -- '"-$pid"' 2>/dev/null || true; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        tick=$((tick + 1))
        if ((tick % 75 == 0)); then
            log "    $((SECONDS - start)) s: $(tail -c 2000 "$logfile" | tr '\r' '\n' |
                grep -a '[^[:space:]]' | tail -n 1 | cut -c 1-90 || true)"
        fi
    done
    wait "$pid" || rc=$?
    trap - INT TERM
    if ((rc)); then
        tail -n 40 "$logfile" | sed 's/^/    | /' >&2
        log "    FAILED with $rc after $((SECONDS - start)) s; all of it: $logfile"
        return "$rc"
    fi
    if ((SECONDS - start >= 2)); then
        log "    done in $((SECONDS - start)) s"
    fi
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "needs root or sudo for: $*"
    fi
}

# Asks for sudo's password now, not where no one can type it.
ask_root() {
    if ((EUID != 0)) && command -v sudo >/dev/null; then sudo -v; fi
}

# locked NAME COMMAND...: one at a time over all builds that share the cache.
locked() {
    local name=$1
    shift
    ( exec 9>"$cache/$name.lock"; flock 9; "$@" 9>&- )
}

# sync_files FROM TO: copies the files that standard input names (sorted,
# below FROM), where they differ, and removes what it copied before and is gone.
# Unlike cp -u this keeps make right when a file's time goes back.
sync_files() {
    local from=$1 to=$2 f
    mkdir -p "$to"
    cat >"$to/.sources.new"
    if [[ -f $to/.sources ]]; then
        comm -13 "$to/.sources.new" "$to/.sources" | (cd "$to" && xargs -r rm -f --)
    fi
    mv "$to/.sources.new" "$to/.sources"
    while read -r f; do
        if ! cmp -s "$from/$f" "$to/$f"; then
            mkdir -p "$to/$(dirname "$f")"
            cp "$from/$f" "$to/$f"
        fi
    done <"$to/.sources"
}

# What standard input hashes to, as one word.
hash_of() { sha256sum | cut -c 1-32; }

# The URI of the machine's own mirror that carries SUITE ($1): from one-line
# and deb822 files alike, disabled stanzas left out.
mirror_of() {
    local files=() f
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
             /etc/apt/sources.list.d/*.sources; do
        if [[ -f $f ]]; then files+=("$f"); fi
    done
    ((${#files[@]})) || return 0
    awk -v suite="$1" '
        function flush(  i, n, s) {
            if (uri != "" && on) {
                n = split(suites, s, " ")
                for (i = 1; i <= n; i++)
                    if (s[i] == suite && !found) { print uri; found = 1 }
            }
            uri = suites = ""; on = 1
        }
        FNR == 1 { flush() }
        FILENAME ~ /\.list$/ {
            sub(/\[[^]]*\]/, "")
            if ($1 == "deb") { uri = $2; suites = $3; flush() }
            next
        }
        /^[ \t]*$/ { flush() }
        tolower($1) == "uris:" { uri = $2 }
        tolower($1) == "suites:" { $1 = ""; suites = $0 }
        tolower($1) == "enabled:" && tolower($2) == "no" { on = 0 }
        END { flush() }' "${files[@]}"
}

# Where Debian is, by the machine's own configuration.
debian_mirror() {
    local archive=${RVMRPC_DEBIAN_MIRROR:-$(mirror_of bookworm)}
    if [[ -z $archive ]]; then archive=$(mirror_of trixie); fi
    [[ -n $archive ]] ||
        die "no mirror of Debian 12 or 13 in apt's sources; set RVMRPC_DEBIAN_MIRROR"
    printf '%s\n' "$archive"
}

# The suites that this project needs and the machine may not have: sources of
# Debian 13 (QEMU) and the backports of Debian 12 (meson).
apt_sources() {
    local archive security key=/usr/share/keyrings/debian-archive-keyring.gpg
    archive=$(debian_mirror)
    security=${RVMRPC_SECURITY_MIRROR:-$(mirror_of bookworm-security)}
    printf 'Types: deb-src\nURIs: %s\nSuites: trixie trixie-updates\n' "$archive"
    printf 'Components: main\nSigned-By: %s\n\n' "$key"
    if [[ -n $security ]]; then
        printf 'Types: deb-src\nURIs: %s\nSuites: trixie-security\n' "$security"
        printf 'Components: main\nSigned-By: %s\n\n' "$key"
    fi
    printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\n' "$archive"
    printf 'Components: main\nSigned-By: %s\n' "$key"
}

# apt_private TOOL ARGS...: an apt tool that sees the suites of $apt_dir only,
# with apt_options.
apt_options=()
apt_private() {
    local tool=$1
    shift
    "$tool" -o Dir::Etc::SourceList="$apt_dir/rvmrpc.sources" \
        -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$apt_dir/lists" \
        -o Dir::Cache="$apt_dir" -o Dir::Cache::archives="$apt_dir/archives" \
        -o Dir::Cache::pkgcache="" -o Dir::Cache::srcpkgcache="" \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 "${apt_options[@]}" "$@"
}

# apt_private_update PRINTER: of the suites that PRINTER prints.
apt_private_update() {
    mkdir -p "$apt_dir"/{lists/partial,archives/partial}
    "$1" >"$apt_dir/rvmrpc.sources.new"
    mv "$apt_dir/rvmrpc.sources.new" "$apt_dir/rvmrpc.sources"
    if [[ -z $(find "$apt_dir/updated" -mmin -720 2>/dev/null) ]]; then
        apt_private apt-get update
        touch "$apt_dir/updated"
    fi
}

installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# The kernel release (uname -r) that the headers of SERIES ($1) are for.
kver_of() {
    local meta=linux-headers-amd64
    if [[ $kernel_kind != debian && $1 == 6.12 ]]; then
        cat "$debug_kernel/kernel$debug_part/release"
        return
    fi
    if [[ $1 == 6.12 ]]; then meta=linux-headers-6.12-amd64; fi
    dpkg-query -W -f '${Depends}\n' "$meta" 2>/dev/null |
        grep -oE "linux-headers-${1//./\\.}\.[0-9][^ ,]*" | head -n 1 |
        sed 's/^linux-headers-//' || die "no linux-headers for $1: run scripts/setup"
}

# headers_of SERIES: the headers of a kernel of the machine's own Debian, or of another by the name of its suite, as
# fetch-headers has them.
headers_of() {
    if [[ $kernel_kind != debian && $1 == 6.12 ]]; then
        printf '%s\n' "$debug_kernel/obj$debug_part"
    elif [[ $1 == [0-9]* ]]; then
        printf '/usr/src/linux-headers-%s\n' "$(kver_of "$1")"
    else
        cat "$build/headers/$1/kdir"
    fi
}

# kbuild_args KDIR: what make needs for headers of another Debian, whose compiler and pahole are not here, and of
# another architecture.
kbuild_args() {
    local gcc=gcc
    if [[ $1 == *-arm64* ]]; then
        gcc=aarch64-linux-gnu-gcc
        printf '%s\n' ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
    fi
    # Only clang knows what memory was not written.
    if [[ $1 == "$debug_kernel"/*-kmsan ]]; then printf '%s\n' CC=clang; fi
    if [[ $1 != /usr/src/* && $1 != "$debug_kernel"/* ]]; then
        # Debug information would be stripped.
        printf '%s\n' "CC=$build/headers/$gcc" CONFIG_DEBUG_INFO_BTF_MODULES= CONFIG_DEBUG_INFO=
    fi
}

# warnings_in LOG: what kbuild warned of, but for compiler and pahole.
warnings_in() {
    grep -E 'warning:|WARNING:' "$1" | grep -v -e 'the compiler differs' -e vmlinux -e 'pahole version'
}

# Packages and meson's build folder, when they are not there yet.
prepare_build() {
    "$top/scripts/setup"
    if [[ ! -f $build/build.ninja ]]; then
        step meson-setup "meson setup $build" /usr/bin/meson setup "$build" "$top"
    fi
}
