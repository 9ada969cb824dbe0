# Takes the place of nixpkgs' own default.nix: the same package set, made by our stages. Whoever imports the tree gets the
# stand-ins: NixOS for the guest, nix/default.nix for what puts the image together.
{ ... }@args:
import ../default-unmodified.nix (
  args
  // {
    stdenvStages = import ./stages.nix;
    overlays = [ (import ./overlay.nix) ] ++ (args.overlays or [ ]);
  }
)
