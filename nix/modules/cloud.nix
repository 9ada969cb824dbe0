# For clouds and hypervisors that hand a seed disk over: cloud-init reads it (label cidata or config-2), no metadata server is
# waited for.
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
    # networkd is cloud-init's renderer; DHCP for what no seed speaks of.
    networking.useNetworkd = lib.mkDefault true;
    networking.hostName = lib.mkDefault "";
    services.openssh.enable = lib.mkDefault true;
    services.openssh.settings.PasswordAuthentication = lib.mkDefault false;
    services.qemuGuest.enable = lib.mkDefault true;
  };
}
