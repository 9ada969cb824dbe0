# ISO that also boots from a USB stick and under UEFI (nixpkgs' default: only a CD under BIOS).
{ lib, ... }:
{
  isoImage.makeEfiBootable = lib.mkDefault true;
  isoImage.makeUsbBootable = lib.mkDefault true;
}
