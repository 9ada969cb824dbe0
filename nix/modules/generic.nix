# Disk image for any machine or hypervisor: adds virtio drivers and consoles, which no provider's module adds.
{ lib, modulesPath, pkgs, ... }:
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  # The last console is /dev/console: the serial line, for headless machines.
  boot.kernelParams = [ "console=tty0" ]
    ++ lib.optional pkgs.stdenv.hostPlatform.isx86 "console=ttyS0,115200"
    ++ lib.optional pkgs.stdenv.hostPlatform.isAarch "console=ttyAMA0,115200"
    ++ lib.optional pkgs.stdenv.hostPlatform.isRiscV "console=ttyS0,115200";
}
