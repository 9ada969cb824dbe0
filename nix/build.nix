# What the builder calls: every image of a run, in one attribute set, so that one `nix-build` makes them all.
#
# `inputs` is a JSON file:
#   nixpkgs        path of the tree; for a flake null is its own
#   configuration  path of a NixOS module; or
#   flake, attribute   reference of a flake and which of its nixosConfigurations
#   formats        names of nix/formats.nix, or their aliases, or of `formatPaths`
#   systems        "aarch64-linux", …
#   systemsGiven   whether somebody has chosen them: a flake's configuration is for one system already (default true)
#   disk           options of nixosImage that the command line gives, stronger than the configuration's (default {})
#   modules        paths of further modules (default [])
#   specialArgs    (default {})
#   formatPaths    { name: path of a format file as nixos-generators has them } (default {})
#   revision, versionSuffix   of nixpkgs, where the tree does not say (default null)
#   buildSystem    (default: this machine's)
#
# The result is { <system>.<format> = derivation; }: nix-build without -A takes all of them. See nix/default.nix.
{ inputs }:
let
  given = {
    configuration = null;
    systemsGiven = true;
    disk = { };
    modules = [ ];
    specialArgs = { };
    formatPaths = { };
    revision = null;
    versionSuffix = null;
    buildSystem = builtins.currentSystem;
  } // builtins.fromJSON (builtins.readFile inputs);

  path = text: /. + text;
  nixpkgs = if given.nixpkgs != null then path given.nixpkgs else ofFlake.pkgs.path;
  lib = import (nixpkgs + "/lib");

  configurations = (builtins.getFlake given.flake).nixosConfigurations or (throw "flake ${given.flake} has no nixosConfigurations");
  ofFlake = configurations.${given.attribute} or (throw
    "flake ${given.flake} has no nixosConfigurations.${given.attribute}, but: ${builtins.concatStringsSep ", " (builtins.attrNames configurations)}");

  library = import ./. {
    inherit nixpkgs;
    inherit (given) buildSystem;
    customFormats = lib.mapAttrs
      (_: file: (import ./formats.nix).lxc // {
        upstream = null;
        variant = null;
        login = true;
        recipe = "format-path";
        modules = [ "./format-path.nix" (path file) ];
      })
      given.formatPaths;
  };

  commandLine = {
    _file = "the command line";
    # Stronger than the configuration, lib.mkForce included.
    nixosImage = lib.mapAttrsRecursive (_: lib.mkOverride 45) given.disk;
    system.nixos = {
      revision = lib.mkIf (given.revision != null) (lib.mkDefault given.revision);
      versionSuffix = lib.mkIf (given.versionSuffix != null) (lib.mkDefault given.versionSuffix);
    };
  };
  modules = map path given.modules ++ [ commandLine ];

  imagesFor = system: lib.recurseIntoAttrs (
    if given.configuration == null then
      library.imagesOf
        {
          evaluated =
            let own = ofFlake.pkgs.stdenv.hostPlatform.system; in
            if given.systemsGiven || own == system then ofFlake
            else throw "nixosConfigurations.${given.attribute} is for ${own}: say --system ${own}, or another one";
          inherit system modules;
          inherit (given) formats;
        }
    else
      library.images {
        inherit system;
        inherit (given) formats specialArgs;
        modules = [ (path given.configuration) ] ++ modules;
      }
  );
in
lib.genAttrs given.systems imagesFor
