# NixOS configuration of an SD card, on top of nixpkgs' sd-image modules: maps `nixosImage` options to `sdImage`.
{ config, lib, options, ... }:
let
  cfg = config.nixosImage;
  # A given option of `nixosImage` overrides nixpkgs' default of the `sdImage` option.
  given = name: lib.mkIf (options.nixosImage.${name}.highestPrio < 1500);
  ours = lib.mkOverride 55;
  # nixos-hardware's modules of the Raspberry Pi write the firmware partition in nixpkgs' place. U-Boot is not on it unless it is asked
  # for, and config.txt then names no kernel that is there.
  pi = config.hardware.raspberry-pi or { };
  withoutUBoot = lib.hasInfix "install-rpi-firmware" config.sdImage.populateFirmwareCommands
    && ! (pi.firmware.uboot.enable or true)
    && ! lib.any (section: lib.isAttrs section && section ? kernel) (lib.attrValues (pi.configtxt.settings or { }));
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
  fileSystems."/boot/firmware" = {
    device = ours "/dev/disk/by-label/${config.sdImage.firmwarePartitionName}";
    fsType = ours "vfat";
  };

  assertions = [
    {
      assertion = ! withoutUBoot;
      message = "hardware.raspberry-pi.firmware.uboot.enable is false, so the card has no U-Boot, and nothing would start its menu; set it to true";
    }
    {
      assertion = builtins.match "[A-Za-z0-9#+.:=@_-]{1,16}" config.sdImage.rootVolumeLabel != null;
      message = "sdImage.rootVolumeLabel: ${builtins.toJSON config.sdImage.rootVolumeLabel} is no label of ext4 here: 1 to 16 letters, digits, or any of # + - . : = @ _";
    }
    {
      assertion = builtins.match "[A-Za-z0-9#@_-]{1,11}" config.sdImage.firmwarePartitionName != null;
      message = "sdImage.firmwarePartitionName: ${builtins.toJSON config.sdImage.firmwarePartitionName} is no label of FAT here: 1 to 11 letters, digits, or any of # - @ _";
    }
    {
      assertion = builtins.match "(0x)?[0-9A-Fa-f]{8}" config.sdImage.firmwarePartitionID != null;
      message = "sdImage.firmwarePartitionID: ${builtins.toJSON config.sdImage.firmwarePartitionID} is not 8 hexadecimal digits";
    }
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
