# What formats of nixos-generators import as `../lib.nix`: it is put there for a format file that comes without its own.
{ lib, options }: {
  # Overrides for options, `system.build.<name>` among them.
  maybe = { inherit (lib) mkForce mkOverride; };
}
