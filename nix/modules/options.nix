# `nixosImage`: what can be said about an image beside the system in it. Names and meanings are those of nixpkgs'
# make-disk-image.nix where it has one. Sizes are MiB, or have a unit: "512M", "2G".
{ config, lib, options, pkgs, ... }:
let
  inherit (lib) mkOption types;

  units = { M = 1; G = 1024; T = 1024 * 1024; };
  inMiB = text: lib.toInt (lib.substring 0 (lib.stringLength text - 1) text) * units.${lib.substring (lib.stringLength text - 1) 1 text};
  size = types.coercedTo (types.strMatching "[1-9][0-9]*[MGT]") inMiB types.ints.unsigned;
  whole = types.either (types.enum [ "auto" ]) size;

  # Clover's archive, pinned like all that comes from outside.
  clover = lib.importJSON ../../locks/clover.json;

  table = name: (builtins.fromTOML (builtins.readFile (../../orchestrator/shared + "/${name}s.toml"))).${name};
  # Those that are made; `root` and `writable` are true where the table does not say.
  filesystems = lib.filter (row: row.root or true && ! row ? refused) (table "filesystem");
  diskFormats = map (row: row.name) (lib.filter (row: row.assembled or true) (table "disk_format"));

  uuid = types.nullOr (types.strMatching "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}");
  owner = types.either types.ints.unsigned types.str;

  # Modules of nixpkgs' image variants give sizes at this priority, for a VM that cannot measure first: not a user's wish.
  isGiven = option: option.isDefined && option.highestPrio < 1490;
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
      description = "Size of the whole disk; `auto` is what the system needs, and `additionalSpace`.";
    };
    additionalSpace = mkOption {
      type = size;
      default = 512;
      description = "What stays free in the root file system when `diskSize` is `auto`.";
    };
    bootSize = mkOption {
      type = whole;
      default = 512;
      description = "Size of the FAT partition with the kernels. `auto` has room for three generations like the first one.";
    };
    partitionTableType = mkOption {
      type = types.enum [ "none" "legacy" "legacy+boot" "legacy+gpt" "efi" "efixbootldr" "hybrid" ];
      description = "Partition table; each format has a default. SD cards always have their own.";
    };
    fsType = mkOption {
      type = types.enum (map (row: row.name) filesystems);
      default = "ext4";
      description = "Root file system. A store alone (`onlyNixStore`) can be erofs, which is read-only.";
    };
    label = mkOption {
      type = types.str;
      default = if config.nixosImage.onlyNixStore then "nix-store" else "nixos";
      defaultText = lib.literalExpression ''"nixos", or "nix-store" with `onlyNixStore`'';
      description = "Label of the root file system, by which the system finds it.";
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
          source = mkOption { type = types.path; description = "File or folder."; };
          target = mkOption { type = types.str; description = "Where it goes in the root file system."; };
          mode = mkOption { type = types.strMatching "[0-7]{0,4}"; default = ""; description = "Octal; empty keeps the store's."; };
          user = mkOption { type = owner; default = 0; description = "Owner: number, or name of a user with a fixed uid."; };
          group = mkOption { type = owner; default = 0; description = "Group: number, or name of a group with a fixed gid."; };
        };
      });
      default = [ ];
      description = "Files for the root file system that are not in the store. They pass through the store: no secrets here.";
    };
    configFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "File for /etc/nixos/configuration.nix on the device.";
    };
    additionalPaths = mkOption {
      type = types.listOf types.path;
      default = [ ];
      description = "Store paths that the image has beside the system's.";
    };
    copyChannel = mkOption {
      type = types.bool;
      default = false;
      description = "Put nixpkgs itself into the image, as root's channel `nixos` (some 400 MB).";
    };
    onlyNixStore = mkOption {
      type = types.bool;
      default = false;
      description = ''
        The root file system is the content of /nix/store alone, for a system that mounts it there and has its root elsewhere:
        no boot loader, no registration, no `contents`, no `configFile`.
      '';
    };
    format = mkOption {
      type = types.nullOr (types.enum diskFormats);
      default = null;
      description = "Kind of the image file; null is the format's own.";
    };
    compression = mkOption {
      type = types.nullOr (types.enum [ "none" "zstd" "xz" "gz" ]);
      default = null;
      description = "Compression of the image file; null is the format's own.";
    };
    baseName = mkOption {
      type = types.nullOr (types.strMatching "[^/]+");
      default =
        let upstream = options.image.baseName or null;
        in if upstream != null && isGiven upstream then config.image.baseName else null;
      defaultText = lib.literalExpression "config.image.baseName if set, else null";
      description = "Name of the image file without suffix; null is `nixos-image-<format>-<version>-<system>`.";
    };
    deterministic = mkOption {
      type = types.enum [ true ];
      default = true;
      description = "The same input always gives the same image; it is an option so that configurations that ask for it evaluate.";
    };

    emulatedUEFI = {
      enable = mkOption {
        type = types.bool;
        default = pkgs.stdenv.hostPlatform.isx86_64;
        defaultText = lib.literalExpression "pkgs.stdenv.hostPlatform.isx86_64";
        description = "A UEFI image starts on a PC's BIOS, too, with one configuration: systemd-boot's.";
      };
      loader = mkOption {
        type = types.enum [ "grub" "clover" ];
        default = "grub";
        description = "`grub` shows a menu of systemd-boot's entries; `clover` emulates UEFI and starts systemd-boot itself.";
      };
      clover = {
        url = mkOption {
          type = types.str;
          default = clover.url;
          defaultText = lib.literalMD "that in `locks/clover.json`";
          description = "Archive with Clover's ISO image. The default is a build that knows virtio disks.";
        };
        hash = mkOption {
          type = types.str;
          default = clover.hash;
          defaultText = lib.literalMD "that in `locks/clover.json`";
          description = "Its hash.";
        };
      };
    };

    cloud.enable = lib.mkEnableOption "cloud-init, reading a NoCloud or ConfigDrive disk";

    allowNoLogin = mkOption {
      type = types.bool;
      default = false;
      description = "Make images that nobody can log in to.";
    };

    # Only a VM can do these: see nix/disk-image.nix.
    touchEFIVars = mkOption {
      type = types.bool;
      default = false;
      description = "Let the boot loader's installer write UEFI variables, and deliver them beside the image. Needs a VM.";
    };
    postVM = mkOption {
      type = types.lines;
      default = "";
      description = "Shell commands after the image is made, with `$diskImage` and `$out`. Needs a VM.";
    };
    memSize = mkOption {
      type = types.ints.positive;
      default = 1024;
      description = "Memory of that VM.";
    };
    installBootLoader = mkOption {
      type = types.bool;
      default = !config.nixosImage.onlyNixStore;
      defaultText = lib.literalExpression "!onlyNixStore";
      description = "Whether the image gets a boot loader.";
    };
  };
}
