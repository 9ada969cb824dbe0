# Disk image by nixpkgs' make-disk-image.nix, for options that need its VM: `touchEFIVars` (the boot loader's installer writes
# UEFI variables) and `postVM` (commands after the VM has made the disk).
{ lib, nixpkgs, config, pkgs, format, name }:
let
  cfg = config.nixosImage;
  # Only our assembler installs GRUB for BIOS: make a UEFI disk instead of a hybrid one.
  table = if cfg.partitionTableType == "hybrid" then "efi" else cfg.partitionTableType;
  given = lib.filterAttrs (_: value: value != null);
  # make-disk-image.nix has no automatic size for a boot partition.
  inMiB = size: "${toString (if size == "auto" then 512 else size)}M";
in
if ! lib.elem table [ "efi" "efixbootldr" ] then
  throw "nixosImage: touchEFIVars and postVM need a UEFI disk, not ${table}"
else if ! lib.elem cfg.compression [ null "none" ] then
  throw "nixosImage.compression: nixpkgs' builder, which touchEFIVars and postVM take, does not compress; let postVM do it"
else if cfg.secureBoot.keyFile != null then
  throw "nixosImage.secureBoot: nixpkgs' builder, which touchEFIVars and postVM take, signs nothing"
else if cfg.fsType != "ext4" then
  throw "nixosImage.fsType: nixpkgs' builder, which touchEFIVars and postVM take, makes only ext4, not ${cfg.fsType}"
else
  import (nixpkgs + "/nixos/lib/make-disk-image.nix") ({
    inherit lib config name;
    pkgs = pkgs // { inherit (import ./vm-tools.nix pkgs pkgs) vmTools; };
    inherit (cfg) diskSize fsType label onlyNixStore installBootLoader copyChannel touchEFIVars configFile memSize postVM;
    baseName = name;
    partitionTableType = table;
    additionalSpace = inMiB cfg.additionalSpace;
    bootSize = inMiB cfg.bootSize;
    contents = map (one: { inherit (one) source target mode; user = toString one.user; group = toString one.group; }) cfg.contents;
    additionalPaths = map toString cfg.additionalPaths;
    format = if cfg.format == null then format.diskFormat else cfg.format;
  } // given { inherit (cfg) rootGPUID rootFSUID OVMF efiFirmware efiVariables; })
