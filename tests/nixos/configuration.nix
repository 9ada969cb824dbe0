# What the tests build: a user's configuration, as small as one is.
{ lib, options, ... }:
{
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMj1rPZb5MVRbXBWXbT8RrDvXL7XYyzYQ7gkVJm8w9aX test"
  ];
  # Their compiler is not in every tree that this is tested with.
  nixpkgs.overlays = [
    (_: prev: let empty = prev.hello // { compiler.bootstrapAvailable = true; }; in { shellcheck = empty; shellcheck-minimal = empty; })
  ];
  # Installers have nixpkgs itself in them, which takes a minute to copy.
  system = lib.optionalAttrs (options.system ? installer) { installer.channel.enable = false; } // { stateVersion = "26.05"; };
}
