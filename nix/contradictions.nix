# What in a configuration cannot be an image of a format, whatever else it says: a system without what starts it, and nixpkgs' modules
# of other kinds of image. Returns the error, or null.
#
#   format   row of nix/formats.nix
#   kind     of nix/options.toml that the format has beside disks and cards, null for these
#   options  of the configuration without the format's modules
#   guest    the configuration with them
#   placesOf " (FILE:LINE)" of an option's definitions
{ lib }:
{ format, kind, options, guest, placesOf }:
let
  inherit (guest.config) boot;
  isCard = lib.elem "./sd-card.nix" format.modules;
  needsKernel = kind != "container";

  # nixpkgs' modules of images, by an option that only they have; `isFor` is whether the format is made with it.
  imported = [
    { option = [ "isoImage" ]; module = "installer/cd-dvd/iso-image.nix"; isFor = format.recipe or "" == "iso"; take = "iso"; }
    { option = [ "netboot" ]; module = "installer/netboot/netboot.nix"; isFor = lib.hasPrefix "kexec" (format.recipe or ""); take = "kexec"; }
    { option = [ "sdImage" ]; module = "installer/sd-card/sd-image.nix"; isFor = isCard; take = "sd-aarch64, or another one for SD cards"; }
    { option = [ "proxmoxLXC" ]; module = "virtualisation/proxmox-lxc.nix"; isFor = kind == "container"; take = "proxmox-lxc"; }
    { option = [ "proxmox" ]; module = "virtualisation/proxmox-image.nix"; isFor = format.upstream == "proxmox"; take = "proxmox"; }
    { option = [ "virtualisation" "bootLoaderDevice" ]; module = "virtualisation/qemu-vm.nix"; isFor = kind == "vm" || kind == "machine"; take = "vm"; }
  ];
  strangers = lib.filter (one: ! one.isFor && lib.hasAttrByPath one.option options) imported;

  # Settings of the system, of which an image to start takes the opposite.
  settings = [
    { is = boot.isContainer; path = [ "boot" "isContainer" ]; why = "is true: the system has no kernel, so nothing can start it; take the format docker or lxc"; }
    { is = ! boot.kernel.enable or true; path = [ "boot" "kernel" "enable" ]; why = "is false: the image could not start; leave it out"; }
    { is = ! boot.initrd.enable; path = [ "boot" "initrd" "enable" ]; why = "is false: the initrd finds the image's root by its label; leave it out"; }
  ];
  wrong = lib.filter (one: one.is) settings;

  # The script's disk has a boot loader only if a virtual machine installs it.
  script = guest.config.virtualisation.vmVariant.virtualisation;
  # Programs of another CPU: the kernel starts none of them.
  inherit (guest.pkgs.stdenv) hostPlatform;
  kernel = boot.kernelPackages.kernel.stdenv.hostPlatform;
in
# A format-path file says itself what it is.
if kind == "own" then null
else if strangers != [ ] then
  let one = lib.head strangers; in
  "format ${format.name}: the configuration imports nixpkgs' ${one.module}, which is for another format: leave it out, or take -f ${one.take}"
else if needsKernel && wrong != [ ] then
  let one = lib.head wrong; in
  "${lib.concatStringsSep "." one.path}${placesOf one.path} ${one.why}"
else if needsKernel && kernel.system != hostPlatform.system then
  "boot.kernelPackages${placesOf [ "boot" "kernelPackages" ]} is for ${kernel.system}, but the image is for ${hostPlatform.system}: take it from pkgs"
else if format.recipe or "" == "vm" && script.useBootLoader then
  "format ${format.name}: virtualisation.vmVariant.virtualisation.useBootLoader${placesOf [ "virtualisation" "vmVariant" ]} is true, and a virtual machine installs the boot loader: take -f vm-bootloader"
else null
