# Proxmox: the disk boots under OVMF and SeaBIOS, but nixpkgs' module allows systemd-boot only with OVMF.
{ lib, ... }:
{
  proxmox.qemuConf.bios = lib.mkOverride 55 "ovmf";
  # The module's default name is that of a backup (VMA), which Proxmox would mistake this disk for.
  nixosImage.baseName = lib.mkOverride 1400 null;
}
