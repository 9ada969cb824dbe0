# What the image could not run, or not find, though the system's evaluation succeeds: programs of another CPU, and the file that
# system.copySystemConfiguration copies.
{ config, lib, modulesPath, pkgs, ... }@arguments:
let
  inherit (pkgs.stdenv) hostPlatform;
  placesOf = path:
    let
      inherit (import ../definitions.nix { inherit lib modulesPath; }) isFromNixpkgs;
      own = lib.filter (one: ! isFromNixpkgs one) (lib.getAttrFromPath path arguments.options).definitionsWithLocations;
    in
    lib.optionalString (own != [ ]) " (${lib.concatMapStringsSep ", " (import ../place.nix { inherit lib arguments; } path [ ]) own})";

  emulated = map (system: (lib.systems.elaborate system).system) config.boot.binfmt.emulatedSystems;
  # A package of `import <nixpkgs> { }`, or of a flake's output for another system, is the builder's.
  isForeign = package:
    let platform = package.stdenv.hostPlatform or hostPlatform; in
    platform.isLinux && ! hostPlatform.canExecute platform && ! lib.elem platform.system emulated;
  foreign = packages: lib.unique (map (package: "${lib.getName package} (${package.stdenv.hostPlatform.system})") (lib.filter isForeign packages));
  warningsOf = path: packages:
    let found = foreign packages; in
    lib.optional (found != [ ]) "${lib.concatStringsSep "." path}${placesOf (lib.take 2 path)}: an image for ${hostPlatform.system} cannot run ${lib.concatStringsSep ", " found}; take them from pkgs, or set boot.binfmt.emulatedSystems";
in
{
  _file = ./foreign.nix;

  warnings = warningsOf [ "environment" "systemPackages" ] config.environment.systemPackages
    ++ lib.concatLists (lib.mapAttrsToList (name: user: warningsOf [ "users" "users" name "packages" ] user.packages) config.users.users);

  assertions = [{
    # Of several machines in one run each has its own file.
    assertion = config.system.copySystemConfiguration -> (builtins.tryEval <nixos-config>).success;
    message = "system.copySystemConfiguration${placesOf [ "system" "copySystemConfiguration" ]}: there is no one file of a configuration; leave it out, or set nixosImage.configFile";
  }];
}
