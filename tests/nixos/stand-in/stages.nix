# nixpkgs' package set in one stage: a stdenv with Debian's tools, whose mkDerivation replaces every package with a source by a
# stand-in. Derivations without a source (units, /etc, initrd, activation script...) are built unchanged.
{ lib, localSystem, crossSystem, config, overlays, ... }:
assert lib.assertMsg (lib.systems.equals localSystem crossSystem) "stand-ins are not made for cross compilation";
let
  inherit (localSystem) system;
  debian = import ./debian.nix { inherit lib system; };
  table = import ./packages.nix;
  lenient = builtins.getEnv "NIXPKGS_STAND_IN_LENIENT" != "";

  compiler = import ./compiler.nix { inherit lib debian system; };

  stdenv = import ../pkgs/stdenv/generic { defaultConfig = config; } {
    buildPlatform = localSystem;
    hostPlatform = localSystem;
    targetPlatform = localSystem;
    shell = "${debian.tools}/bin/bash";
    initialPath = [ debian.tools ];
    cc = compiler;
    preHook = "export CC=cc";
    fetchurlBoot = throw "stand-ins fetch nothing";
    mkDerivationFromStdenv = stdenv: mkDerivation (import ../pkgs/stdenv/generic/make-derivation.nix lib config stdenv).mkDerivation;
  };

  # nixpkgs' mkDerivation, but the final derivation may be a stand-in; overrides apply to nixpkgs' attributes.
  mkDerivation = real: attributesOrFunction:
    let
      make = function:
        let
          attributes = function (attributes // { inherit finalPackage overrideAttrs; });
          overrideAttrs = overlay: make (lib.extends (lib.toExtension overlay) function);
          finalPackage = if hasSource attributes then real (standIn attributes) // { inherit overrideAttrs; } else real function;
        in
        finalPackage;
    in
    make (lib.toFunction attributesOrFunction);

  # Whether the attributes have a source. Only their names are tested: values may depend on the package itself.
  hasSource = attributes: (attributes ? src || attributes ? srcs)
    # Not counted: fetchers, and trivial builders whose input is called src.
    && ! lib.any (name: attributes ? ${name}) [ "outputHash" "buildCommand" "buildCommandPath" "builder" "allowSubstitutes" ];

  standIn = attributes:
    let
      pname = attributes.pname or (lib.getName attributes.name);
      fixup = (import ./fixups.nix { inherit lib debian; }).${pname} or { };
      known = table.debian ? ${pname} || lib.elem pname table.empty || fixup ? script;
      # Fail at build time, not in evaluation: assertions compare packages that are never built.
      unknown = ''
        echo "tests/nixos: ${pname} has no stand-in; packages.nix says what Debian has for it, or that it may be empty" >&2
        exit 1
      '';
    in
    builtins.intersectAttrs { pname = null; version = null; name = null; outputs = null; meta = null; grubTarget = null; } attributes // {
      passthru = attributes.passthru or { } // fixup.passthru or { };
      inherit (debian) libraries machine;
      debs = debian.debs (table.debian.${pname} or [ ]);
      unpack = ./unpack.sh;
      fixup = if known || lenient then fixup.script or "" else unknown;
      buildCommandPath = ./stand-in.sh;
    };
in
[ (_: { inherit config overlays stdenv; }) ]
