# Library: makes images of NixOS configurations for any system, with the build machine's programs.
#
#   images { system = "aarch64-linux"; modules = [ ./configuration.nix ]; formats = [ "raw-efi" ]; }
#
# returns { raw-efi = <derivation>; }, whose output is an image spec for the assembler, or a folder with the finished file.
{ nixpkgs
, buildSystem ? builtins.currentSystem
, buildPkgs ? import nixpkgs { system = buildSystem; config = { }; overlays = [ ]; }
, customFormats ? { }
}:
let
  lib = import (nixpkgs + "/lib");

  # A custom format extends one of the table (`formats.raw-efi // { modules = [ ... ]; }`), but not its guest and aliases.
  formats = import ./formats.nix // lib.mapAttrs (_: format: format // { guest = null; aliases = [ ]; }) customFormats;
  byAlias = lib.concatMapAttrs (name: format: lib.genAttrs format.aliases (_: name)) formats;
  canonical = name: byAlias.${name} or name;

  formatNamed = name: system:
    let
      format = formats.${canonical name} or (throw "unknown format ${name}; known: ${lib.concatStringsSep ", " (lib.attrNames (formats // byAlias))}");
    in
    if ! lib.elem system format.systems then
      throw "format ${name} supports ${lib.concatStringsSep ", " format.systems}, not ${system}"
    else
      (if format.assembler == "vm" then onTarget system else lib.id)
        (format // { name = canonical name; guest = if format.guest == null then canonical name else format.guest; });

  evaluate = { modules ? [ ], specialArgs ? { } }: import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit modules specialArgs;
    system = null;
  };

  # Resolve a module of the table: a path below ./modules ("./…"), a path below nixos/modules, or a module itself.
  moduleOf = module:
    if ! lib.isString module then module
    else if lib.hasPrefix "./" module then ./modules + lib.removePrefix "." module
    else nixpkgs + "/nixos/modules/${module}";

  # Extend the configuration by a format's modules.
  guestOf = evaluated: format: evaluated.extendModules {
    modules = map moduleOf format.modules
      ++ lib.optional (format.variant != null) evaluated.config.image.modules.${format.variant}
      ++ lib.optional (!format.login) { nixosImage.allowNoLogin = lib.mkDefault true; }
      # A VM script starts the build machine's QEMU.
      ++ lib.optional (lib.hasPrefix "vm" (format.recipe or "")) {
        virtualisation = lib.genAttrs [ "vmVariant" "vmVariantWithBootLoader" ] (_: { virtualisation.host.pkgs = buildPkgs; });
      };
  };

  native = import ./spec.nix { inherit lib buildPkgs buildSystem; };
  nixpkgsMade = import ./artifacts.nix { inherit lib buildPkgs nixpkgs; };

  make = format: guest:
    let
      inherit (guest.config.nixosImage) touchEFIVars postVM;
    in
    if format.assembler != "native" then
      nixpkgsMade { inherit format guest; }
    else if ! touchEFIVars && postVM == "" then
      native { inherit format guest; }
    else
      nixpkgsMade { inherit guest; format = onTarget guest.pkgs.stdenv.hostPlatform.system format // { recipe = "disk-image"; }; };

  # A VM runs the target's programs, which would take days under emulation: the build machine must be of the target's system.
  onTarget = system: format:
    if system == buildSystem then format
    else throw "format ${format.name} is built in a ${system} VM, which needs a ${system} host; this host is ${buildSystem}";

  # imagesOf: makes images of a configuration that is evaluated already, for example by `nixosSystem`.
  imagesOf = { evaluated, formats, system ? evaluated.pkgs.stdenv.hostPlatform.system, modules ? [ ] }:
    let
      wanted = map (name: formatNamed name system // { given = name; }) formats;
      prepared = evaluated.extendModules {
        modules = [ ./modules { nixpkgs.hostPlatform = lib.mkForce system; } ] ++ modules;
      };
      guests = lib.listToAttrs (map (format: lib.nameValuePair format.guest (guestOf prepared format)) wanted);
    in
    lib.listToAttrs (map (format: lib.nameValuePair format.given (make format guests.${format.guest})) wanted);
in
{
  inherit formats imagesOf;

  images = { system, formats, modules ? [ ], specialArgs ? { } }: imagesOf {
    evaluated = evaluate { inherit modules specialArgs; };
    inherit system formats;
  };
}
