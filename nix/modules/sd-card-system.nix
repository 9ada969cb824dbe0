# nixpkgs' SD cards all have the installer's tools, ZFS among them, some of which do not exist for small boards. A card with the
# user's own system does without.
{
  disabledModules = [ "profiles/base.nix" ];
}
