#!/bin/sh
# Three hosts on two wires, for tests of the transparent mode. Run it in namespaces of its own, which take everything with
# them when they end:
#
#   unshare --net --mount [--user --map-root-user] sh lab.sh DIR
#
# Says "ready", then obeys lines on stdin and answers each with "done" or "failed": `rules SET`, one of the names below,
# or `none`. Ends with its stdin. DIR holds the sockets that upstream answers through (relay.py), and takes what it writes.
#
#   agent    192.0.2.10     2001:db8:a::10
#      |     eth0 - eth0
#   proxy    192.0.2.1      2001:db8:a::1     and 198.51.100.1, 2001:db8:b::1 on eth1; forwards
#      |     eth1 - eth0
#   upstream 198.51.100.20  2001:db8:b::20    also .21, .22; where `merchant.stand.test` is
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
PROXY_UID=${PROXY_UID:-1337} # the proxy's own user: its connections are not redirected
PORT=4021                    # the transparent listener; as in every example of the documentation
PORTS=80,443                 # what is redirected

at() { host=$1; shift; nsenter --net="/run/netns/$host" "$@"; }
set_to() { at "$1" sh -c "echo $3 > /proc/sys/net/$2"; }

world() {
  mount --make-rprivate / 2>/dev/null || true
  resolv=$(readlink -m /etc/resolv.conf)
  mount -t tmpfs tmpfs /run
  mkdir -p /run/netns /run/farepass "$(dirname "$resolv")"
  [ -e "$resolv" ] || : > "$resolv"
  cat > "$dir/hosts" <<H
127.0.0.1 localhost
::1 localhost
198.51.100.20 merchant.stand.test
2001:db8:b::20 merchant.stand.test
198.51.100.21 other.stand.test
H
  echo 'nameserver 127.0.0.1
options timeout:1 attempts:1' > "$dir/resolv.conf"
  mount --bind "$dir/hosts" /etc/hosts
  mount --bind "$dir/resolv.conf" "$resolv"
  # The program may lie where its user cannot follow.
  : > /run/farepass/farepass
  mount --bind "$FAREPASS" /run/farepass/farepass
}

wire() { # HOST DEVICE IPV4 IPV6
  at "$1" ip addr add "$3" dev "$2"
  at "$1" ip -6 addr add "$4" dev "$2" nodad
  at "$1" ip link set "$2" up
}

hosts() {
  for host in agent proxy upstream; do
    ip netns add "$host"
    at "$host" ip link set lo up
    set_to "$host" ipv6/conf/all/disable_ipv6 0
    set_to "$host" ipv6/conf/default/accept_dad 0
  done
  ip link add eth0 netns agent type veth peer name eth0 netns proxy
  ip link add eth1 netns proxy type veth peer name eth0 netns upstream
  wire agent eth0 192.0.2.10/24 2001:db8:a::10/64
  wire proxy eth0 192.0.2.1/24 2001:db8:a::1/64
  wire proxy eth1 198.51.100.1/24 2001:db8:b::1/64
  for last in 20 21 22; do wire upstream eth0 "198.51.100.$last/24" "2001:db8:b::$last/64"; done
  set_to proxy ipv4/ip_forward 1
  set_to proxy ipv6/conf/all/forwarding 1
  at agent ip route add default via 192.0.2.1
  at agent ip -6 route add default via 2001:db8:a::1
  at upstream ip route add default via 198.51.100.1
  at upstream ip -6 route add default via 2001:db8:b::1
}

forget() {
  for host in agent proxy; do
    at "$host" nft flush ruleset
    for family in -4 -6; do
      at "$host" ip $family rule del fwmark 1/1 lookup 100 2>/dev/null || true
      at "$host" ip $family route flush table 100 2>/dev/null || true
    done
  done
}

# Marked packets are delivered here, whatever their address: what TPROXY needs.
keep_marked() {
  at "$1" ip rule add fwmark 1/1 lookup 100
  at "$1" ip route add local 0.0.0.0/0 dev lo table 100
  at "$1" ip -6 rule add fwmark 1/1 lookup 100
  at "$1" ip -6 route add local ::/0 dev lo table 100
}

# sidecar-*: agent and proxy share a namespace, as in a pod. gateway-*: the proxy is on the agent's way out.
rules() {
  forget
  case $1 in
  none) ;;
  sidecar-nft)
    at agent nft -f - <<N
table inet farepass {
  chain led {
    type nat hook output priority -100; policy accept;
    meta skuid $PROXY_UID return
    fib daddr type local return
    tcp dport { $PORTS } redirect to :$PORT
  }
}
N
    ;;
  sidecar-iptables)
    for tables in iptables ip6tables; do
      at agent $tables -w -t nat -N FAREPASS
      at agent $tables -w -t nat -A FAREPASS -m owner --uid-owner "$PROXY_UID" -j RETURN
      at agent $tables -w -t nat -A FAREPASS -m addrtype --dst-type LOCAL -j RETURN
      at agent $tables -w -t nat -A FAREPASS -p tcp -m multiport --dports "$PORTS" -j REDIRECT --to-ports $PORT
      at agent $tables -w -t nat -A OUTPUT -p tcp -j FAREPASS
    done ;;
  sidecar-lockdown) # and nobody but the proxy leaves: no QUIC, no other port
    rules sidecar-nft
    at agent nft -f - <<N
table inet farepass {
  chain locked {
    type filter hook output priority 0; policy drop;
    fib daddr type local accept
    meta skuid $PROXY_UID accept
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept
    meta l4proto tcp reject with tcp reset
    reject
  }
}
N
    ;;
  sidecar-deployed) # what the manifests load, and docs/agents.md shows
    at agent nft -f "$here/../../deploy/k8s/transparent/redirect.nft" ;;
  sidecar-tproxy)
    keep_marked agent
    at agent nft -f - <<N
table inet farepass {
  chain out {
    type route hook output priority mangle; policy accept;
    meta skuid $PROXY_UID return
    fib daddr type local return
    tcp dport { $PORTS } meta mark set mark or 0x1
  }
  chain taken {
    type filter hook prerouting priority mangle; policy accept;
    meta mark & 0x1 == 0x1 iif lo meta l4proto tcp tproxy to :$PORT accept
  }
}
N
    ;;
  gateway-redirect)
    at proxy nft -f - <<N
table inet farepass {
  chain led {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "eth0" tcp dport { $PORTS } redirect to :$PORT
  }
}
N
    ;;
  gateway-tproxy)
    keep_marked proxy
    at proxy nft -f - <<N
table inet farepass {
  chain taken {
    type filter hook prerouting priority mangle; policy accept;
    iifname "eth0" fib daddr type local return
    iifname "eth0" meta l4proto tcp socket transparent 1 meta mark set mark or 0x1 accept
    iifname "eth0" tcp dport { $PORTS } tproxy to :$PORT meta mark set mark or 0x1 accept
  }
}
N
    ;;
  gateway-only) # no redirect: the explicit proxy on the gateway is all that the agent reaches
    at proxy nft -f - <<N
table inet farepass {
  chain locked {
    type filter hook forward priority 0; policy accept;
    iifname "eth0" reject with icmpx admin-prohibited
  }
}
N
    ;;
  *) return 2 ;;
  esac
}

world
hosts
# Not through `at`: a function would be one process more, and `kill` would reach that one only.
nsenter --net=/run/netns/upstream python3 "$here/relay.py" "$dir" < /dev/null > "$dir/relay.log" 2>&1 &
relay=$!
trap 'kill $relay 2>/dev/null || true' EXIT
while [ ! -e "$dir/relays" ]; do
  kill -0 $relay || { cat "$dir/relay.log" >&2; exit 1; }
  sleep 0.05
done
echo ready
while read -r order; do
  set +e # a condition would hide what fails inside it
  (set -e; $order) >&2
  [ $? = 0 ] && answer=done || answer=failed
  set -e
  echo $answer
done
