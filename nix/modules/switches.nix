# What nixosImage.ignore names, and has a switch of its own (`switch` in ../options.toml), is off: what its module makes of it, file
# systems for example, goes with it.
{ config, lib, options, ... }:
let
  rules = (builtins.fromTOML (builtins.readFile ../options.toml)).option;
  isThere = rule: rule ? switch && lib.isOption (lib.attrByPath (lib.splitString "." rule.switch) null options);
  isIgnored = rule: lib.intersectLists config.nixosImage.ignore rule.names != [ ];
in
{
  _file = ./switches.nix;

  config = lib.mkMerge (map
    (rule: lib.setAttrByPath (lib.splitString "." rule.switch) (lib.mkIf (isIgnored rule) (lib.mkOverride 45 false)))
    (lib.filter isThere rules));
}
