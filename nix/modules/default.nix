# Modules of all formats: the options `nixosImage`, and those of their effects that do not depend on the format.
{
  imports = [ ./options.nix ./login.nix ./late.nix ./cloud.nix ./channel.nix ./foreign.nix ];
}
