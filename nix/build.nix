# What the builder calls: every image of a run, in one attribute set, so that one `nix-build` makes them all.
#
# `inputs` is a JSON file:
#   nixpkgs        path of the tree
#   configuration  path of a NixOS module
#   formats        names of nix/formats.nix, or their aliases
#   systems        "aarch64-linux", …
#   disk           options of nixosImage that the command line gives, stronger than the configuration's (default {})
#   modules        paths of further modules (default [])
#   specialArgs    (default {})
#   revision, versionSuffix   of nixpkgs, where the tree does not say (default null)
#   buildSystem    (default: this machine's)
#
# The result is { <system>.<format> = derivation; }: nix-build without -A takes all of them. See nix/default.nix.
{ inputs }:
let
  given = {
    disk = { };
    modules = [ ];
    specialArgs = { };
    revision = null;
    versionSuffix = null;
    buildSystem = builtins.currentSystem;
  } // builtins.fromJSON (builtins.readFile inputs);

  path = text: /. + text;
  nixpkgs = path given.nixpkgs;
  lib = import (nixpkgs + "/lib");
  library = import ./. { inherit nixpkgs; inherit (given) buildSystem; };

  commandLine = {
    _file = "the command line";
    nixosImage = lib.mapAttrsRecursive (_: lib.mkOverride 45) given.disk;
    system.nixos = {
      revision = lib.mkIf (given.revision != null) (lib.mkDefault given.revision);
      versionSuffix = lib.mkIf (given.versionSuffix != null) (lib.mkDefault given.versionSuffix);
    };
  };

  imagesFor = system: lib.recurseIntoAttrs (library.images {
    inherit system;
    inherit (given) formats specialArgs;
    modules = [ (path given.configuration) ] ++ map path given.modules ++ [ commandLine ];
  });
in
lib.genAttrs given.systems imagesFor
