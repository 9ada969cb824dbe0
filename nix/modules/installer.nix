# The installer, reachable without a keyboard: with a key in the configuration it needs no password first.
{ lib, ... }:
{
  systemd.services.sshd.wantedBy = lib.mkOverride 45 [ "multi-user.target" ];
}
