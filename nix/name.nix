# The name of an image's file, without its suffix: whose it is, then what it is.
{ config, format, system }:
let
  cfg = config.nixosImage;
  inherit (config.networking) hostName;
  # NixOS' default host name says nothing about the machine; an empty one is set by the network.
  named = hostName != "" && hostName != config.system.nixos.distroId;
in
if cfg.baseName != null then cfg.baseName
else "${if named then hostName else cfg.configurationName}-${format.name}-${system}-${config.system.nixos.version}"
