# NixOS configuration of an SD card, on top of nixpkgs' sd-image modules: maps `nixosImage` options to `sdImage`.
{ config, lib, options, ... }:
let
  cfg = config.nixosImage;
  # A given option of `nixosImage` overrides nixpkgs' default of the `sdImage` option.
  given = name: lib.mkIf (options.nixosImage.${name}.highestPrio < 1500);
  ours = lib.mkOverride 55;
in
{
  sdImage = {
    rootVolumeLabel = given "label" cfg.label;
    rootPartitionUUID = given "rootFSUID" cfg.rootFSUID;
    firmwareSize = given "bootSize" (if cfg.bootSize == "auto" then 0 else cfg.bootSize);
  };

  # Stronger than a hardware-configuration.nix, as on disks.
  fileSystems."/" = {
    device = ours "/dev/disk/by-label/${config.sdImage.rootVolumeLabel}";
    fsType = ours "ext4";
  };

  assertions = [
    {
      assertion = cfg.fsType == "ext4";
      message = "nixosImage.fsType: U-Boot reads an SD card's kernel only from ext4, not from ${cfg.fsType}";
    }
    {
      assertion = !options.nixosImage.partitionTableType.isDefined;
      message = "nixosImage.partitionTableType: SD card formats have a fixed one; use another format, for example raw-efi";
    }
    {
      assertion = cfg.diskSize == "auto" || cfg.diskSize < 2 * 1024 * 1024;
      message = "nixosImage.diskSize: an SD card's partition table (MBR) ends at 2 TiB";
    }
  ];
}
