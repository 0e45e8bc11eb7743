# mirror-rig.sh: an iSCSI server, its storage, and a switch with a mirror port, on one machine.
# Sourced by the demo and by the live tests.
#
#   initiator (10.9.0.1) --veth-- switch [bridge] --veth-- target (10.9.0.2), tgtd
#                                   | copy of what both ports receive
#                                   +--veth-- tap0: the monitor's port, no address
#
# Each of the four is a network namespace with this shell's process id in its name, so that several
# rigs stand side by side. Where namespaces are not allowed, or SANREWIND_RIG=loopback, everything
# happens on the loopback interface: RIG_MODE says which it is (namespaces, loopback).
#
#   rig_up DIR             make it; DIR keeps its files
#   rig_target IMG         start tgtd with LUN 1 on the file IMG; RIG_URL is where initiators find it
#   rig_initiator CMD...   run CMD as the server that owns the data
#   rig_monitor CMD...     run CMD as the machine at the mirror port; RIG_IFACE is its interface
#   rig_down               stop tgtd, remove the namespaces

RIG_TARGET=iqn.2026-01.example:shop
rig_tgtd_pid=
rig_namespaces=()

rig_in() {
    local name=$1
    shift
    if [[ $RIG_MODE == namespaces ]]; then
        ip netns exec "$name" "$@"
    else
        "$@"
    fi
}
rig_initiator() { rig_in "$rig_name-init" "$@"; }
rig_monitor() { rig_in "$rig_name-tap" "$@"; }
rig_storage() { rig_in "$rig_name-targ" "$@"; }

# Run in a namespace without a shell in between, so that $! is the program's own id.
rig_prefix() {
    [[ $RIG_MODE == namespaces ]] && printf '%s\n' ip netns exec "$rig_name-$1"
    return 0
}

rig_add_namespace() {
    ip netns add "$rig_name-$1" 2>/dev/null || return 1
    rig_namespaces+=("$rig_name-$1")
    ip -n "$rig_name-$1" link set lo up
}

# A cable between two namespaces: NAMESPACE INTERFACE NAMESPACE INTERFACE
rig_cable() {
    ip link add "$2" netns "$rig_name-$1" type veth peer name "$4" netns "$rig_name-$3" || return 1
    # A wire carries finished packets: no segments that only offload would cut.
    rig_in "$rig_name-$1" ethtool -K "$2" tso off gso off gro off tx off rx off sg off >/dev/null 2>&1
    rig_in "$rig_name-$3" ethtool -K "$4" tso off gso off gro off tx off rx off sg off >/dev/null 2>&1
    ip -n "$rig_name-$1" link set "$2" up && ip -n "$rig_name-$3" link set "$4" up
}

# The switch copies to the mirror port what either port receives, as a SPAN session does.
rig_mirror_port() {
    local switch="$rig_name-sw" port
    ip -n "$switch" link add br0 type bridge mcast_snooping 0 && ip -n "$switch" link set br0 up || return 1
    for port in si st; do
        ip -n "$switch" link set "$port" master br0 &&
            tc -n "$switch" qdisc add dev "$port" ingress &&
            tc -n "$switch" filter add dev "$port" parent ffff: protocol all prio 1 u32 match u32 0 0 \
                action mirred egress mirror dev sp || return 1
    done
}

rig_namespaces_up() {
    local name
    for name in init targ tap sw; do
        rig_add_namespace "$name" || return 1
    done
    rig_cable init i0 sw si && rig_cable targ t0 sw st && rig_cable tap tap0 sw sp || return 1
    ip -n "$rig_name-init" addr add 10.9.0.1/24 dev i0 &&
        ip -n "$rig_name-targ" addr add 10.9.0.2/24 dev t0 &&
        ip -n "$rig_name-tap" link set tap0 promisc on && rig_mirror_port
}

rig_remove_namespaces() {
    local name
    for name in "${rig_namespaces[@]}"; do
        ip netns del "$name" 2>/dev/null
    done
    rig_namespaces=()
}

rig_up() {
    rig_dir=$1
    rig_name=sr$$
    RIG_MODE=namespaces
    if [[ ${SANREWIND_RIG:-} != loopback ]] && rig_namespaces_up 2>"$rig_dir/rig.log"; then
        RIG_IFACE=tap0
        rig_portal=10.9.0.2:3260
        return 0
    fi
    rig_remove_namespaces
    RIG_MODE=loopback
    RIG_IFACE=lo
    rig_portal=127.0.0.1:$((20000 + $$ % 10000))
}

rig_tgtadm() { tgtadm -C "$rig_control" "$@"; }

rig_tgtd_answers() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        rig_tgtadm --op show --mode sys >/dev/null 2>&1 && return 0
        kill -0 "$rig_tgtd_pid" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

rig_target() {
    local image=$1
    rig_control=$(($$ % 30000 + 1))
    mkdir -p /var/run/tgtd
    $(rig_prefix targ) tgtd -f -C "$rig_control" --iscsi "portal=$rig_portal" >"$rig_dir/tgtd.log" 2>&1 &
    rig_tgtd_pid=$!
    rig_tgtd_answers || {
        echo "tgtd does not start; it says: $(tail -n 3 "$rig_dir/tgtd.log")" >&2
        return 1
    }
    rig_tgtadm --lld iscsi --op new --mode target --tid 1 -T "$RIG_TARGET" &&
        rig_tgtadm --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 --bstype rdwr -b "$image" &&
        rig_tgtadm --lld iscsi --op bind --mode target --tid 1 -I ALL || return 1
    RIG_URL=iscsi://$rig_portal/$RIG_TARGET/1
    RIG_VOLUME=$RIG_TARGET/1
}

rig_tgtd_down() {
    local tries
    [[ -n $rig_tgtd_pid ]] || return 0
    rig_tgtadm --op delete --mode target --tid 1 --force >/dev/null 2>&1
    rig_tgtadm --op delete --mode system >/dev/null 2>&1
    for ((tries = 0; tries < 30; tries++)); do
        kill -0 "$rig_tgtd_pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$rig_tgtd_pid" 2>/dev/null
    wait "$rig_tgtd_pid" 2>/dev/null
    rig_tgtd_pid=
}

rig_down() {
    rig_tgtd_down
    rig_remove_namespaces
    return 0
}
