# Declares the options `nixosImage`. Names and meanings are those of nixpkgs' make-disk-image.nix, where it has the option. Sizes
# are MiB, or have a unit: "512M", "2G".
{ config, lib, modulesPath, options, pkgs, ... }:
let
  inherit (lib) mkOption types;

  units = { M = 1; G = 1024; T = 1024 * 1024; };
  inMiB = text: lib.toInt (lib.substring 0 (lib.stringLength text - 1) text) * units.${lib.substring (lib.stringLength text - 1) 1 text};
  size = types.coercedTo (types.strMatching "[1-9][0-9]*[MGT]") inMiB types.ints.unsigned;
  whole = types.either (types.enum [ "auto" ]) size;

  # Pin of Clover's archive.
  clover = lib.importJSON ../../locks/clover.json;

  table = name: (builtins.fromTOML (builtins.readFile (../../orchestrator/shared + "/${name}s.toml"))).${name};
  # Supported root file systems; `root` is true by default.
  filesystems = lib.filter (row: row.root or true && ! row ? refused) (table "filesystem");
  diskFormats = map (row: row.name) (lib.filter (row: row.assembled or true) (table "disk_format"));

  uuid = types.nullOr (types.strMatching "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}");
  owner = types.either types.ints.unsigned types.str;

  # nixpkgs' image variants set sizes with priority 1490 or weaker, for a VM that cannot measure first: such a value is not the
  # user's.
  isGiven = option: option.isDefined && option.highestPrio < 1490;
  # Whether a value set in `file` is the user's: nixpkgs' own modules name images after their format alone.
  isUsers = file: ! lib.hasPrefix modulesPath file;
  upstreamSize = options.virtualisation.diskSize or null;
in
{
  key = "nixos-image/options";
  _file = ./options.nix;

  options.nixosImage = {
    diskSize = mkOption {
      type = whole;
      default = if upstreamSize != null && isGiven upstreamSize then config.virtualisation.diskSize else "auto";
      defaultText = lib.literalExpression ''config.virtualisation.diskSize if set, else "auto"'';
      description = "Size of the whole disk; `auto` is the system's size plus `additionalSpace`.";
    };
    additionalSpace = mkOption {
      type = size;
      default = 512;
      description = "Free space in the root file system if `diskSize` is `auto`.";
    };
    bootSize = mkOption {
      type = whole;
      default = 512;
      description = "Size of the FAT partition with the kernels. `auto` is three times the size of its first files.";
    };
    partitionTableType = mkOption {
      type = types.enum [ "none" "legacy" "legacy+boot" "legacy+gpt" "efi" "efixbootldr" "hybrid" ];
      description = "Partition table; the default depends on the format. SD card formats have a fixed one.";
    };
    fsType = mkOption {
      type = types.enum (map (row: row.name) filesystems);
      default = "ext4";
      description = "Root file system. erofs, which is read-only, is possible only with `onlyNixStore`.";
    };
    label = mkOption {
      type = types.str;
      default = if config.nixosImage.onlyNixStore then "nix-store" else "nixos";
      defaultText = lib.literalExpression ''"nixos", or "nix-store" with `onlyNixStore`'';
      description = "Label of the root file system; the system mounts it by this label.";
    };
    rootFSUID = mkOption {
      type = uuid;
      default = null;
      description = "UUID of the root file system; null derives one from the image's content.";
    };
    rootGPUID = mkOption {
      type = uuid;
      default = null;
      description = "GPT identifier of the root partition; null derives one from the image's content.";
    };
    contents = mkOption {
      type = types.listOf (types.submodule {
        options = {
          source = mkOption { type = types.path; description = "File or folder to copy, or a pattern with `*`. Links are followed."; };
          target = mkOption { type = types.str; description = "Absolute path in the image; of a pattern, the folder of what matches."; };
          mode = mkOption { type = types.strMatching "[0-7]{0,4}"; default = ""; description = "File mode, octal; empty keeps the mode in the Nix store."; };
          user = mkOption { type = owner; default = 0; description = "Owner: number, or name of a user with a fixed uid."; };
          group = mkOption { type = owner; default = 0; description = "Group: number, or name of a group with a fixed gid."; };
        };
      });
      default = [ ];
      description = "Files to copy into the root file system. No secrets: they pass through the builder's Nix store.";
    };
    configFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "File to copy to /etc/nixos/configuration.nix on the device.";
    };
    additionalPaths = mkOption {
      type = types.listOf types.path;
      default = [ ];
      description = "Further store paths, copied with their closures.";
    };
    copyChannel = mkOption {
      type = types.bool;
      default = false;
      description = "Copy nixpkgs into the image as root's channel `nixos` (some 400 MB).";
    };
    onlyNixStore = mkOption {
      type = types.bool;
      default = false;
      description = ''
        The image contains only the content of /nix/store, for a system that mounts it there and has its root elsewhere:
        no boot loader, no registration, no `contents`, no `configFile`.
      '';
    };
    format = mkOption {
      type = types.nullOr (types.enum diskFormats);
      default = null;
      description = "Disk format of the image file; null is the format's default.";
    };
    compression = mkOption {
      type = types.nullOr (types.enum [ "none" "zstd" "xz" "gz" ]);
      default = null;
      description = "Compression of the image file; null is the format's default.";
    };
    baseName = mkOption {
      type = types.nullOr (types.strMatching "[^/]+");
      default =
        let upstream = options.image.baseName or null;
        in if upstream != null && lib.any isUsers upstream.files then config.image.baseName else null;
      defaultText = lib.literalExpression "config.image.baseName if set, else null";
      description = "Name of the image file without suffix; null is `<host>-<format>-<system>-<version>`.";
    };
    configurationName = mkOption {
      type = types.strMatching "[^/]+";
      default = "nixos";
      description = "What stands for the host in `baseName` where `networking.hostName` is not set. The command line gives it: the configuration's file or attribute.";
    };
    deterministic = mkOption {
      type = types.enum [ true ];
      default = true;
      description = "Always true: equal inputs give equal images. Exists for configurations that set it.";
    };

    emulatedUEFI = {
      enable = mkOption {
        type = types.bool;
        default = pkgs.stdenv.hostPlatform.isx86_64;
        defaultText = lib.literalExpression "pkgs.stdenv.hostPlatform.isx86_64";
        description = "Whether a UEFI image also boots on a PC BIOS, with systemd-boot's entries.";
      };
      loader = mkOption {
        type = types.enum [ "grub" "clover" ];
        default = "grub";
        description = "`grub` has a menu of systemd-boot's entries; `clover` emulates UEFI and starts systemd-boot.";
      };
      clover = {
        url = mkOption {
          type = types.str;
          default = clover.url;
          defaultText = lib.literalMD "that in `locks/clover.json`";
          description = "Archive with Clover's ISO image. The default build has virtio drivers.";
        };
        hash = mkOption {
          type = types.str;
          default = clover.hash;
          defaultText = lib.literalMD "that in `locks/clover.json`";
          description = "Hash of Clover's archive.";
        };
      };
    };

    cloud.enable = lib.mkEnableOption "cloud-init, reading a NoCloud or ConfigDrive disk";

    secureBoot = lib.genAttrs [ "keyFile" "certFile" ] (name: mkOption {
      type = types.nullOr (types.addCheck types.str (path: path != "" && ! lib.hasPrefix builtins.storeDir path) // {
        description = "path on the caller's computer, as a string, outside of the Nix store";
      });
      default = null;
      example = { keyFile = "/root/keys/db.key"; certFile = "/root/keys/db.crt"; }.${name};
      description = {
        keyFile = "The image must be signed for Secure Boot, with this private key. The build does not read it: it ends before it starts unless the command line has --secure-boot-key.";
        certFile = "Certificate of `keyFile`, which the command line names by --secure-boot-cert.";
      }.${name};
    });

    allowNoLogin = mkOption {
      type = types.bool;
      default = false;
      description = "Allow images that nobody can log in to.";
    };

    ignore = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "fileSystems./home" "boot.loader.grub.users" ];
      description = ''
        Options that the image is made without, where it cannot honour them: by the name that the refusal gives, or one above it.
        A warning names them.
      '';
    };
    ignoreHardware = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Leave out the disks of `hardware-configuration.nix` (`fileSystems`, `swapDevices`, `boot.initrd.luks.devices`); what else is in
        it, drivers and firmware, stays.
      '';
    };

    # Which late values the command line gives, not what they are; `places` is where the system reads them: see late.nix.
    late = lib.mapAttrs (_: type: mkOption { type = type.of; inherit (type) default; internal = true; description = "A late value."; }) {
      hostName = { of = types.bool; default = false; };
      keyUsers = { of = types.listOf types.str; default = [ ]; };
      everyDeviceHasKey = { of = types.bool; default = false; };
      wifi = { of = types.bool; default = false; };
      identity = { of = types.bool; default = false; };
      injected = { of = types.listOf types.str; default = [ ]; };
      places = { of = types.attrsOf types.raw; default = { }; };
    };

    # The following options need a VM: see nix/disk-image.nix.
    touchEFIVars = mkOption {
      type = types.bool;
      default = false;
      description = "Let the boot loader's installer write UEFI variables, which are delivered beside the image. Needs a VM.";
    };
    postVM = mkOption {
      type = types.lines;
      default = "";
      description = "Shell commands after the image is made, with `$diskImage` and `$out`. Needs a VM.";
    };
    memSize = mkOption {
      type = types.ints.positive;
      default = 1024;
      description = "Memory in MiB of the VM of `touchEFIVars` and `postVM`.";
    };
    OVMF = mkOption {
      type = types.nullOr types.package;
      default = null;
      description = "UEFI firmware of the VM of `touchEFIVars`; null is nixpkgs' `OVMF.fd`.";
    };
    efiFirmware = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "The file of that firmware's code; null is that of `OVMF`.";
    };
    efiVariables = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "The file with the UEFI variables that the VM of `touchEFIVars` starts with; null is that of `OVMF`.";
    };
    installBootLoader = mkOption {
      type = types.bool;
      default = !config.nixosImage.onlyNixStore;
      defaultText = lib.literalExpression "!onlyNixStore";
      description = "Whether the image gets a boot loader.";
    };
  };
}
