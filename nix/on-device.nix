# Files of /etc/nixos, so that `nixos-rebuild switch` on the device makes a system that fits its disk: `nixosImage.contents` entries.
#
# Like the file that nixpkgs' own images have, configuration.nix imports the provider's module, and nothing of the configuration
# that the image was made of. It also imports our modules of the disk, which lie beside it: the provider's describes another one.
{ lib, format, config, system }:
let
  cfg = config.nixosImage;
  ours = "nixos-image"; # a folder beside configuration.nix
  isOurs = lib.hasPrefix "./";
  # A module of nixpkgs', or a file beside configuration.nix that the provider may write.
  imported = module:
    if isOurs module then "lib.optional (builtins.pathExists ${module}) ${module}" else ''[ "''${modulesPath}/${module}" ]'';
  modules = map (name: "nix/modules/${lib.removePrefix "./" name}") (lib.filter isOurs format.modules);
  settings = {
    inherit (cfg) partitionTableType fsType label;
    allowNoLogin = ! format.login;
    cloud = { inherit (cfg.cloud) enable; };
    late = removeAttrs cfg.late [ "places" ];
  };
  name = import ./name.nix { inherit config format system; };
  configuration = ''
    # The system of this machine. Without more it is the provider's, on the disk that the image ${name} has.
    { lib, modulesPath, ... }:
    {
      imports = ${lib.concatMapStringsSep " ++ " imported format.onDevice} ++ [
        ./${ours}/nix/modules
    ${lib.concatMapStrings (name: "    ./${ours}/${name}\n") modules}  ];

      # How the disk was made
      nixosImage = ${lib.generators.toPretty { indent = "  "; } settings};

      system.stateVersion = "${config.system.stateVersion}";
    }
  '';
  file = name: source: { inherit source; target = "/etc/nixos/${name}"; user = 0; group = 0; mode = "644"; };
in
[ (file "configuration.nix" (builtins.toFile "configuration.nix" configuration)) ]
++ [ (file "${ours}/nix/modules" ./modules // { mode = ""; }) ]
++ lib.mapAttrsToList (name: file "${ours}/${name}") {
  "nix/definitions.nix" = ./definitions.nix;
  "nix/place.nix" = ./place.nix;
  "nix/provided.nix" = ./provided.nix;
  "nix/sshd.nix" = ./sshd.nix;
  "orchestrator/shared/filesystems.toml" = ../orchestrator/shared/filesystems.toml;
  "orchestrator/shared/disk_formats.toml" = ../orchestrator/shared/disk_formats.toml;
  "locks/clover.json" = ../locks/clover.json;
}
