# What the definitions of an option say, and who says it: the configuration, or nixpkgs' own modules.
{ lib, modulesPath }:
let
  nixpkgs = dirOf (dirOf (toString modulesPath)) + "/";
in
rec {
  isFromNixpkgs = definition: lib.hasPrefix nixpkgs definition.file;

  # The parts of an attribute set that is a definition's value, without mkIf, mkMerge, mkForce.
  plain = value:
    if ! lib.isAttrs value then [ value ]
    else if value._type or null == "merge" then lib.concatMap plain value.contents
    else if value._type or null == "if" then lib.optionals value.condition (plain value.content)
    else if value ? _type && value ? content then plain value.content
    else [ value ];
}
