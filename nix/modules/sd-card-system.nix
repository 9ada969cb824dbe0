# SD card with the user's own system: leaves out the installer's tools (ZFS and others), which nixpkgs puts on all SD cards and
# which partly do not exist for small boards.
{
  disabledModules = [ "profiles/base.nix" ];
}
