# Makes the initrd: busybox, kernel modules, and a script that mounts the root file system. It is reproducible.
. "$applets"
root=$PWD/root
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/sysroot"
cp "$busybox/bin/busybox" "$root/bin/"
for applet in sh mount umount modprobe findfs sleep switch_root mkdir cat; do ln -s busybox "$root/bin/$applet"; done
cp -r "$linux/lib" "$root/"
cp "$linux/modules" "$root/modules"
cp "$init" "$root/init"
chmod -R u+w,a+rX "$root"
chmod 755 "$root/init"
find "$root" | while read -r file; do touch -h -d @1 "$file"; done
mkdir -p "$out"
(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --renumber-inodes --ignore-devno) | gzip -n -1 > "$out/initrd"
