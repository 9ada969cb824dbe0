# Installer ISO: starts sshd at boot, so that an SSH key in the configuration suffices to log in.
{ lib, ... }:
{
  imports = [ ./iso-label.nix ];

  systemd.services.sshd.wantedBy = lib.mkOverride 45 [ "multi-user.target" ];
}
