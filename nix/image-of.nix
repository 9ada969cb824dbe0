# The image of the configuration that a module is part of. `arguments` are that module's; a custom format has its modules itself.
{ extendModules, pkgs, ... }@arguments: customFormats:
let
  library = import ./. {
    nixpkgs = import ./tree-of.nix arguments;
    buildSystem = pkgs.stdenv.buildPlatform.system;
    inherit customFormats;
  };
in
format: modules: (library.imagesOf {
  evaluated = extendModules { modules = [ ]; };
  inherit (pkgs.stdenv.hostPlatform) system;
  formats = [ format ];
  inherit modules;
}).${format}
