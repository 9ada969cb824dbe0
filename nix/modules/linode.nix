# Linode: its own GRUB reads /boot/grub/grub.cfg from a disk without a partition table.
{ lib, ... }:
{
  nixosImage.partitionTableType = lib.mkOverride 900 "none";
}
