# The library: NixOS configurations to images of any system, put together by programs of the build machine.
#
#   images { system = "aarch64-linux"; modules = [ ./configuration.nix ]; formats = [ "raw-efi" ]; }
#
# gives { raw-efi = <derivation>; }: an image spec for the assembler, or the finished file in a folder of its own.
{ nixpkgs
, buildSystem ? builtins.currentSystem
, buildPkgs ? import nixpkgs { system = buildSystem; config = { }; overlays = [ ]; }
, customFormats ? { }
}:
let
  lib = import (nixpkgs + "/lib");

  # A custom format is made from one of the table, `formats.raw-efi // { modules = [ ... ]; }`, without what is its alone.
  formats = import ./formats.nix // lib.mapAttrs (_: format: format // { guest = null; aliases = [ ]; }) customFormats;
  byAlias = lib.concatMapAttrs (name: format: lib.genAttrs format.aliases (_: name)) formats;
  canonical = name: byAlias.${name} or name;

  formatNamed = name: system:
    let
      format = formats.${canonical name} or (throw "there is no format ${name}; there are ${lib.concatStringsSep ", " (lib.attrNames (formats // byAlias))}");
    in
    if ! lib.elem system format.systems then
      throw "format ${name} exists for ${lib.concatStringsSep ", " format.systems}, not for ${system}"
    else
      (if format.assembler == "vm" then onTarget system else lib.id)
        (format // { name = canonical name; guest = if format.guest == null then canonical name else format.guest; });

  evaluate = { modules ? [ ], specialArgs ? { } }: import (nixpkgs + "/nixos/lib/eval-config.nix") {
    inherit modules specialArgs;
    system = null;
  };

  # A module of the table: ours, nixpkgs', or given as it is (custom formats).
  moduleOf = module:
    if ! lib.isString module then module
    else if lib.hasPrefix "./" module then ./modules + lib.removePrefix "." module
    else nixpkgs + "/nixos/modules/${module}";

  # The configuration as a format's guest.
  guestOf = evaluated: format: evaluated.extendModules {
    modules = map moduleOf format.modules
      ++ lib.optional (format.variant != null) evaluated.config.image.modules.${format.variant}
      ++ lib.optional (!format.login) { nixosImage.allowNoLogin = lib.mkDefault true; }
      # A script starts the QEMU of the machine that it is made on.
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

  # VMs run the target's programs as the build machine's own: emulating them there takes days.
  onTarget = system: format:
    if system == buildSystem then format
    else throw "format ${format.name} is made in a VM of ${system} here, which takes a machine of that system; this is ${buildSystem}";

  # Images of a configuration that is evaluated already, by `nixosSystem` for example.
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
