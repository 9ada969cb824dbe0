# A disk by nixpkgs' make-disk-image.nix, for what only a VM can do: `touchEFIVars` (the installer itself talks to a firmware),
# `postVM` (commands in the derivation that holds the disk).
{ lib, nixpkgs, config, pkgs, format, name }:
let
  cfg = config.nixosImage;
  # GRUB's core comes from our assembler, so nothing would start by BIOS here.
  table = if cfg.partitionTableType == "hybrid" then "efi" else cfg.partitionTableType;
  given = lib.filterAttrs (_: value: value != null);
  # It has no automatic size for a boot partition.
  inMiB = size: "${toString (if size == "auto" then 512 else size)}M";
in
if ! lib.elem table [ "efi" "efixbootldr" ] then
  throw "nixosImage: touchEFIVars and postVM take a UEFI disk, not ${table}"
else
  import (nixpkgs + "/nixos/lib/make-disk-image.nix") ({
    inherit lib config pkgs name;
    inherit (cfg) diskSize fsType label onlyNixStore installBootLoader copyChannel touchEFIVars configFile memSize postVM;
    baseName = name;
    partitionTableType = table;
    additionalSpace = inMiB cfg.additionalSpace;
    bootSize = inMiB cfg.bootSize;
    contents = map (one: { inherit (one) source target mode; user = toString one.user; group = toString one.group; }) cfg.contents;
    additionalPaths = map toString cfg.additionalPaths;
    format = if cfg.format == null then format.diskFormat else cfg.format;
  } // given { inherit (cfg) rootGPUID rootFSUID; })
