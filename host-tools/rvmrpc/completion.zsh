#compdef rvmrpc
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Completion of rvmrpc's arguments for zsh.

_rvmrpc_vms() {
    local -a vms
    if [[ $words[2] == (attach|detach) ]]; then
        vms=(${(f)"$(virsh list --all --name 2>/dev/null)"})
    else
        vms=(${(f)"$(rvmrpc list 2>/dev/null | awk 'NR > 1 { print $1 }')"})
    fi
    compadd -a vms
}

_rvmrpc() {
    local -a commands=(
        'list:the VMs of this host'
        'info:state of the channel, modules, counters'
        'meminfo:memory'
        'loadavg:load averages'
        'cpuinfo:CPUs'
        'cpustat:where CPU time went'
        'osinfo:kernel, host name, uptime'
        'drop-caches:have the kernel drop its caches'
        'df:file systems, and how full they are'
        'ip:network interfaces and addresses'
        'ps:processes'
        'psi:pressure'
        'dmesg:the kernel'\''s log'
        'ls:files of a folder'
        'cat:a file'\''s bytes'
        'cp:copy a file to this host, or to the guest'
        'mkdir:make a folder there'
        'mv:rename a file or a folder'
        'rm:remove a file or an empty folder'
        'mount:show its files below a folder'
        'forward:listen here for a service of the guest'
        'nc:a connection of the guest'
        'vmcoreinfo:for who reads a dump of its memory'
        'events:what the kernel tells by itself'
        'doctor:a report of a guest that seems dead'
        'clock:the clock, and how wrong it is'
        'reclaim:have the kernel free memory'
        'balance:keep this host'\''s memory above a target'
        'freeze:file systems stand still'
        'thaw:and go on'
        'sysrq:a key of the kernel'\''s magic SysRq'
        'poweroff:shut down'
        'reboot:boot anew'
        'call:call any procedure'
        'top:a live table'
        'watch:a line per VM and interval, and events'
        'attach:give a domain of libvirt the device'
        'detach:and take it away'
        'ping:time of null calls'
    )

    _arguments \
        '(-j --json)'{-j,--json}'[print JSON]' \
        '(-t --timeout)'{-t,--timeout=}'[milliseconds to wait]:ms:' \
        '(-c --count -n --iterations)'{-c,--count=,-n,--iterations=}'[at most so many]:n:' \
        '(-i --interval)'{-i,--interval=}'[seconds between rounds]:s:' \
        '--raw[meminfo: the guest'\''s own text]' \
        '--sync[drop-caches: write dirty data first]' \
        '--by=[ps: by what]:what:(pid memory cpu blocked)' \
        '(-w --follow)'{-w,--follow}'[dmesg: wait for more]' \
        '(-o --output)'{-o,--output=}'[doctor: write the report there]:file:_files' \
        '--set[clock: step it to the host'\''s time]' \
        '--bytes=[reclaim: so much]:bytes:' \
        '--target=[balance: memory that this host shall have available]:size:' \
        '*--floor=[balance: a guest keeps that much in use]:floor:' \
        '--config=[balance: read this file]:file:_files' \
        '--dry-run[balance: ask nobody, and explain; attach, detach: only show]' \
        '(-y --yes)'{-y,--yes}'[attach, detach: do not ask]' \
        '--device=[attach: which]:device:(ivshmem rvmrpc)' \
        '--once[balance: one round]' \
        '--for=[freeze: seconds until the guest thaws by itself]:s:' \
        '--status[freeze: only ask]' \
        '--force[poweroff, reboot: by the kernel, if need be]' \
        '--rw[mount: for writing, too]' \
        '(-h --help)'{-h,--help}'[print a text]' \
        '--version[print the version]' \
        '1:command:{_describe command commands}' \
        '2:VM:_rvmrpc_vms' \
        '*:argument:{[[ $words[2] == drop-caches ]] && compadd pagecache slab all || _rvmrpc_vms}'
}

_rvmrpc "$@"
