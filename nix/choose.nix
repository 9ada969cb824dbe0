# The NixOS configuration that `attribute` means in a flake's `outputs`, and its name: { name, configuration }.
#
# An empty `attribute` means the configuration of the computer `hostName`, as for nixos-rebuild, or else the only one there is. Any other
# names one of nixosConfigurations, or is an attribute path, as for `nix build`. `flake` names the flake in errors.
{ outputs, attribute, hostName, system, flake }:
let
  configurations = outputs.nixosConfigurations or { };
  names = builtins.attrNames configurations;
  known = if names == [ ] then "" else ", but: ${builtins.concatStringsSep ", " names}";
  of = if names == [ ] then "" else ", which are: ${builtins.concatStringsSep ", " names}";

  # "a.\"b.c\"" -> [ "a" "b.c" ]
  parts = builtins.concatMap
    (part: if builtins.isString part then [ ] else [ (if builtins.elemAt part 1 != null then builtins.elemAt part 1 else builtins.elemAt part 2) ])
    (builtins.split ''("([^"]*)"|([^".]+))'' attribute);
  last = builtins.elemAt parts (builtins.length parts - 1);

  # The value at a path of attributes, as [ value ], or [ ] if there is none.
  at = builtins.foldl' (found: name: builtins.concatMap (value: if builtins.isAttrs value && value ? ${name} then [ value.${name} ] else [ ]) found) [ outputs ];
  perSystem = builtins.concatMap (set: [ [ set system "nixosConfigurations" ] [ set system ] ]) [ "packages" "legacyPackages" ];
  paths = [ [ "nixosConfigurations" attribute ] ]
    ++ (if parts == [ ] then [ ] else [ ([ "nixosConfigurations" ] ++ parts) parts ] ++ map (set: set ++ parts) perSystem);
  # The first path that exists, or null; those after it are not evaluated.
  firstOf = paths:
    let path = builtins.head paths; values = at path; in
    if paths == [ ] then null
    else if values == [ ] then firstOf (builtins.tail paths)
    else { name = builtins.concatStringsSep "." path; value = builtins.head values; };
  found = firstOf paths;

  shortName = builtins.head (builtins.split "\\." hostName);
  own = builtins.filter (name: hostName != "" && configurations ? ${name}) [ hostName shortName ];
  default =
    if own != [ ] then builtins.head own
    else if builtins.length names == 1 then builtins.head names
    else if names == [ ] then throw "flake ${flake} has no nixosConfigurations"
    else throw "flake ${flake} has no nixosConfigurations.${if hostName == "" then "<this computer's name>" else hostName}, but: ${builtins.concatStringsSep ", " names}";
in
if attribute == "" then
  { name = default; configuration = configurations.${default}; }
else if found == null then
  throw "flake ${flake} has no nixosConfigurations.${attribute}${known}"
else if found.value ? extendModules && found.value ? config then
  { name = if configurations ? ${attribute} then attribute else last; configuration = found.value; }
else
  throw "flake ${flake}: ${found.name} is ${if found.value.type or "" == "derivation" then "a derivation" else "no NixOS configuration"}; images are made of a NixOS configuration${of}"
