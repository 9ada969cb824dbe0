#!@shell@
# Stage 2: what NixOS' activation does, for a system of this size. Runs as process 1 with the root file system mounted.
export PATH=@busybox@/bin
mkdir -p /bin /etc /home /lib64 /root /run /tmp /var/empty /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /dev/pts && mount -t devpts -o gid=5,mode=620 devpts /dev/pts
chmod 1777 /tmp
chmod 700 /root

ln -sfn @toplevel@ /run/current-system
ln -sfn @toplevel@ /run/booted-system
ln -sfn @shell@ /bin/sh
# Programs of Debian's look for their loader and libraries here.
[ -L /lib ] || rmdir /lib 2>/dev/null
ln -sfn @libraries@/lib /lib
ln -sf @libraries@/lib/ld-linux* /lib64/

for entry in @etc@/*; do ln -sfn "$entry" "/etc/${entry##*/}"; done
hostname -F /etc/hostname

home=/home/@user@
mkdir -p $home/.ssh
cp /etc/ssh/authorized_keys.d/@user@ $home/.ssh/authorized_keys
chmod 700 $home $home/.ssh
chown -R 1000:100 $home
exec @busybox@/bin/init
