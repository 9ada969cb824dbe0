# ISO that also boots from a USB stick and under UEFI (nixpkgs' default: only a CD under BIOS).
{ lib, ... }:
{
  imports = [ ./iso-label.nix ];

  isoImage.makeEfiBootable = lib.mkDefault true;
  isoImage.makeUsbBootable = lib.mkDefault true;
}
