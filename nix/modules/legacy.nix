# Formats for a PC BIOS: MBR partition table.
{ lib, ... }:
{
  nixosImage.partitionTableType = lib.mkOverride 900 "legacy";
}
