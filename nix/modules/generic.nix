# A disk for any machine or hypervisor: no provider that would bring drivers and consoles.
{ lib, modulesPath, pkgs, ... }:
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  # The last one is /dev/console: what starts the image headless reads a serial line.
  boot.kernelParams = [ "console=tty0" ]
    ++ lib.optional pkgs.stdenv.hostPlatform.isx86 "console=ttyS0,115200"
    ++ lib.optional pkgs.stdenv.hostPlatform.isAarch "console=ttyAMA0,115200"
    ++ lib.optional pkgs.stdenv.hostPlatform.isRiscV "console=ttyS0,115200";
}
