# The disk starts on both of Proxmox' firmwares; its module allows systemd-boot with one of them only.
{ lib, ... }:
{
  proxmox.qemuConf.bios = lib.mkOverride 55 "ovmf";
  # The module's default is the name of a backup (VMA), which Proxmox would take this disk for.
  nixosImage.baseName = lib.mkOverride 1400 null;
}
