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
      description = "With its dot: of the image's name, where the image is not a file in a folder.";
    };
  };
}
