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
          , nixpkgs ? if pkgs == null then self.inputs.nixpkgs else pkgs.path
          , system ? pkgs.stdenv.hostPlatform.system
          , buildSystem ? system
          , modules ? [ ]
          , specialArgs ? { }
          , customFormats ? { }
          }:
          ((import ./nix { inherit nixpkgs buildSystem customFormats; }).images {
            inherit system specialArgs;
            # With its overlays and its config, as `nixosSystem` takes it.
            modules = modules ++ lib.optional (pkgs != null) { nixpkgs.pkgs = pkgs; };
            formats = [ format ];
          }).${format};
        nixosGenerate = self.lib.imageSpec;

        # The same for a nixosConfiguration that is there already, in several formats.
        imagesOf = { evaluated, formats, buildSystem ? evaluated.pkgs.stdenv.hostPlatform.system, customFormats ? { } }:
          (import ./nix { nixpkgs = evaluated.pkgs.path; inherit buildSystem customFormats; }).imagesOf { inherit evaluated formats; };
      };

      # `default` declares `nixosImage`; the others are what formats give their guests.
      nixosModules = {
        default = ./nix/modules;
        disk = ./nix/modules/disk.nix;
        sd-card = ./nix/modules/sd-card.nix;
      };

      templates.default = {
        path = ./config;
        description = "A configuration for an SD card, and one for a cloud";
      };

      formatter = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: nixpkgs.legacyPackages.${system}.nixpkgs-fmt);
    };
}
