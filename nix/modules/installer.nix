# Installer ISO: starts sshd at boot, so that an SSH key in the configuration suffices to log in, and wpa_supplicant, where it and not
# NetworkManager joins Wi-Fi networks: as nixos-generators' installer does.
{ config, lib, ... }:
{
  imports = [ ./iso-label.nix ];

  systemd.services.sshd.wantedBy = lib.mkOverride 45 [ "multi-user.target" ];
  systemd.services.wpa_supplicant = lib.mkIf (config.networking.wireless.enable && ! config.networking.networkmanager.enable) {
    wantedBy = lib.mkOverride 45 [ "multi-user.target" ];
  };
}
