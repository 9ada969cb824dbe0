# What every configuration has, whatever its format: the options, and what they mean on any of them.
{
  imports = [ ./options.nix ./login.nix ./cloud.nix ./channel.nix ];
}
