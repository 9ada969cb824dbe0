# As nixos-generators has it: `config.formats.<name>` is the configuration's image in each format that its system supports, and in
# those that `formatConfigs` adds. Each is evaluated for itself.
{ config, extendModules, lib, modulesPath, pkgs, ... }@arguments:
let
  table = import ./formats.nix;
  inherit (pkgs.stdenv.hostPlatform) system;
  namesOf = name: [ name ] ++ table.${name}.aliases;
  known = lib.concatMapAttrs (name: _: lib.genAttrs (namesOf name) (_: namesOf name)) table;
  supported = lib.filter (name: lib.elem system table.${name}.systems) (lib.attrNames table);

  imageOf = import ./image-of.nix arguments (removeAttrs config.formatConfigs (lib.attrNames known));
in
{
  key = "nixos-image/all-formats";
  _file = ./all-formats.nix;

  imports = [ ./modules ];

  options = {
    formats = lib.mkOption {
      type = lib.types.lazyAttrsOf lib.types.raw;
      readOnly = true;
      description = "The configuration's image in each format: an image spec for the native formats, a folder with the finished file for the others.";
    };
    formatConfigs = lib.mkOption {
      type = lib.types.lazyAttrsOf lib.types.deferredModule;
      description = ''
        What the configuration has beside, for an image of that format. A name that no format has makes one of a module that sets
        `formatAttr`, the name of the attribute of `system.build` that is the image, and `fileExtension`.
      '';
    };
  };

  config = {
    formatConfigs = lib.genAttrs (lib.concatMap namesOf supported) (_: { });
    # What is said of one of a format's names counts for the format.
    formats = lib.mapAttrs (name: _: imageOf name (lib.attrVals (lib.filter (one: config.formatConfigs ? ${one}) (known.${name} or [ ])) config.formatConfigs))
      config.formatConfigs;
  };
}
