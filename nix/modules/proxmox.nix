# Proxmox: the disk boots under OVMF and SeaBIOS, but nixpkgs' module allows systemd-boot only with OVMF.
{ lib, ... }:
{
  proxmox.qemuConf.bios = lib.mkOverride 55 "ovmf";
}
