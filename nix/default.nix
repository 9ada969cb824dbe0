# Library: makes images of NixOS configurations for any system, with the build machine's programs.
#
#   images { system = "aarch64-linux"; modules = [ ./configuration.nix ]; formats = [ "raw-efi" ]; }
#
# returns { raw-efi = <derivation>; }, whose output is an image spec for the assembler, or a folder with the finished file.
{ nixpkgs
, buildSystem ? builtins.currentSystem
, buildPkgs ? import nixpkgs { system = buildSystem; config = { }; overlays = [ ]; }
, customFormats ? { }
  # Features that the builders are known to have, null if that is not known.
, features ? null
}:
let
  lib = import (nixpkgs + "/lib");

  # A custom format extends one of the table (`formats.raw-efi // { modules = [ ... ]; }`), but not its guest and aliases; or it is a
  # module that says itself what the image is, as nixos-generators' formats do.
  table = import ./formats.nix;
  fromModule = module: table.lxc // {
    upstream = null;
    variant = null;
    login = true;
    recipe = "format-path";
    modules = [ "./format-path.nix" { imports = [ module ]; } ];
  };
  custom = format: (if format ? assembler then format else fromModule format) // { guest = null; aliases = [ ]; };
  formats = table // lib.mapAttrs (_: custom) customFormats;
  byAlias = lib.concatMapAttrs (name: format: lib.genAttrs format.aliases (_: name)) formats;
  # A custom format may have the name that one of the table has, too.
  canonical = name: if formats ? ${name} then name else byAlias.${name} or name;

  architectures = (builtins.fromTOML (builtins.readFile ../orchestrator/shared/architectures.toml)).architecture;
  # Systems whose machines may have a PC's BIOS, for which there is GRUB.
  haveBios = map (row: row.name) (lib.filter (row: lib.elem "grub" row.loaders) architectures);

  formatNamed = name: system:
    let
      asked = formats.${canonical name} or (throw "unknown format ${name}; known: ${lib.concatStringsSep ", " (lib.attrNames (formats // byAlias))}");
      format =
        if asked.otherwise or null == null || lib.elem system haveBios then asked
        else asked // { inherit (formats.${asked.otherwise}) guest modules firmware; };
    in
    if ! lib.elem system format.systems then
      throw "format ${name} supports ${lib.concatStringsSep ", " format.systems}, not ${system}"
    else
      (if format.assembler == "vm" then onTarget system "format ${canonical name}" else lib.id)
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

  # What the configuration itself says for a variant of nixpkgs', without nixpkgs' own module.
  ownVariant = unchecked: name: lib.concatMap
    (definition: lib.optional (! isFromNixpkgs definition && definition.value ? ${name})
      (lib.setDefaultModuleLocation "${definition.file}, via option image.modules.${name}" definition.value.${name}))
    unchecked.options.image.modules.definitionsWithLocations;
  # A format may have other names than its variant of nixpkgs': what a configuration says for these is for it, too.
  own = unchecked: format: lib.concatMap (ownVariant unchecked)
    (lib.filter (name: name != null) (lib.unique ([ (if format.variant != null then format.variant else format.upstream) format.name ] ++ format.aliases)));
  # Beside what nixpkgs' own variant has already.
  ownBeside = unchecked: format: own unchecked (format // { upstream = null; variant = null; } // lib.optionalAttrs (format.name == format.variant) { name = null; });

  # Kind of the image for nix/options.toml, null where the partition table decides it.
  kindOf = format:
    if format.assembler == "native" then null
    else if format.recipe == "vm-bootloader" then "machine"
    else if lib.hasPrefix "vm" format.recipe then "vm"
    else if format.assembler == "vm" then "upstream"
    else { iso = "live"; kexec = "kexec"; kexec-bundle = "kexec"; format-path = "own"; }.${format.recipe} or "container";

  inherit (import ./definitions.nix { inherit lib; modulesPath = nixpkgs + "/nixos/modules"; }) isFromNixpkgs plain;
  families = map (lib.splitString ".") (builtins.fromTOML (builtins.readFile ./options.toml)).families;
  # The name of an image file is an option of nixpkgs' modules of images, one of which each variant has.
  fileOptions = nixpkgs + "/nixos/modules/image/file-options.nix";

  # Whether every option that is defined exists.
  fits = evaluated: (builtins.tryEval (builtins.seq evaluated.config true)).success;

  # The configuration as a format's guest. Options of nixpkgs' image modules may stand in it for all formats, so it is no mistake yet
  # that this one does not have them: nix/modules/declared.nix tells what becomes of them.
  guestOf = prepared: unchecked: format:
    let
      kind = kindOf format;
      isInstaller = format.variant == "iso-installer";
      variant = if format.variant != null then [ unchecked.config.image.modules.${format.variant} ] ++ ownBeside unchecked format else own unchecked format;
      declaring = map (family: { options = lib.setAttrByPath family (lib.mkOption { type = lib.types.raw; }); });
      mounts = lib.concatMap (definition: lib.concatMap lib.attrNames (lib.filter lib.isAttrs (plain definition.value)))
        (lib.filter (definition: ! isFromNixpkgs definition) unchecked.options.fileSystems.definitionsWithLocations);
      missing = lib.filter (family: ! lib.hasAttrByPath family unchecked.options) families;
      # The configuration without the modules of the format, whose definitions hide its own or need a whole system.
      declared = prepared.extendModules {
        modules = lib.filter (module: ! lib.isString module) format.modules ++ own unchecked format
          # What only the format's module declares is no mistake here.
          ++ [{ _module.check = false; }]
          ++ declaring missing
          # A configuration may set only some options of a mount point, and the format's module the rest. Without that module the
          # evaluation would miss a device and a type: give them defaults.
          ++ [{
          _file = toString ./modules/disk.nix;
          fileSystems = lib.genAttrs (lib.unique ([ "/" "/boot" ] ++ mounts)) (_: { device = lib.mkOverride 1400 "none"; fsType = lib.mkOverride 1400 "ext4"; });
        }]
          # Only a module sees the options of a specialisation.
          ++ [ ({ options, ... }: { options.declaredOptions = lib.mkOption { type = lib.types.raw; internal = true; default = options; }; }) ];
      };
      # What a specialisation declares, beside what it has of its parent.
      declaredOf = told: name: child: lib.optionalAttrs child.inheritParentConfig {
        configuration._module.args.declared = lib.mkForce {
          inherit kind isInstaller told;
          families = [ ];
          absent = [ ];
          options = child.configuration.declaredOptions;
          parent = declared.options;
          within = "specialisation.${name}.configuration.";
        };
      };
      strict = prepared.extendModules {
        modules = map moduleOf format.modules
          ++ variant
          ++ lib.optionals (format.assembler == "native" && builtins.pathExists fileOptions)
          [ fileOptions { _file = toString ./modules/disk.nix; image.extension = lib.mkDefault format.suffix; } ]
          ++ lib.optional (!format.login) { nixosImage.allowNoLogin = lib.mkDefault true; }
          ++ lib.optional (format.assembler == "vm") { _file = toString ./vm-tools.nix; nixpkgs.overlays = [ (import ./vm-tools.nix) ]; }
          # A script starts the QEMU of the machine that it is made on.
          ++ lib.optional (lib.hasPrefix "vm" (format.recipe or "")) {
            virtualisation = lib.genAttrs [ "vmVariant" "vmVariantWithBootLoader" ] (_: { virtualisation.host.pkgs = buildPkgs; });
          }
          ++ lib.optionals (kind != "own") [
            ./modules/declared.nix
            ({ config, ... }: {
              _module.args.declared = {
                inherit kind isInstaller;
                absent = missing;
                told = [ ];
                inherit (declared) options;
                # A family that the format does not have counts if somebody means it: `options ? isoImage` may be asked before.
                families = lib.filter (family: ! fits strict || lib.hasAttrByPath family strict.options) missing;
                parent = null;
                within = "";
              };
              specialisation = lib.mapAttrs (declaredOf config.nixosImage.told) declared.config.specialisation;
            })
          ];
      };
      lax = strict.extendModules { modules = [{ _module.check = false; }]; };
      # With the families that the format does not have.
      known = strict.extendModules { modules = declaring (lib.filter (family: ! lib.hasAttrByPath family lax.options) families); };
    in
    # What no family has is a mistake, which the module system tells.
    if kind == "own" || fits strict then strict
    else if fits known then lax
    else known;

  native = import ./spec.nix { inherit lib buildPkgs buildSystem; };
  nixpkgsMade = import ./artifacts.nix { inherit lib buildPkgs nixpkgs; };

  contradictionOf = import ./contradictions.nix { inherit lib; };

  make = system: unchecked: format: guest:
    let
      inherit (guest.config.nixosImage) touchEFIVars postVM;
      made = guest.pkgs.stdenv.hostPlatform.system;
      wrong = contradictionOf { inherit format guest; inherit (unchecked) options; kind = kindOf format; placesOf = placesOf guest; };
      built = guest.pkgs.stdenv.buildPlatform.system;
      # nixpkgs lets only a machine of that kind build.
      lacking =
        let
          platform = guest.pkgs.stdenv.buildPlatform;
          arch = platform.gcc.arch or null;
          feature = "gccarch-${toString arch}";
        in
        # What a system has by itself, its builders have, too.
        if features == null || arch == (lib.systems.elaborate platform.system).gcc.arch or null || lib.elem feature features then null
        else {
          inherit arch feature;
          of = lib.findFirst (name: guest.options.nixpkgs.${name}.highestPrio < 1500) "pkgs" [ "buildPlatform" "hostPlatform" "localSystem" ];
        };
      # Of pkgs that the configuration brings along the option says nothing.
      isForeign = ! guest.options.nixpkgs.pkgs.isDefined && built != buildSystem && built != system;
      told = lib.warnIf isForeign
        "nixpkgs.buildPlatform${placesOf guest [ "nixpkgs" "buildPlatform" ]} is ${built}: the image is built by programs for it, which the builder (${buildSystem}) has to emulate";
    in
    if wrong != null then
      throw wrong
    else if lacking != null then
      throw "nixpkgs.${lacking.of}${placesOf guest [ "nixpkgs" lacking.of ]} has gcc.arch = \"${lacking.arch}\", so everything is built for that CPU, and only by a builder with the feature ${lacking.feature}, which none has here: leave gcc.arch out, or name such a builder (--builders)"
    else if made != system then
      throw "nixpkgs.pkgs${placesOf guest [ "nixpkgs" "pkgs" ]} is for ${made}, but the image is for ${system}"
    else told (if format.assembler != "native" then
      nixpkgsMade { inherit format guest; }
    else if ! touchEFIVars && postVM == "" then
      native { inherit format guest; }
    else
      let
        option = if touchEFIVars then "touchEFIVars" else "postVM";
        what = "nixosImage.${option}${placesOf guest [ "nixosImage" option ]}";
      in
      nixpkgsMade { inherit guest; format = onTarget system what format // { recipe = "disk-image"; }; });

  # A VM runs the target's programs, which would take days under emulation, because QEMU itself is one of them: the build machine must
  # be of the target's system. `what` asks for it.
  onTarget = system: what: value:
    if system == buildSystem then
      lib.warn "${what} takes a virtual machine; without KVM, which the appliance's builder never has, QEMU emulates it: that takes minutes to an hour" value
    else throw "${what} takes a virtual machine of the system ${system}, and the builder is ${buildSystem}; leave it out, or build on a computer of that system";

  placeIn = evaluated: import ./place.nix {
    inherit lib;
    arguments = { inherit lib; inherit (evaluated) options; config = evaluated.config // { inherit (evaluated) _module; }; modulesPath = nixpkgs + "/nixos/modules"; };
  };

  # " (FILE:LINE)" of an option's definitions
  placesOf = evaluated: option:
    let
      placeOf = placeIn evaluated;
      inFiles = lib.filter (one: lib.hasPrefix "/" one.file) (lib.getAttrFromPath option evaluated.options).definitionsWithLocations;
      said = lib.filter (one: ! isFromNixpkgs one) inFiles;
      # Of a module of nixpkgs that the configuration imports, its name says which.
      places = map (placeOf option [ ]) (if said != [ ] then said else inFiles);
    in
    lib.optionalString (places != [ ]) " (${lib.concatStringsSep ", " places})";

  # A system that the configuration names decides, as it does in NixOS: what was asked for is not another one. mkDefault, which
  # hardware-configuration.nix has, gives way to a system that somebody has asked for.
  # Returns { name, own, where } of such a contradiction, or null.
  contradiction = { evaluated, system, systemIsGiven }:
    let
      lax = evaluated.extendModules { modules = [{ _module.check = false; }]; };
      # The older names say the same, and NixOS takes them where there is no hostPlatform; the image always has one.
      said = lib.filter
        (one: (lax.options.nixpkgs.${one.name} or { highestPrio = 1500; }).highestPrio < (if systemIsGiven then 1000 else 1500) && one.own != system)
        [
          { name = "hostPlatform"; own = lax.options.nixpkgs.hostPlatform.value.system; }
          { name = "system"; own = lax.options.nixpkgs.system.value; }
          # Beside crossSystem it is the system of the builder.
          (if isCross lax then { name = "crossSystem"; own = (lib.systems.elaborate lax.options.nixpkgs.crossSystem.value).system; }
          else { name = "localSystem"; own = lax.options.nixpkgs.localSystem.value.system; })
        ];
    in
    if said == [ ] then null
    else lib.head said // { where = placesOf lax [ "nixpkgs" (lib.head said).name ]; };

  # Names in image.modules that no format has: nothing takes what is said there. NixOS makes variants of one's own of them.
  variants = lib.attrNames byAlias ++ lib.concatLists (lib.mapAttrsToList (name: format: [ name format.upstream format.variant ]) formats);
  tellStrangers = unchecked:
    let
      definitions = unchecked.options.image.modules.definitionsWithLocations;
      known = variants ++ lib.concatMap (one: lib.attrNames one.value) (lib.filter isFromNixpkgs definitions);
      strangers = lib.concatMap
        (one: map (name: "image.modules.${name} (${placeIn unchecked [ "image" "modules" ] [ name ] one})") (lib.subtractLists known (lib.attrNames one.value)))
        (lib.filter (one: ! isFromNixpkgs one) definitions);
    in
    lib.warnIf (strangers != [ ]) "no format has the name of ${lib.concatStringsSep ", " strangers}, so no image has what it says; ./run.sh formats prints the names";

  isCross = lax: lax.options.nixpkgs.crossSystem.highestPrio < 1500 && lax.options.nixpkgs.crossSystem.value != null;

  # Whether the configuration says the image's system itself, with what belongs to it (gcc.arch, the kernel's target), which a mere
  # name of the system would replace; or by the older options, which NixOS refuses beside hostPlatform.
  saysPlatform = evaluated: system:
    let inherit (evaluated.extendModules { modules = [{ _module.check = false; }]; }) options; in
    lib.any (name: options.nixpkgs.${name}.highestPrio < 1500) [ "localSystem" "crossSystem" ]
    || options.nixpkgs.hostPlatform.isDefined && options.nixpkgs.hostPlatform.value.system == system;

  # imagesOf: makes images of a configuration that is evaluated already, for example by `nixosSystem`.
  imagesOf = { evaluated, formats, system, systemIsGiven ? true, modules ? [ ], specialArgs ? { } }:
    let found = contradiction { inherit evaluated system systemIsGiven; }; in
    if found != null then
      throw ("nixpkgs.${found.name}${found.where} is ${found.own}, but the image is for ${system}: say --system ${found.own}"
        + lib.optionalString systemIsGiven ", or lib.mkDefault in the configuration")
    else
    let
      wanted = map (name: formatNamed name system // { given = name; }) formats;
      prepared = evaluated.extendModules {
        inherit specialArgs;
        modules = [
          ./modules
          ./modules/switches.nix
          {
            nixpkgs.hostPlatform = lib.mkIf (! saysPlatform evaluated system) (lib.mkForce system);
            # Modules of the flake that make a whole configuration an image's: of such a one an image would be made of itself, and what
            # it is compared with would be hidden.
            disabledModules = map (name: { key = "nixos-image/${name}"; }) [ "whole" "whole-disk" ];
          }
        ] ++ modules;
      };
      # Where what is not declared is no mistake: a checked evaluation does not even tell its options then.
      unchecked = prepared.extendModules { modules = [{ _module.check = false; }]; };
      # Formats share a system unless the configuration says something for one of them alone.
      keyOf = format: if format.variant == null && own unchecked format != [ ] then format.name else format.guest;
      # Of a module's `extendModules` the result has no pkgs.
      withPkgs = guest: guest // { inherit (guest._module.args) pkgs; };
      guests = lib.listToAttrs (map (format: lib.nameValuePair (keyOf format) (withPkgs (guestOf prepared unchecked format))) wanted);
    in
    tellStrangers unchecked (lib.listToAttrs (map
      (format:
        let guest = guests.${keyOf format}; in
        lib.nameValuePair format.given (make system unchecked format guest // { inherit (guest) config; }))
      wanted));
in
{
  inherit formats imagesOf;

  images = { system, formats, systemIsGiven ? true, modules ? [ ], specialArgs ? { } }: imagesOf {
    evaluated = evaluate { inherit modules specialArgs; };
    inherit system formats systemIsGiven;
  };
}
