# Changes to some stand-ins: shell commands that run in the builder with the package's path in $first, and attributes of the
# package that NixOS needs.
{ lib, debian }:
let
  script = text: { script = text; };
  # silent NAMES: programs that do nothing and succeed.
  silent = names: script ''
    mkdir -p "$first/bin"
    for name in ${toString names}; do
      printf '#!/bin/sh\n' > "$first/bin/$name"
      chmod +x "$first/bin/$name"
    done
  '';
  # withSystemPath PROGRAM: a script that in nixpkgs has a PATH of its own gets the system's.
  withSystemPath = program: script ''
    sed -i '1a PATH=/run/current-system/sw/bin:$PATH' "$first/bin/${program}"
  '';

  # Units that NixOS expects of its systemd, which is newer than Debian's; the list is extracted from the modules.
  modules = lib.concatMapStrings builtins.readFile
    (lib.filter (lib.hasSuffix ".nix") (map toString (lib.filesystem.listFilesRecursive ../nixos/modules/system/boot)));
  mentioned = expression: lib.unique (map lib.head (lib.filter lib.isList (builtins.split expression modules)));
  units = mentioned "\"([A-Za-z0-9@._-]+\\.(service|socket|target|timer|path|slice|mount|automount|wants))\"";
  helpers = mentioned "/lib/systemd/([a-z0-9/-]+)";

  # Files whose presence in an image is tested, but which no machine runs.
  placeholders = folder: files: script ''
    mkdir -p "$first/${folder}"
    for file in ${toString files}; do
      echo "stand-in for $file" > "$first/${folder}/$file"
    done
  '';
in
# Firmware of Raspberry Pi cards, and the firmware packages of installers.
lib.genAttrs [
  "alsa-firmware" "ipw2200-firmware" "libreelec-dvb-firmware" "linux-firmware" "raspberrypi-wireless-firmware" "rt5677-firmware"
  "rtl8192su-firmware" "rtl8761b-firmware" "sof-firmware" "wireless-regdb" "zd1211-firmware"
]
  (_: placeholders "lib/firmware" [ ]) // {
  uboot-rpi_2_defconfig = placeholders "." [ "u-boot.bin" ];
  uboot-rpi_3_32b_defconfig = placeholders "." [ "u-boot.bin" ];
  uboot-rpi_3_defconfig = placeholders "." [ "u-boot.bin" ];
  uboot-rpi_4_defconfig = placeholders "." [ "u-boot.bin" ];
  raspberrypi-armstubs = placeholders "." [ "armstub8-gic.bin" ];
  raspberrypi-firmware = placeholders "share/raspberrypi/boot" (
    [ "bootcode.bin" "fixup.dat" "fixup4.dat" "start.elf" "start4.elf" ]
    ++ map (board: "bcm2710-rpi-${board}.dtb") [ "2-b" "3-b" "3-b-plus" "cm3" "zero-2" "zero-2-w" ]
    ++ map (board: "bcm2711-rpi-${board}.dtb") [ "4-b" "400" "cm4" "cm4s" ]
  );

  # Copy the BIOS files to where nixpkgs' syslinux package has them.
  syslinux = script ''
    mkdir -p "$first/share/syslinux"
    find "$first/lib" -type f \( -name '*.c32' -o -name '*.bin' \) -path '*bios*' -exec cp {} "$first/share/syslinux/" \;
    cp "$first"/lib/ISOLINUX/*.bin "$first/share/syslinux/"
  '';
  refind = placeholders "share/refind" [ "refind_x64.efi" "refind_aa64.efi" ];
  "memtest86+" = placeholders "." [ "mt86plus.efi" ];
  # NixOS collects these folders.
  wpa_supplicant = script ''mkdir -p "$first"/bin "$first"/share/dbus-1/system-services "$first"/lib/udev/rules.d'';

  systemd = script ''
    cd "$first"
    mkdir -p example/systemd
    mv lib/systemd/{system,user} example/systemd/
    mv lib/{tmpfiles.d,sysctl.d} example/
    # sysctl settings for core dumps, which Debian has in the crash handler's package, which is left out.
    echo "kernel.core_pattern=|$first/lib/systemd/systemd-coredump" > example/sysctl.d/50-coredump.conf
    # Units of Debian's call programs without a path: give them this package's. modprobe is kept: NixOS gives it a PATH.
    for unit in example/systemd/*/*; do
      [ -f "$unit" ] && [ ! -L "$unit" ] || continue
      sed -nE 's/^Exec[A-Za-z]*=[-+!:@]*([a-z][a-z0-9-]*)( .*)?$/\1/p' "$unit" | sort -u | while read -r program; do
        [ ! -e "bin/$program" ] || sed -i -E "s,^(Exec[A-Za-z]*=[-+!:@]*)$program\b,\1$first/bin/$program," "$unit"
      done
    done
    for unit in ${toString units}; do
      for of in system user; do
        file=example/systemd/$of/$unit
        [ ! -e "$file" ] || continue
        case $unit in
          *.wants) mkdir "$file" ;;
          *.socket) printf '[Unit]\nConditionPathExists=/nonexistent\n[Socket]\nListenStream=/run/nonexistent\n' > "$file" ;;
          *.service) printf '[Unit]\nConditionPathExists=/nonexistent\n[Service]\nExecStart=/bin/sh\n' > "$file" ;;
          *) printf '[Unit]\nConditionPathExists=/nonexistent\n' > "$file" ;;
        esac
      done
    done
    for helper in ${toString helpers}; do
      if [ ! -e "lib/systemd/$helper" ]; then
        mkdir -p "$(dirname "lib/systemd/$helper")"
        printf '#!/bin/sh\n' > "lib/systemd/$helper"
        chmod +x "lib/systemd/$helper"
      fi
    done
    cd -
  '';
  nixos-init = script ''
    mkdir -p "$first/bin"
    cp ${./resolve-in-root} "$first/bin/resolve-in-root"
    printf '#!/bin/sh\n' | tee "$first/bin/find-etc" > "$first/bin/env-generator"
    chmod +x "$first"/bin/*
  '';
  make-initrd-ng = script ''
    mkdir -p "$first/bin"
    printf '#!%s\nexec %s %s "$@"\n' ${debian.tools}/bin/bash ${debian.tools}/bin/python3 ${./make-initrd-ng.py} > "$first/bin/make-initrd-ng"
    chmod +x "$first/bin/make-initrd-ng"
  '';
  # Debian's firmware, under nixpkgs' names.
  OVMF = script ''
    mkdir -p "$first/FV"
    cp "$first/share/OVMF/OVMF_CODE_4M.fd" "$first/FV/OVMF_CODE.fd"
    cp "$first/share/OVMF/OVMF_VARS_4M.fd" "$first/FV/OVMF_VARS.fd"
  '';
  # Debian's QEMU looks for its firmware below /usr.
  qemu-host-cpu-only = script ''
    cp -n "$first"/share/seabios/* "$first/share/qemu/"
    for program in "$first"/bin/qemu-system-*; do
      hidden=$first/bin/.$(basename "$program")
      mv "$program" "$hidden"
      printf '#!%s\nexec %s -L %s "$@"\n' ${debian.tools}/bin/bash "$hidden" "$first/share/qemu" > "$program"
      chmod +x "$program"
    done
  '';
  # Archives are packed for a look into them: its usual level takes minutes for each.
  pixz = script ''
    mv "$first/bin/pixz" "$first/bin/.pixz"
    printf '#!%s\nexec %s -0 "$@"\n' ${debian.tools}/bin/bash "$first/bin/.pixz" > "$first/bin/pixz"
    chmod +x "$first/bin/pixz"
  '';
  virtiofsd = script ''
    mkdir -p "$first/bin"
    ln -s ../libexec/virtiofsd "$first/bin/virtiofsd"
  '';
  # The kernel as a library: of its programs make-disk-image.nix runs `cptofs -p [-P NUMBER] -t ext4 -i DISK FOLDER/* /`, which here
  # makes the file system anew, with its label.
  lkl = script ''
    mkdir -p "$first/bin"
    cat > "$first/bin/cptofs" <<'END'
    #!${debian.tools}/bin/bash
    set -e
    while getopts pP:t:i: option; do
      case $option in P) number=$OPTARG ;; i) disk=$OPTARG ;; esac
    done
    shift $((OPTIND - 1))
    if [ -n "$number" ]; then eval "$(partx "$disk" -o START,SECTORS --nr "$number" --pairs)"; fi
    offset=$((512 * ''${START:-0}))
    label=$(dumpe2fs -h "$disk?offset=$offset" 2>/dev/null | sed -n 's/^Filesystem volume name: *//p')
    mke2fs -t ext4 -F -L "$label" -b 4096 -d "$(dirname "$1")" -E offset=$offset "$disk" ''${SECTORS:+$((SECTORS / 2))K}
    END
    chmod +x "$first/bin/cptofs"
  '';
  lndir = script ''
    mkdir -p "$first/bin"
    printf '#!%s\n%s\n' ${debian.tools}/bin/bash '[ "$1" != -silent ] || shift; cp -rsn "$(realpath "$1")/." "''${2-.}/"' > "$first/bin/lndir"
    chmod +x "$first/bin/lndir"
  '';
  switch-to-configuration = script ''
    mkdir -p "$first/bin"
    cp ${./switch-to-configuration} "$first/bin/switch-to-configuration"
    chmod +x "$first/bin/switch-to-configuration"
  '';

  bash = script ''ln -s bash "$first/bin/sh"'';
  # Only the shell: other packages in cloud-init's PATH have the other applets.
  busybox = script ''ln -s busybox "$first/bin/sh"'';
  bash-interactive = script ''ln -s bash "$first/bin/sh"'';
  glibc-nolibgcc = script ''cp -rsn "$libraries/lib/." "$first/lib/"'';
  # Remove the line with Debian's group nix-users, which NixOS does not have.
  nix = script ''sed -i /nix-users/d "$first"/lib/tmpfiles.d/nix-daemon.conf'';
  gawk = script ''ln -s gawk "$first/bin/awk"'';
  which = script ''ln -s which.debianutils "$first/bin/which"'';
  cloud-utils = withSystemPath "growpart";
  openresolv = withSystemPath "resolvconf";
  python3 = script ''ln -s python3.13 "$first/bin/python3"'';
  openssh = script ''ln -s lib/openssh "$first/libexec"'';
  nss-cacert = script ''
    mkdir -p "$first/etc/ssl/certs"
    cat "$first"/share/ca-certificates/mozilla/*.crt > "$first/etc/ssl/certs/ca-bundle.crt"
  '';
  "kmod-debian-aliases.conf" = script '': > "$first"'';
  kmod-blacklist = script ''mkdir -p "$first"; : > "$first/modprobe.conf"'';
  # Debian's grub-install looks for its modules below /usr.
  grub = script ''
    if [ -e "$first/bin/grub-install" ]; then
      mv "$first/bin/grub-install" "$first/bin/.grub-install"
      {
        printf '#!/bin/sh\ncase "$*" in *x86_64-efi*) kind=x86_64-efi ;; *) kind=i386-pc ;; esac\n'
        echo "exec $first/bin/.grub-install --directory=$first/lib/grub/\$kind \"\$@\""
      } > "$first/bin/grub-install"
      chmod +x "$first/bin/grub-install"
    fi
  '';
  VirtualBox-GuestAdditions = silent [ "mount.vboxsf" ];
  mypy = silent [ "mypy" ];
  shared-mime-info = silent [ "update-mime-database" ];
  desktop-file-utils = silent [ "update-desktop-database" ];

  # cloud-init treats NixOS as a separate distribution.
  cloud-init = script ''
    patch -d "$first/lib/python3/dist-packages" -p1 < ${../pkgs/by-name/cl/cloud-init/0001-add-nixos-support.patch}
    sed -i 's,"/usr/sbin"\, "/bin","/run/current-system/sw/bin",' "$first/lib/python3/dist-packages/cloudinit/net/networkd.py"
    sed -i "1s,.*,#!$first/bin/python3.13," "$first/bin/cloud-init"
  '';
  # The ISO builder calls `uuid -v 5 NAMESPACE NAME`.
  libossp-uuid = script ''
    mkdir -p "$first/bin"
    cat > "$first/bin/uuid" <<'END'
    #!${debian.tools}/bin/python3
    import sys, uuid
    _, _, _, space, name = sys.argv
    print(uuid.uuid5(uuid.UUID(space), name))
    END
    chmod +x "$first/bin/uuid"
  '';
  # JSON is valid YAML. The caller runs `json2yaml --unwrap KEY FROM TO`.
  remarshal = script ''
    mkdir -p "$first/bin"
    cat > "$first/bin/json2yaml" <<'END'
    #!${debian.tools}/bin/python3
    import json, sys
    _, _, key, source, target = sys.argv
    json.dump(json.load(open(source))[key], open(target, "w"))
    END
    chmod +x "$first/bin/json2yaml"
  '';

  # One perl with all modules that NixOS' scripts use, whatever modules are asked for.
  perl = script ''
    mv "$first/bin/bash" "$first/lib/sh"
    mv "$first/bin/perl" "$first/bin/.perl"
    cat > "$first/bin/perl" <<END
    #!$first/lib/sh
    export PERL5LIB=$first/lib/perl-base:$first/lib/perl/5.40:$first/share/perl/5.40:$first/share/perl5:$first/lib/perl5:$first/lib/perl5/5.40
    exec $first/bin/.perl "\$@"
    END
    chmod +x "$first/bin/perl"
  '';

  linux-config = script ''
    mv "$first"/boot/config-* config
    rm -r "$first"
    mv config "$first"
  '';
  linux = {
    script = ''
      cp "$first"/boot/vmlinu[xz]-* "$first/bzImage"
      cp "$first"/boot/vmlinu[xz]-* "$first/Image"
      cp "$first"/boot/vmlinu[xz]-* "$first/zImage"
      cp "$first"/boot/config-* "$first/config"
      mkdir -p "$modules/lib"
      mv "$first/lib/modules" "$modules/lib/"
      rm -r "$first"/{boot,lib,share}
      depmod -b "$modules" ${debian.kernelVersion}
      others=dev
    '';
    passthru = rec {
      modDirVersion = debian.kernelVersion;
      config = lib.genAttrs [ "isYes" "isEnabled" "isSet" ] (_: _: true) // lib.genAttrs [ "isNo" "isDisabled" "isModule" ] (_: _: false);
      features = { efiBootStub = true; };
    };
  };
}
