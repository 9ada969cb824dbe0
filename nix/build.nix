# Entry point of the builder: one attribute set with all images of a run, for a single `nix-build`.
#
# `inputs` is a JSON file:
#   nixpkgs        path of nixpkgs; with a flake null, which means the flake's own
#   configuration  path of a NixOS module; or
#   flake          a locked flake, for nix/locked.nix
#   flakeGiven     its reference as the user wrote it
#   machines       instead of configuration and flake: { NAME = { configuration, formats, systems, systemsGiven }; } (default { })
#   attribute, hostName   which of its NixOS configurations: for nix/choose.nix
#   formats        names of nix/formats.nix, or their aliases, or of `formatPaths`
#   systems        "aarch64-linux", …
#   systemsGiven   whether the user has chosen the systems; if not, a flake's configuration keeps its own (default true)
#   name           what images are named after if their configuration sets no host name (default "nixos"); a flake's are named after the
#                  configuration's name there
#   disk           options of nixosImage from the command line, which override the configuration's (default {})
#   late           nixosImage.late: which late values there are (default {})
#   modules        paths of further modules (default [])
#   specialArgs    further arguments of NixOS modules (default {})
#   formatPaths    { name: path of a nixos-generators format file } (default {})
#   revision, versionSuffix   of nixpkgs, if its tree does not have them (default null)
#   features       what Nix' builders offer, such as "gccarch-armv7-a" (default null: not known)
#   buildSystem    Nix system of the build machine (default: this machine's)
#
# The result is { <system>.<format> = derivation; }, with machines { <name>.<system>.<format> = derivation; }: nix-build without -A
# builds all of them. See nix/default.nix.
{ inputs }:
let
  given = {
    configuration = null;
    machines = { };
    systemsGiven = true;
    hostName = "";
    name = "nixos";
    disk = { };
    late = { };
    modules = [ ];
    specialArgs = { };
    formatPaths = { };
    revision = null;
    versionSuffix = null;
    features = null;
    buildSystem = builtins.currentSystem;
  } // builtins.fromJSON (builtins.readFile inputs);

  path = text: /. + text;
  isFlake = given.configuration == null && given.machines == { };
  # With --special-arg: the configuration itself may need it.
  withArguments = configuration: if given.specialArgs == { } then configuration else configuration.extendModules { inherit (given) specialArgs; };
  chosenFor =
    let outputs = import ./locked.nix given.flake; in
    system: import ./choose.nix { inherit outputs system; inherit (given) attribute hostName; flake = given.flakeGiven; };
  ofFlake = builtins.listToAttrs (map
    (system:
      let chosen = chosenFor system; in
      { name = system; value = chosen // { configuration = withArguments chosen.configuration; }; })
    given.systems);
  nixpkgs = if given.nixpkgs != null then path given.nixpkgs else import ./tree-of.nix ofFlake.${builtins.head given.systems}.configuration._module.specialArgs;
  lib = import (nixpkgs + "/lib");

  library = import ./. {
    inherit nixpkgs;
    inherit (given) buildSystem features;
    customFormats = lib.mapAttrs (_: path) given.formatPaths;
  };

  nameFor = system: import ./file-name.nix (if isFlake then ofFlake.${system}.name else given.name);
  commandLineFor = name: {
    _file = "the command line";
    # Priority 45 overrides the configuration, even its lib.mkForce (50).
    nixosImage = lib.mapAttrsRecursive (_: lib.mkOverride 45) given.disk // { inherit (given) late; configurationName = lib.mkDefault name; };
    system.nixos = {
      revision = lib.mkIf (given.revision != null) (lib.mkDefault given.revision);
      versionSuffix = lib.mkIf (given.versionSuffix != null) (lib.mkDefault given.versionSuffix);
    };
  };
  modulesFor = name: map path given.modules ++ [ (commandLineFor name) ];

  # told: prints an image's file name while Nix evaluates (FILE in agents/builder/nixlog.py): if the user has a file of that
  # name, the run ends before it builds. So it does if the image's spec (SPEC there), null for what nixpkgs makes, and the options
  # of the command line do not go together.
  told = one:
    let spec = builtins.trace "nixos-image-spec ${builtins.toJSON (one.spec or null)}" one; in
    if one ? file then builtins.trace "nixos-image-file ${builtins.toJSON one.file}" spec else spec;

  imagesFor = system: lib.recurseIntoAttrs (lib.mapAttrs (_: told) (
    if isFlake then
      library.imagesOf
        {
          evaluated =
            let
              inherit (ofFlake.${system}) configuration name;
              own = configuration.pkgs.stdenv.hostPlatform.system;
            in
            if given.systemsGiven || own == system then configuration
            else throw "nixosConfigurations.${name} is for ${own}: use --system ${own}, or another configuration";
          inherit system;
          inherit (given) formats;
          modules = modulesFor (nameFor system);
          systemIsGiven = given.systemsGiven;
        }
    else
      imagesOf (nameFor system) given system
  ));

  imagesOf = name: machine: system: library.images {
    inherit system;
    inherit (machine) formats;
    inherit (given) specialArgs;
    systemIsGiven = machine.systemsGiven;
    modules = [ (path machine.configuration) ] ++ modulesFor name;
  };

  imagesOfMachine = name: machine: lib.recurseIntoAttrs (lib.genAttrs machine.systems
    (system: lib.recurseIntoAttrs (lib.mapAttrs (_: told) (imagesOf (import ./file-name.nix name) machine system))));
in
if given.machines != { } then lib.mapAttrs imagesOfMachine given.machines
else lib.genAttrs given.systems imagesFor
