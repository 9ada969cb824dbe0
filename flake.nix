{
  description = "Bootable NixOS images for this computer's CPU or another one";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      library = import ./nix;
    in
    {
      lib = {
        formats = import ./nix/formats.nix;

        # A drop-in for nixos-generators' function of that name: one image of a configuration.
        #
        #   nixosGenerate { system = "aarch64-linux"; modules = [ ./configuration.nix ]; format = "raw-efi"; }
        nixosGenerate = arguments: self.lib.imageSpec arguments;

        # The same with each argument's meaning: `nixpkgs` can be the caller's, `buildSystem` is the machine that builds,
        # `customFormats` adds to nix/formats.nix. Native formats give an image spec, the others the finished file.
        imageSpec = { system ? pkgs.stdenv.hostPlatform.system
                    , pkgs ? null
                    , modules ? [ ]
                    , specialArgs ? { }
                    , format
                    , customFormats ? { }
                    , buildSystem ? system
                    , nixpkgs ? (if pkgs == null then self.inputs.nixpkgs else pkgs.path)
                    }:
          ((library { inherit nixpkgs buildSystem customFormats; }).images {
            inherit system modules specialArgs;
            formats = [ format ];
          }).${format};

        # Images of a configuration that is evaluated already: { formats = [ "raw-efi" ]; evaluated = nixosConfigurations.NAME; }
        imagesOf = { evaluated, formats, buildSystem ? evaluated.pkgs.stdenv.hostPlatform.system, customFormats ? { } }:
          (library { nixpkgs = evaluated.pkgs.path; inherit buildSystem customFormats; }).imagesOf { inherit evaluated formats; };
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
