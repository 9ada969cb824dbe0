#!@shell@
# Stage 2: a small version of NixOS' activation. Runs as process 1 on the mounted root file system.
export PATH=@busybox@/bin
mkdir -p /bin /etc /home /lib64 /root /run /tmp /var/empty /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /dev/pts && mount -t devpts -o gid=5,mode=620 devpts /dev/pts
chmod 1777 /tmp
chmod 700 /root

ln -sfn @toplevel@ /run/current-system
ln -sfn @toplevel@ /run/booted-system
ln -sfn @shell@ /bin/sh
# Debian's programs find ld.so and libraries in /lib and /lib64.
[ -L /lib ] || rmdir /lib 2>/dev/null
ln -sfn @libraries@/lib /lib
ln -sf @libraries@/lib/ld-linux* /lib64/

# Files in the image's /etc (late values of this device) are not replaced by links.
for entry in @etc@/*; do
  own=/etc/${entry##*/}
  if [ -L "$own" ] || [ ! -e "$own" ]; then ln -sfn "$entry" "$own"; fi
done
hostname -F /etc/hostname

# The user's name and keys are late values. The name becomes a line of /etc/passwd and a path, so one with other letters is none.
user=$(cat /etc/demo/user)
case $user in
  root | [!a-z_]* | *[!a-z0-9_-]*) user= ;;
esac

# Accounts have no passwords, only keys. A file that was injected, or that an earlier boot has written, stays.
[ -e /etc/passwd ] || printf '%s\n' root:x:0:0::/root:/bin/sh ${user:+"$user:x:1000:100::/home/$user:/bin/sh"} > /etc/passwd
[ -e /etc/shadow ] || (umask 077 && printf '%s:*:1::::::\n' root ${user:+"$user"} > /etc/shadow)

# let_in USER HOME [FILE]: merge the keys of FILE, of a device's late value and of existing authorized_keys
let_in() {
  mkdir -p "$2/.ssh"
  for keys in /etc/ssh/authorized_keys.d/"$1" "$2/.ssh/authorized_keys" "${3-}"; do
    if [ -f "$keys" ]; then cat "$keys"; fi
  done | sort -u > "$2/.ssh/new"
  mv "$2/.ssh/new" "$2/.ssh/authorized_keys"
  chmod 700 "$2" "$2/.ssh"
  chmod 600 "$2/.ssh/authorized_keys"
}
let_in root /root
if [ -n "$user" ]; then
  let_in "$user" "/home/$user" /etc/demo/keys
  chown -R 1000:100 "/home/$user"
fi
exec @busybox@/bin/init
