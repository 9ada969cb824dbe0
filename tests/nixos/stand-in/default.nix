# Replaces nixpkgs' default.nix: the same package set, made by our stages. All importers get the stand-ins: NixOS for the guest,
# and nix/default.nix for the assembling tools.
{ ... }@args:
import ../default-unmodified.nix (
  args
  // {
    stdenvStages = import ./stages.nix;
    overlays = [ (import ./overlay.nix) ] ++ (args.overlays or [ ]);
  }
)
