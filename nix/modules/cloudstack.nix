# CloudStack: nixpkgs' module overrides the root file system as a whole, so ours must be said at its priority, too.
{ config, lib, ... }:
let
  ours = lib.mkOverride 55;
in
{
  fileSystems."/" = lib.mkImageMediaOverride {
    device = ours "/dev/disk/by-label/${config.nixosImage.label}";
    fsType = ours config.nixosImage.fsType;
  };
}
