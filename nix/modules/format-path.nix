# Declares the two options that a nixos-generators format file sets.
{ lib, ... }:
{
  options = {
    formatAttr = lib.mkOption {
      type = lib.types.str;
      description = "Name of the attribute of `system.build` that is the image.";
    };
    fileExtension = lib.mkOption {
      type = lib.types.str;
      default = "";
      description = "Suffix of the image's file name, with its dot, if the derivation's output is the file itself.";
    };
  };
}
