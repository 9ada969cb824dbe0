# The two options that a format file of nixos-generators sets.
{ lib, ... }:
{
  options = {
    formatAttr = lib.mkOption {
      type = lib.types.str;
      description = "Which of `system.build` is the image.";
    };
    fileExtension = lib.mkOption {
      type = lib.types.str;
      default = "";
      description = "Of the image's name; what the derivation is called decides here.";
    };
  };
}
