# cloud.enable: cloud-init reads a seed disk (label cidata or config-2) and does not wait for a metadata server.
{ config, lib, ... }:
{
  key = "nixos-image/cloud";
  _file = ./cloud.nix;

  config = lib.mkIf config.nixosImage.cloud.enable {
    services.cloud-init = {
      enable = true;
      network.enable = true;
      settings.datasource_list = [ "NoCloud" "ConfigDrive" "None" ];
    };
    # cloud-init configures networkd; interfaces that no seed mentions use DHCP.
    networking.useNetworkd = lib.mkDefault true;
    networking.hostName = lib.mkDefault "";
    services.openssh.enable = lib.mkDefault true;
    services.openssh.settings.PasswordAuthentication = lib.mkDefault false;
    services.qemuGuest.enable = lib.mkDefault true;
  };
}
