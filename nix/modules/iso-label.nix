# The ISO's label: the kernel finds its medium below /dev/disk/by-label, where udev escapes other letters.
{ config, ... }:
{
  assertions = [{
    assertion = builtins.match "[A-Za-z0-9#+.:=@_-]{1,32}" config.isoImage.volumeID != null;
    message = "isoImage.volumeID: ${builtins.toJSON config.isoImage.volumeID} is no label of an ISO here: 1 to 32 letters, digits, or any of # + - . : = @ _";
  }];
}
