# A live system that starts from a stick, too, and on both firmwares (nixpkgs' default is a BIOS' CD).
{ lib, ... }:
{
  isoImage.makeEfiBootable = lib.mkDefault true;
  isoImage.makeUsbBootable = lib.mkDefault true;
}
