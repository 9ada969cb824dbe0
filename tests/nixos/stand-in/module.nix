# NixOS settings for stand-ins. A configuration imports this module in addition to a user's settings.
{ config, lib, pkgs, ... }:
let
  systemd = config.systemd.package;
  # Debian's programs call each other by Debian's paths.
  links = {
    "/usr/lib/systemd" = "${systemd}/lib/systemd";
    "/usr/lib/udev" = "${systemd}/lib/udev";
    "/usr/lib/openssh" = "${pkgs.openssh}/lib/openssh";
    "/usr/lib/dhcpcd" = "${pkgs.dhcpcd}/lib/dhcpcd";
    "/usr/lib/resolvconf" = "${pkgs.openresolv}/lib/resolvconf";
    "/usr/sbin/resolvconf" = "${pkgs.openresolv}/bin/resolvconf";
    "/usr/lib/modules" = "/run/booted-system/kernel-modules/lib/modules";
    "/lib/modules" = "/run/booted-system/kernel-modules/lib/modules";
    "/usr/share/dbus-1" = "/etc/dbus-1";
    "/usr/bin/dbus-broker" = "${pkgs.dbus-broker}/bin/dbus-broker";
    "/usr/bin/mount" = "${pkgs.util-linux}/bin/mount";
    "/usr/bin/umount" = "${pkgs.util-linux}/bin/umount";
    "/usr/sbin/agetty" = "${pkgs.util-linux}/bin/agetty";
    "/usr/sbin/sulogin" = "${pkgs.util-linux}/bin/sulogin";
    "/usr/bin/kmod" = "${pkgs.kmod}/bin/kmod";
    "/usr/sbin/unix_chkpwd" = "/run/wrappers/bin/unix_chkpwd";
  };
in
{
  # The links are made by an activation script, the first program of stage 2, before systemd.
  system.activationScripts.standIn = lib.concatStrings (lib.mapAttrsToList
    (place: target: ''
      mkdir -p ${dirOf place}
      ln -sfn ${target} ${place}
    '')
    links);
  boot.initrd.systemd.contents = {
    "/usr/lib/systemd".source = "${systemd}/lib/systemd";
    "/usr/lib/udev".source = "${systemd}/lib/udev";
  };
  # Folders of Debian's sshd and logrotate; the latter runs on a full hour, and fails without.
  systemd.tmpfiles.rules = [ "d /run/sshd 0755 root root" "d /var/lib/logrotate 0755 root root" ];

  # On a busy host, devices of an emulated machine may need more than systemd's 90 s.
  boot.kernelParams = [ "systemd.default_device_timeout_sec=600" ];
  # An RSA key takes minutes on an emulated machine.
  services.openssh.hostKeys = [{ type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; }];

  # NixOS' system call filter does not fit Debian's older dhcpcd.
  systemd.services.dhcpcd.serviceConfig.SystemCallFilter = lib.mkForce [ ];
  # Nor does it ever end its start if udev renames the card meanwhile (NetworkConfiguration/dhcpcd, issues 503 and 504, which NixOS'
  # newer one has mended): cards keep the kernel's names.
  networking.usePredictableInterfaceNames = false;

  # Debian's cloud kernel does not have all modules of NixOS' initrd.
  boot.initrd.allowMissingModules = true;

  # Features without a useful stand-in.
  services.nscd.enable = false;
  system.nssModules = lib.mkForce [ ];
  security.sudo.enable = false;
  networking.firewall.enable = false;
  systemd.shutdownRamfs.enable = false;
  boot.initrd.systemd.fido2.enable = false;
  boot.initrd.systemd.tpm2.enable = false;
  services.lvm.enable = false;
  boot.bcache.enable = false;
  console.enable = lib.mkForce false;
  fonts.fontconfig.enable = false;
  documentation.enable = false;
  environment.stub-ld.enable = false;
}
