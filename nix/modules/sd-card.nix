# NixOS configuration of an SD card, on top of nixpkgs' sd-image modules: maps `nixosImage` options to `sdImage`.
{ config, lib, options, ... }:
let
  cfg = config.nixosImage;
  # A given option of `nixosImage` overrides nixpkgs' default of the `sdImage` option.
  given = name: lib.mkIf (options.nixosImage.${name}.highestPrio < 1500);
  # Commands that nixpkgs runs on the finished image in a Nix build; the assembler does not support them.
  commands = lib.filter (name: config.sdImage.${name} != "") [ "preBuildCommands" "postBuildCommands" ];
in
{
  sdImage = {
    rootVolumeLabel = given "label" cfg.label;
    rootPartitionUUID = given "rootFSUID" cfg.rootFSUID;
    firmwareSize = given "bootSize" (if cfg.bootSize == "auto" then 0 else cfg.bootSize);
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
      assertion = commands == [ ];
      message = "sdImage.${lib.concatStringsSep ", sdImage." commands}: not supported; write boot loaders to the card afterwards";
    }
  ];
}
