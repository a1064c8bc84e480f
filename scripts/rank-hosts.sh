#!/bin/bash
# Three hosts on one machine: network namespaces a, b and c on a bridge, with a host name each.
#
#   rank-hosts.sh [-k SECONDS] [-p PULL_AFTER] [-c HOST] [-r RATE] [-a SECONDS] [-m openmpi|openmpi5|mpich] [-x MPIRUN]
#            -- [MPIRUN OPTIONS] COMMAND...
#
# Runs COMMAND once on each host under mpirun, started on host a. With -p, the cable of HOST (default c)
# is pulled after that many seconds. With -r, every cable carries RATE (`tc tbf`, such as 100mbit). mpirun gives a
# silent host up after about -a seconds (default 10) and ends the job. All of it is killed after -k seconds (default 60;
# exit code 124). Needs root. The exit code is mpirun's.
set -u
limit=60 pull='' who=c rate='' alive=10 mpi=openmpi launcher=''
while getopts k:p:c:r:a:m:x: option; do
    case $option in
        k) limit=$OPTARG ;; p) pull=$OPTARG ;; c) who=$OPTARG ;; r) rate=$OPTARG ;; a) alive=$OPTARG ;;
        m) mpi=$OPTARG ;; x) launcher=$OPTARG ;;
        *) sed -n '2,/^set/p' "$0"; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
hosts=(a b c)
# Names of this process's own, so that two runs do not meet.
id=$$ net=10.77.$(( $$ % 200 + 1 ))
work=$(mktemp -d)
space() { echo "cp$id$1"; }

clean() {
    set +e
    trap - EXIT INT TERM
    [ -n "${puller:-}" ] && kill "$puller" 2>/dev/null
    # Every process in a namespace is ours: end it before the namespace goes.
    for host in "${hosts[@]}"; do
        for pid in $(ip netns pids "$(space "$host")" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
        ip netns del "$(space "$host")" 2>/dev/null
        rm -rf "/etc/netns/$(space "$host")"
    done
    ip netns del "$(space sw)" 2>/dev/null
    rmdir /etc/netns 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# The bridge is in a namespace too: nothing of the machine's own network is touched.
set -e
ip netns add "$(space sw)"
ip -n "$(space sw)" link add name switch type bridge
ip -n "$(space sw)" link set switch up
number=10
for host in "${hosts[@]}"; do
    number=$((number + 1)) name=$(space "$host")
    ip netns add "$name"
    ip -n "$(space sw)" link add name "$host" type veth peer name eth0 netns "$name"
    ip -n "$(space sw)" link set dev "$host" master switch up
    ip -n "$name" link set lo up
    ip -n "$name" addr add "$net.$number/24" dev eth0
    ip -n "$name" link set eth0 up
    if [ -n "$rate" ]; then
        ip netns exec "$name" tc qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 200ms
    fi
    # `ip netns exec` shows these files as /etc/hosts and /etc/hostname.
    mkdir -p "/etc/netns/$name"
    printf '127.0.0.1 localhost\n%s.11 a\n%s.12 b\n%s.13 c\n' "$net" "$net" "$net" > "/etc/netns/$name/hosts"
    echo "$host" > "$work/$host"
done
# What mpirun calls instead of ssh: AGENT [OPTIONS] HOST COMMAND...
cat > "$work/agent" <<END
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
host=\$1; shift
exec ip netns exec cp$id\$host unshare --uts sh -c 'hostname '"\$host"'; exec sh -c "\$0"' "\$*"
END
chmod +x "$work/agent"
set +e

case $mpi in
    openmpi)
        launcher=${launcher:-mpirun.openmpi}
        how=(--host a:1,b:1,c:1 -n 3 --bind-to none
            --mca plm_rsh_agent "$work/agent" --mca btl tcp,self
            --mca btl_tcp_if_include "$net.0/24" --mca oob_tcp_if_include "$net.0/24"
            --mca oob_tcp_keepalive_time "$alive" --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3) ;;
    openmpi5)
        launcher=${launcher:-mpirun}
        how=(--host a:1,b:1,c:1 -n 3 --bind-to none
            --prtemca plm_ssh_agent "$work/agent" --prtemca prte_if_include "$net.0/24"
            --prtemca oob_tcp_keepalive_time "$alive" --prtemca oob_tcp_keepalive_intvl 1
            --prtemca oob_tcp_keepalive_probes 3
            --mca btl tcp,self --mca btl_tcp_if_include "$net.0/24") ;;
    mpich)
        launcher=${launcher:-mpirun.mpich}
        # One kernel: UCX would find shared memory between the hosts.
        export UCX_TLS=tcp,self UCX_NET_DEVICES=eth0
        how=(-launcher ssh -launcher-exec "$work/agent" -hosts a,b,c -n 3 -iface eth0) ;;
esac
if [ -n "$pull" ]; then
    ( sleep "$pull"; echo "rank-hosts.sh: cable of $who out, $(date +%s%3N)"; ip -n "$(space sw)" link set dev "$who" down ) &
    puller=$!
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
timeout -k 5 "$limit" "$work/agent" a "$(printf '%q ' "$launcher" "${how[@]}" "$@")"
exit $?
