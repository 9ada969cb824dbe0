# What the definitions of an option say, and who says it: the configuration, or nixpkgs' own modules.
{ lib, modulesPath }:
let
  nixpkgs = dirOf (dirOf (toString modulesPath)) + "/";
in
rec {
  isFromNixpkgs = definition: lib.any (folder: lib.hasPrefix "${nixpkgs}${folder}/" definition.file) [ "nixos/modules" "nixos/lib" "maintainers" ];

  # Where nixpkgs' flake.nix has `nixosSystem`: a module that is written in a call of it has that file for its own.
  isInCall = file: lib.hasPrefix nixpkgs file && ! isFromNixpkgs { inherit file; };

  # What is said of an option. Its default is among the definitions, too, as one of the file that declares it: nixpkgs', or another's.
  saidOf = option:
    if option.highestPrio or 0 < 1500 then option.definitionsWithLocations
    else lib.filter (definition: ! lib.elem definition.file (map toString option.declarations)) option.definitionsWithLocations;

  # The parts of an attribute set that is a definition's value, without mkIf, mkMerge, mkForce.
  plain = value:
    if ! lib.isAttrs value then [ value ]
    else if value._type or null == "merge" then lib.concatMap plain value.contents
    else if value._type or null == "if" then lib.optionals value.condition (plain value.content)
    else if value ? _type && value ? content then plain value.content
    else [ value ];
}
