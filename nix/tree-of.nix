# The nixpkgs whose modules a configuration is made of: its `pkgs` may be of another tree. The argument is a module's arguments, or
# specialArgs.
{ modulesPath, ... }: dirOf (dirOf (toString modulesPath))
