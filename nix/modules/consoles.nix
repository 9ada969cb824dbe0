# Consoles of a machine: its screen, and the serial line, which is /dev/console because it is the last one.
{ lib, pkgs, ... }:
{
  boot.kernelParams = [ "console=tty0" ]
    ++ lib.optional pkgs.stdenv.hostPlatform.isx86 "console=ttyS0,115200"
    ++ lib.optional pkgs.stdenv.hostPlatform.isAarch "console=ttyAMA0,115200"
    ++ lib.optional pkgs.stdenv.hostPlatform.isRiscV "console=ttyS0,115200";
}
