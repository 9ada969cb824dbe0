# /etc of the demo: the host's name, busybox' inittab, the network's script. init.sh writes the accounts.
. "$applets"
mkdir -p "$out/udhcpc"
echo "$hostName" > "$out/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$hostName" > "$out/hosts"
printf 'root:x:0:\nusers:x:100:\n' > "$out/group"
printf '/bin/sh\n' > "$out/shells"
printf 'NAME=NixOS\nID=nixos\nVERSION_ID=%s\nPRETTY_NAME="NixOS demo (%s)"\n' "$release" "$release" > "$out/os-release"
cat > "$out/inittab" <<INITTAB
::sysinit:/run/current-system/rc
$console::respawn:$busybox/bin/getty -L 115200 $console vt100
::ctrlaltdel:$busybox/bin/reboot
::shutdown:$busybox/bin/umount -a -r
INITTAB
cat > "$out/udhcpc/default.script" <<'UDHCPC'
#!/bin/sh
# udhcpc calls this script with a lease: it sets address, default route, name servers.
case $1 in
  deconfig) ip address flush dev "$interface"; ip link set "$interface" up ;;
  bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    for gateway in $router; do ip route replace default via "$gateway" dev "$interface"; done
    : > /run/resolv.conf
    for server in $dns; do echo "nameserver $server" >> /run/resolv.conf; done
    ;;
esac
UDHCPC
chmod 755 "$out/udhcpc/default.script"
ln -s /run/resolv.conf "$out/resolv.conf"
