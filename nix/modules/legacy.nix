# A PC's BIOS, MBR.
{ lib, ... }:
{
  nixosImage.partitionTableType = lib.mkOverride 900 "legacy";
}
