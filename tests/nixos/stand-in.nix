# A user's configuration, plus the import of the stand-ins.
{ modulesPath, ... }:
{
  imports = [ (modulesPath + "/../../stand-in/module.nix") ];
  networking.hostName = "standin";
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX test"
  ];
  system.stateVersion = "26.05";
}
