{
  description = "Bootable NixOS images for this computer's CPU or another one";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
    in
    {
      lib = {
        # What there is; a format of one's own is made from one of these: `formats.raw-efi // { modules = … }`.
        formats = import ./nix/formats.nix;

        # One image: an image spec for the native formats, a folder with the finished file for the others. The arguments are
        # those of nixos-generators' function, and `buildSystem`, the machine that builds, where it is not the image's own.
        #
        #   imageSpec { system = "aarch64-linux"; modules = [ ./configuration.nix ]; format = "raw-efi"; }
        imageSpec =
          { format
          , pkgs ? null
          , lib ? null
          , nixosSystem ? if pkgs == null then nixpkgs.lib.nixosSystem else args: import (pkgs.path + "/nixos/lib/eval-config.nix") ({ system = null; } // args)
          , system ? null
          , buildSystem ? null
          , modules ? [ ]
          , specialArgs ? { }
          , customFormats ? { }
          }:
          let
            given = nixpkgs.lib.filterAttrs (_: value: value != null) { inherit pkgs lib system; };
            evaluated = nixosSystem ({ inherit modules specialArgs; } // given);
          in
          (self.lib.imagesOf { inherit evaluated system buildSystem customFormats; formats = [ format ]; }).${format};
        inherit (self) nixosGenerate;

        # The same for a nixosConfiguration that is there already, in several formats.
        imagesOf = { evaluated, formats, system ? null, buildSystem ? null, customFormats ? { } }:
          let
            # It may define options that only the image's evaluation has.
            inherit (evaluated.extendModules { modules = [{ _module.check = false; }]; }) _module;
            orElse = value: default: if value == null then default else value;
            own = orElse system _module.args.pkgs.stdenv.hostPlatform.system;
            library = import ./nix {
              nixpkgs = import ./nix/tree-of.nix _module.specialArgs;
              buildSystem = orElse buildSystem own;
              inherit customFormats;
            };
          in
          library.imagesOf { inherit evaluated formats; system = own; };
      };

      # Where nixos-generators has it.
      nixosGenerate = self.lib.imageSpec;

      # `default` declares `nixosImage`, `disk` describes the disk of an image, and `all-formats` has all images. Each other one is a
      # format's, and makes a configuration one image: nix/whole.nix.
      nixosModules = lib.concatMapAttrs
        (name: row: lib.genAttrs ([ name ] ++ row.aliases) (name: {
          imports = [ ./nix/modules ./nix/modules/format-path.nix ./nix/whole.nix ];
          formatAttr = name;
          fileExtension = lib.optionalString (row.suffix != "") ".${row.suffix}";
        }))
        self.lib.formats // {
        default = ./nix/modules;
        disk = { key = "nixos-image/whole-disk"; imports = [ ./nix/modules/disk.nix ]; };
        all-formats = ./nix/all-formats.nix;
      };

      templates.default = {
        path = ./config;
        description = "A configuration for an SD card, and one for a cloud";
      };

      formatter = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: nixpkgs.legacyPackages.${system}.nixpkgs-fmt);
    };
}
