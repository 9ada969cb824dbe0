# The guest's side of an SD card, on top of nixpkgs' sd-image modules, whose options (`sdImage`) the image follows.
{ config, lib, options, ... }:
let
  cfg = config.nixosImage;
  # What `nixosImage` says is stronger than nixpkgs' defaults, and goes through nixpkgs' options, which its modules read.
  given = name: lib.mkIf (options.nixosImage.${name}.highestPrio < 1500);
  # These run on the finished image in a Nix build; the assembler works outside of one.
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
      message = "nixosImage.fsType: U-Boot reads an SD card's kernel from ext4, not from ${cfg.fsType}";
    }
    {
      assertion = !options.nixosImage.partitionTableType.isDefined;
      message = "nixosImage.partitionTableType: an SD card has its own; use another format, raw-efi for example";
    }
    {
      assertion = commands == [ ];
      message = "sdImage.${lib.concatStringsSep ", sdImage." commands}: not run here; write such boot loaders onto the card afterwards";
    }
  ];
}
