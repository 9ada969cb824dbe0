# NixOS configuration of a disk image: file systems and boot loader as the assembler lays them out, so that `nixos-rebuild switch`
# works on the device. Priority 55 overrides the provider's modules and the user's hardware configuration, which describe other
# disks; lib.mkForce still wins.
{ config, lib, pkgs, ... }:
let
  cfg = config.nixosImage;
  table = cfg.partitionTableType;
  ours = lib.mkOverride 55;

  filesystems = (builtins.fromTOML (builtins.readFile ../../orchestrator/shared/filesystems.toml)).filesystem;
  writable = (lib.findFirst (row: row.name == cfg.fsType) null filesystems).writable or true;

  uefi = lib.elem table [ "efi" "efixbootldr" "hybrid" ];
  two = table == "efixbootldr";
  fat = label: { device = "/dev/disk/by-label/${label}"; fsType = "vfat"; options = [ "umask=0077" ]; };

  # nixos-rebuild's boot loader hook for BIOS images: it writes only grub.cfg, because GRUB's core image never changes.
  grubMenu = pkgs.writeShellScript "grub-menu" ''
    export PATH=${lib.makeBinPath [ pkgs.coreutils pkgs.gnused pkgs.gnugrep ]}
    export TIMEOUT=${toString timeout} LIMIT=10 KERNELS=${lib.optionalString (table == "legacy+boot") "kernels"}
    exec ${pkgs.runtimeShell} ${./grub-menu.sh} "$1"
  '';
  timeout = if config.boot.loader.timeout == null then -1 else config.boot.loader.timeout;
in
{
  imports = [ ./first-boot.nix ];

  config = lib.mkMerge [
    {
      nixosImage.partitionTableType = lib.mkDefault (
        if cfg.onlyNixStore then "none"
        else if cfg.emulatedUEFI.enable && cfg.emulatedUEFI.loader == "grub" then "hybrid" else "efi"
      );
      assertions = [
        {
          assertion = ! writable -> cfg.onlyNixStore;
          message = "nixosImage.fsType: NixOS needs a writable root file system; ${cfg.fsType} needs onlyNixStore";
        }
        {
          assertion = lib.elem table [ "efi" "efixbootldr" "none" ] || pkgs.stdenv.hostPlatform.isx86;
          message = "nixosImage.partitionTableType: only a PC BIOS (x86) boots from ${table}";
        }
        {
          assertion = cfg.onlyNixStore -> cfg.contents == [ ] && cfg.configFile == null;
          message = "nixosImage.onlyNixStore: contents and configFile are not possible with onlyNixStore";
        }
      ];

      fileSystems.${if cfg.onlyNixStore then "/nix/store" else "/"} = ours {
        device = "/dev/disk/by-label/${cfg.label}";
        inherit (cfg) fsType;
        autoResize = writable;
      };
      # growpart's package needs QEMU, which nixpkgs does not have for 32 bits: there, only the file system grows.
      boot.growPartition = ours (table != "none" && !cfg.onlyNixStore && writable && pkgs.stdenv.hostPlatform.is64bit);
      boot.loader.grub.enable = ours false;
    }

    (lib.mkIf uefi {
      fileSystems."/boot" = ours (fat (if two then "BOOT" else "ESP"));
      boot.loader = {
        systemd-boot.enable = ours true;
        systemd-boot.configurationLimit = lib.mkDefault 5;
        systemd-boot.xbootldrMountPoint = lib.mkIf two (ours "/boot");
        efi.efiSysMountPoint = ours (if two then "/efi" else "/boot");
        # The image boots from the removable-media path, on any machine, so UEFI variables are not written.
        efi.canTouchEfiVariables = ours cfg.touchEFIVars;
      };
    })
    (lib.mkIf two { fileSystems."/efi" = ours (fat "ESP"); })

    (lib.mkIf (table == "hybrid") {
      boot.loader.systemd-boot.extraInstallCommands = ''
        ${pkgs.coreutils}/bin/mkdir -p /boot/grub
        ${pkgs.gawk}/bin/gawk -f ${./bls-to-grub.awk} /boot/loader/loader.conf /boot/loader/entries/nixos-*.conf > /boot/grub/grub.cfg.new
        ${pkgs.coreutils}/bin/mv /boot/grub/grub.cfg.new /boot/grub/grub.cfg
      '';
    })

    (lib.mkIf (!uefi) {
      boot.loader.external = { enable = ours true; installHook = ours grubMenu; };
      fileSystems."/boot" = lib.mkIf (table == "legacy+boot") (ours (fat "BOOT"));
    })
  ];
}
