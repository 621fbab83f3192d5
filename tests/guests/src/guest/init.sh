#!/bin/busybox sh
# The first process of a guest: brings every interface up as it comes, and runs what the second serial port says: lines
# "NUMBER BASE64-OF-A-SCRIPT", answered with "R NUMBER STATUS BASE64-OF-THE-OUTPUT".
export PATH=/bin:/sbin HOME=/root
/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module || [ -n "$module" ]; do insmod "$module"; done < /lib/guest/modules
name=$(sed -n 's/.*guest=\([^ ]*\).*/\1/p' /proc/cmdline)
hostname "$name"
echo "127.0.0.1 localhost $name" > /etc/hosts
ip link set lo up
interfaces() {
  for mark in /run/eth*; do
    dev=${mark##*/}
    [ -e "$mark" ] && [ ! -e "/sys/class/net/$dev" ] || continue
    kill "$(cat "/run/pid.$dev")" 2> /dev/null
    rm "$mark"
  done
  for path in /sys/class/net/eth*; do
    dev=${path##*/}
    [ -e "$path" ] && [ ! -e "/run/$dev" ] || continue
    : > "/run/$dev"
    ip link set "$dev" up
    udhcpc -b -p "/run/pid.$dev" -i "$dev" -t 20 -T 1 -A 1 -R -x "hostname:$name" -s /bin/guest-lease > "/run/dhcp.$dev" 2>&1 < /dev/null &
  done
}
(while :; do interfaces; usleep 200000; done) &
stty -F /dev/ttyS1 raw -echo
exec 3<> /dev/ttyS1
echo "guest: ready"
while read -r number script <&3; do
  echo "$script" | base64 -d > /run/script
  timeout -s KILL 60 sh /run/script > /run/said 2>&1 < /dev/null 3<&-
  echo "R $number $? $(base64 -w0 /run/said)" >&3
done
