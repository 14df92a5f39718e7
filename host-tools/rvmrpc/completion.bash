# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Completion of rvmrpc's arguments for bash.

_rvmrpc()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' vm='' word words
    local commands='list info meminfo loadavg cpuinfo cpustat osinfo drop-caches df ip ps psi dmesg events vmcoreinfo
        ls cat cp mkdir mv rm mount forward nc doctor clock reclaim balance freeze thaw sysrq poweroff reboot call top watch
        attach detach ping'

    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        -* | = | [0-9]*) ;;
        *)
            if [ -z "$command" ]; then
                command=$word
            elif [ -z "$vm" ]; then
                vm=$word
            fi
            ;;
        esac
    done
    case $previous in
    --by) words='pid memory cpu blocked' ;;
    --device) words='ivshmem rvmrpc' ;;
    -t | --timeout | -c | --count | -n | --iterations | -i | --interval | --bytes | --for | -o | --output | \
        --target | --floor | --config)
        compopt -o default 2>/dev/null
        return
        ;;
    *)
        if [[ $current == -* ]]; then
            words='--json --timeout --help --version'
            case $command in
            meminfo) words+=' --raw' ;;
            drop-caches) words+=' --sync' ;;
            ps) words+=' --by --count' ;;
            dmesg) words+=' --follow --count --interval' ;;
            events) words+=' --count' ;;
            doctor) words+=' --output' ;;
            clock) words+=' --set' ;;
            reclaim) words+=' --bytes' ;;
            balance) words+=' --target --floor --config --dry-run --once --interval --count' ;;
            freeze) words+=' --for --status' ;;
            poweroff | reboot) words+=' --force' ;;
            attach) words+=' --dry-run --yes --device' ;;
            detach) words+=' --dry-run --yes' ;;
            mount) words+=' --rw' ;;
            top | watch | ping) words+=' --count --interval' ;;
            esac
        elif [ -z "$command" ]; then
            words=$commands
        elif [ -z "$vm" ] || [[ $command == @(top|watch|balance) ]]; then
            words=$(rvmrpc list 2>/dev/null | awk 'NR > 1 { print $1 }')
            if [[ $command == @(attach|detach) ]]; then
                words=$(virsh list --all --name 2>/dev/null)
            fi
        elif [ "$command" = drop-caches ]; then
            words='pagecache slab all'
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _rvmrpc rvmrpc
