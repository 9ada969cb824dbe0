# NixOS configuration of a disk image: file systems and boot loader as the assembler lays them out, so that `nixos-rebuild switch`
# works on the device. Priority 55 overrides the provider's modules and the user's hardware configuration, which describe other
# disks: device and type of a mount point are overridden, its options stay. declared.nix reports what that drops, and what
# lib.mkForce makes of it.
{ config, lib, options, pkgs, ... }:
let
  cfg = config.nixosImage;
  table = cfg.partitionTableType;
  ours = lib.mkOverride 55;
  # Stronger than a default of nixpkgs, weaker than what a configuration says.
  growing = lib.mkOverride 950;

  filesystems = (builtins.fromTOML (builtins.readFile ../../orchestrator/shared/filesystems.toml)).filesystem;
  row = lib.findFirst (row: row.name == cfg.fsType) null filesystems;
  writable = row.writable or true;
  # GRUB reads its files from the root file system.
  readsRoot = lib.elem table [ "legacy" "legacy+gpt" ];
  isMbr = lib.elem table [ "legacy" "legacy+boot" ];
  firmware = lib.filter (name: cfg.${name} != null) [ "OVMF" "efiFirmware" "efiVariables" ];
  # systemd-repart grows what it is told to, and NixOS has one of the two.
  repart = config.systemd.repart.enable or false || config.boot.initrd.systemd.repart.enable or false;

  uefi = lib.elem table [ "efi" "efixbootldr" "hybrid" ];
  two = table == "efixbootldr";
  # declared.nix turns it off where the image has no place for it.
  limine = lib.elem table [ "efi" "hybrid" ] && config.boot.loader.limine.enable or false;
  fat = label: { device = ours "/dev/disk/by-label/${label}"; label = ours null; fsType = ours "vfat"; options = lib.mkDefault [ "umask=0077" ]; };

  # nixos-rebuild's boot loader hook for BIOS images: it writes only grub.cfg, because GRUB's core image never changes.
  grubMenu = pkgs.writeShellScript "grub-menu" ''
    export PATH=${lib.makeBinPath [ pkgs.coreutils pkgs.findutils pkgs.gnused pkgs.gnugrep ]}
    export TIMEOUT=${toString timeout} LIMIT=${toString limit} KERNELS=${lib.optionalString (table == "legacy+boot") "kernels"}
    export DISTRO=${lib.escapeShellArg config.system.nixos.distroName} SETTINGS=${grubSettings}
    exec ${pkgs.runtimeShell} ${./grub-menu.sh} "$1"
  '';
  # A folder with a file for each setting, and files/ for those that go to /boot.
  grubSettings =
    let menu = { entryOptions = "--class nixos --unrestricted"; } // lib.optionalAttrs (table != "none") cfg.grubMenu // { subEntryOptions = toString config.boot.loader.grub.subEntryOptions; }; in
    pkgs.linkFarm "grub-settings" (
      lib.mapAttrsToList (name: text: { inherit name; path = pkgs.writeText name text; }) (removeAttrs menu [ "files" "theme" ])
      ++ lib.optional (menu ? theme) { name = "theme"; path = menu.theme; }
      ++ lib.mapAttrsToList (name: path: { name = "files/${name}"; inherit path; }) (menu.files or { })
    );
  # NixOS' default has room for a hundred kernels.
  limit = if options.boot.loader.grub.configurationLimit.highestPrio < 1500 then config.boot.loader.grub.configurationLimit else 10;
  timeout = if config.boot.loader.timeout == null then -1 else config.boot.loader.timeout;
in
{
  imports = [ ./first-boot.nix ./grub-settings.nix ];

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
          assertion = readsRoot && ! cfg.onlyNixStore -> lib.elem "grub" (row.read_by or [ ]);
          message = "nixosImage.fsType: with ${table}, GRUB reads the kernel from the root file system, and it cannot read ${cfg.fsType}";
        }
        {
          # --boot-size (priority 45) is refused by that name.
          assertion = lib.elem options.nixosImage.bootSize.highestPrio [ 45 1500 ] || uefi || table == "legacy+boot";
          message = "nixosImage.bootSize: an image with partition table ${table} has no boot partition; leave it out, or set it in image.modules.<variant> of the format that it is for";
        }
        {
          assertion = options.nixosImage.memSize.highestPrio < 1500 -> cfg.touchEFIVars || cfg.postVM != "";
          message = "nixosImage.memSize: no virtual machine makes the image; it is for touchEFIVars and postVM";
        }
        {
          assertion = firmware != [ ] -> cfg.touchEFIVars;
          message = "nixosImage.${lib.head firmware}: no virtual machine makes the image; it is for touchEFIVars";
        }
        {
          assertion = isMbr && cfg.diskSize != "auto" -> cfg.diskSize < 2 * 1024 * 1024;
          message = "nixosImage.diskSize: the partition table of ${table} (MBR) ends at 2 TiB; take legacy+gpt, or efi";
        }
        {
          assertion = builtins.match "[A-Za-z0-9#+.:=@_-]+" cfg.label != null && lib.stringLength cfg.label <= row.label_bytes;
          message = "nixosImage.label: ${builtins.toJSON cfg.label} is no label of ${cfg.fsType} here: 1 to ${toString row.label_bytes} letters, digits, or any of # + - . : = @ _";
        }
        {
          assertion = (cfg.secureBoot.keyFile == null) == (cfg.secureBoot.certFile == null);
          message = "nixosImage.secureBoot: keyFile and certFile need each other";
        }
        {
          assertion = cfg.secureBoot.keyFile != null -> uefi && ! cfg.onlyNixStore;
          message = "nixosImage.secureBoot: an image with partition table ${table} has no systemd-boot to sign; take efi, efixbootldr or hybrid";
        }
        {
          assertion = cfg.emulatedUEFI.enable && cfg.emulatedUEFI.loader == "clover" -> table == "efi";
          message = "nixosImage.emulatedUEFI.loader: clover starts an image with partition table efi, not ${table}";
        }
        {
          assertion = limine -> ! (cfg.emulatedUEFI.enable && cfg.emulatedUEFI.loader == "clover");
          message = "nixosImage.emulatedUEFI.loader: clover starts systemd-boot, not Limine; set boot.loader.limine.biosSupport = true instead";
        }
        {
          assertion = limine -> cfg.secureBoot.keyFile == null;
          message = "nixosImage.secureBoot: Limine starts kernels without the firmware's check; take systemd-boot";
        }
        {
          assertion = cfg.installBootLoader || cfg.onlyNixStore || table == "none";
          message = "nixosImage.installBootLoader: false takes partitionTableType = \"none\", every other table is there for a loader";
        }
        {
          assertion = cfg.rootGPUID == null || ! isMbr && table != "none";
          message = "nixosImage.rootGPUID: the partition table ${table} has no such identifier; take legacy+gpt, or efi";
        }
        {
          assertion = cfg.onlyNixStore -> cfg.contents == [ ] && cfg.configFile == null;
          message = "nixosImage.onlyNixStore: contents and configFile are not possible with onlyNixStore";
        }
      ];

      fileSystems.${if cfg.onlyNixStore then "/nix/store" else "/"} = {
        device = ours "/dev/disk/by-label/${cfg.label}";
        label = ours null;
        fsType = ours cfg.fsType;
        autoResize = if writable then growing true else ours false;
      };
      # growpart's package needs QEMU, which nixpkgs does not have for 32 bits: there, only the file system grows.
      boot.growPartition =
        if table != "none" && !cfg.onlyNixStore && writable && ! repart && pkgs.stdenv.hostPlatform.is64bit then growing true else ours false;
      boot.loader.grub.enable = ours false;
    }

    (lib.mkIf uefi {
      fileSystems."/boot" = fat (if two then "BOOT" else "ESP");
      boot.loader = {
        systemd-boot.enable = ours (! limine);
        systemd-boot.configurationLimit = lib.mkDefault 5;
        systemd-boot.xbootldrMountPoint = ours (if two then "/boot" else null);
        efi.efiSysMountPoint = ours (if two then "/efi" else "/boot");
        # The image boots from the removable-media path, on any machine, so UEFI variables are not written.
        efi.canTouchEfiVariables = ours cfg.touchEFIVars;
      };
    })
    (lib.mkIf two { fileSystems."/efi" = fat "ESP"; })

    # As the image has it.
    (lib.optionalAttrs (options.boot.loader ? limine) (lib.mkIf limine { boot.loader.limine.efiInstallAsRemovable = ours true; }))

    (lib.mkIf (table == "hybrid" && ! limine) {
      boot.loader.systemd-boot.extraInstallCommands = ''
        ${pkgs.coreutils}/bin/mkdir -p /boot/grub
        ${pkgs.gawk}/bin/gawk -f ${./bls-to-grub.awk} /boot/loader/loader.conf /boot/loader/entries/nixos-*.conf > /boot/grub/grub.cfg.new
        ${pkgs.coreutils}/bin/mv /boot/grub/grub.cfg.new /boot/grub/grub.cfg
      '';
    })

    (lib.mkIf (!uefi) {
      boot.loader.external = { enable = ours true; installHook = ours grubMenu; };
      fileSystems."/boot" = lib.mkIf (table == "legacy+boot") (fat "BOOT");
    })
  ];
}
