#!/bin/busybox sh
# What udhcpc calls: one address and one default route an interface, and the name servers of all of them.
case "$1" in
deconfig) ip -4 addr flush dev "$interface" ;;
bound | renew)
  ip -4 addr flush dev "$interface"
  ip addr add "$ip/${mask:-24}" dev "$interface"
  for via in $router; do ip route add default via "$via" dev "$interface" metric "${interface#eth}0"; done
  for server in $dns; do echo "nameserver $server"; done > "/run/resolv.$interface"
  cat /run/resolv.eth* > /etc/resolv.conf ;;
esac
exit 0
