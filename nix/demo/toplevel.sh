# Makes the toplevel: init, kernel, initrd, /etc and the bootspec (RFC 125) that the image assembler reads.
. "$applets"
mkdir -p "$out"
fill() {
  sed -e "s|@shell@|$busybox/bin/sh|g" -e "s|@busybox@|$busybox|g" -e "s|@toplevel@|$out|g" -e "s|@etc@|$etc|g" \
    -e "s|@libraries@|$libraries|g" -e "s|@dropbear@|$dropbear|g" \
    -e "s|@fdisk@|$fdisk|g" -e "s|@e2fsprogs@|$e2fsprogs|g" "$1" > "$2"
  chmod 755 "$2"
}
fill "$init" "$out/init"
fill "$rc" "$out/rc"
ln -s "$linux/vmlinuz" "$out/kernel"
ln -s "$linux" "$out/kernel-modules"
ln -s "$initrd/initrd" "$out/initrd"
ln -s "$etc" "$out/etc"
ln -s "$busybox" "$out/sw"
printf '%s' "$kernelParams" > "$out/kernel-params"
# Add the bootspec fields that contain this derivation's own path; Nix cannot evaluate those.
printf '{"org.nixos.bootspec.v1":{"init":"%s","initrd":"%s","kernel":"%s","toplevel":"%s",%s,"org.nixos.specialisation.v1":{}}\n' \
  "$out/init" "$initrd/initrd" "$linux/vmlinuz" "$out" "${bootspec#\{}" > "$out/boot.json"
