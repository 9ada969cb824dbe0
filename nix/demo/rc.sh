#!@shell@
# Brings the network and sshd up, then says so on the console: the boot check waits for that line.
export PATH=@busybox@/bin
mount -o remount,rw /
mkdir -p /var/lib/dropbear
key=/var/lib/dropbear/ed25519
[ -s $key ] || @dropbear@/usr/bin/dropbearkey -t ed25519 -f $key > /dev/null &
ip link set lo up
for device in /sys/class/net/*; do
  [ "${device##*/}" = lo ] || udhcpc -b -S -t 10 -T 1 -i "${device##*/}" -s /etc/udhcpc/default.script
done
wait
@dropbear@/usr/sbin/dropbear -r $key -s
echo "nixos-image demo: ready" > /dev/console
