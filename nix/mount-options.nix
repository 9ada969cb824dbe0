# Mount options that belong to other types of file systems: mount-options.toml.
let
  types = builtins.fromTOML (builtins.readFile ./mount-options.toml);
  wordOf = option: let name = builtins.match "([^=]*=).*" option; in if name == null then option else builtins.head name;
in
rec {
  # Types that have the option; none, if it goes for all types.
  typesOf = option: builtins.filter (type: builtins.elem (wordOf option) types.${type}) (builtins.attrNames types);
  isForeign = fsType: option: let found = typesOf option; in types ? ${fsType} && found != [ ] && ! builtins.elem fsType found;
}
