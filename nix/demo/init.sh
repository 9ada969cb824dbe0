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

# Files that were put into the image stay: they are this device's own.
for entry in @etc@/*; do
  own=/etc/${entry##*/}
  if [ -L "$own" ] || [ ! -e "$own" ]; then ln -sfn "$entry" "$own"; fi
done
hostname -F /etc/hostname

# let_in USER HOME: the keys of the configuration, those that were put into the image, those that are there already
let_in() {
  mkdir -p "$2/.ssh"
  for keys in @etc@/ssh/authorized_keys.d/"$1" /etc/ssh/authorized_keys.d/"$1" "$2/.ssh/authorized_keys"; do
    if [ -f "$keys" ]; then cat "$keys"; fi
  done | sort -u > "$2/.ssh/new"
  mv "$2/.ssh/new" "$2/.ssh/authorized_keys"
  chmod 700 "$2" "$2/.ssh"
  chmod 600 "$2/.ssh/authorized_keys"
}
let_in root /root
let_in @user@ /home/@user@
chown -R 1000:100 /home/@user@
exec @busybox@/bin/init
