# Minimal user configuration that the tests build.
{ lib, options, ... }:
{
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX test"
  ];
  # The documentation's compiler is missing in some of the tested nixpkgs trees.
  nixpkgs.overlays = [
    (_: prev: let empty = prev.hello // { compiler.bootstrapAvailable = true; }; in { shellcheck = empty; shellcheck-minimal = empty; })
  ];
  # Leave out the copy of nixpkgs that installers contain, which takes a minute.
  system = lib.optionalAttrs (options.system ? installer) { installer.channel.enable = false; } // { stateVersion = "26.05"; };
}
