# For a configuration that is one image, in the format that `formatAttr` names: `system.build.<formatAttr>` is the image.
{ config, extendModules, lib, modulesPath, pkgs, ... }@arguments:
let
  name = config.formatAttr;
in
{
  key = "nixos-image/whole";
  _file = ./whole.nix;

  # The image is made of the configuration without this module, by an evaluation of its own, which has the format's modules: what
  # neither declares is told there.
  _module.check = false;

  # Stronger than NixOS' own script of that name, but not in the machine that this script makes.
  system.build.${name} = lib.mkOverride 900 (import ./image-of.nix arguments { } name [ ]);

  # Here the disk and the boot loader of the image are missing.
  assertions = [{
    assertion = false;
    message = "nixosModules.${name}: the system is that of the image, config.system.build.${name}.config; for nixos-rebuild, nixosConfigurations.<name> may be the image";
  }];
}
