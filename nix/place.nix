# Where a configuration says something: "FILE:LINE" of a definition in an option's definitionsWithLocations.
#
# `arguments` are those of a module: the value of an option that is no attribute set has lost its place, so the file that defines it
# is called again, and what it returns is searched.
{ lib, arguments }:
let
  firstOf = lib.findFirst (one: one != null) null;

  # Position of the attribute `path` in a module's or a definition's value, or of the nearest one that holds it.
  search = path: value:
    let
      type = value._type or null;
      deeper = search (lib.tail path) value.${lib.head path};
    in
    if path == [ ] || ! lib.isAttrs value then null
    else if type == "merge" then firstOf (map (search path) value.contents)
    else if type != null then search path (value.content or null)
    else if value ? config then search path value.config
    else if ! value ? ${lib.head path} then null
    else if deeper != null then deeper
    else builtins.unsafeGetAttrPos (lib.head path) value;

  known = arguments.config._module.args // arguments.config._module.specialArgs or { } // arguments;
  # A file with arguments that no module gets is no module: it is where a list of modules stands, for example a library's.
  isModule = module:
    let required = lib.attrNames (lib.filterAttrs (_: hasDefault: ! hasDefault) (lib.functionArgs module)); in
    lib.all (name: known ? ${name}) required;
  called = module:
    if ! lib.isFunction module then module
    else if ! isModule module then { }
    else module (arguments // builtins.intersectAttrs (lib.functionArgs module) known);
  # In a module, and in those that are written in its imports.
  inModule = path: module:
    let
      value = called module;
      own = search path value;
      imports = lib.filter (one: lib.isAttrs one || lib.isFunction one) (value.imports or [ ]);
    in
    if ! lib.isAttrs value then null
    else if own != null then own
    else firstOf (map (inModule path) imports);
  # nixpkgs names the file of a definition in `image.modules.<variant>` together with that option.
  part = index: file: let found = builtins.match "(.*), via option (.*)" file; in if found == null then null else lib.elemAt found index;
  # A folder is imported by its default.nix.
  fileOf = named:
    let file = if part 0 named == null then named else part 0 named; in
    if lib.hasPrefix "/" file && builtins.pathExists "${file}/default.nix" then "${file}/default.nix" else file;
  viaOf = file: lib.optionals (part 1 file != null) (lib.splitString "." (part 1 file));
  inherit (import ./definitions.nix { inherit lib; inherit (arguments) modulesPath; }) isInCall;
  isFile = file: lib.hasPrefix "/" file && lib.hasSuffix ".nix" file && builtins.pathExists file;
in
# Of the attribute `inner` below the option `option`, both lists of names; the file alone where the line is not known.
option: inner: definition:
let
  file = fileOf definition.file;
  ofValue = search inner definition.value;
  position =
    if ofValue != null then ofValue
    else if isFile file then inModule (viaOf definition.file ++ option ++ inner) (import file)
    else null;
in
if isInCall file then
  if position == null then "in a module without a file" else "${position.file}:${toString position.line}"
else if position == null || position.file != file then file
else "${file}:${toString position.line}"
