# Whether the booted system finds the file `path`: in the store, in memory, which the boot fills (secrets of sops-nix and agenix are below
# /run), in the image, or on a file system that the configuration has beside its root.
{ config, lib }:
let
  cfg = config.nixosImage;
  isBelow = path: folder: lib.hasPrefix "${lib.removeSuffix "/" folder}/" path;
in
path:
lib.any (isBelow path) ([ builtins.storeDir "/run" ] ++ lib.remove "/" (map (one: one.mountPoint) (lib.attrValues config.fileSystems)))
|| lib.any (file: file.enable && path == "/etc/${file.target}") (lib.attrValues config.environment.etc)
|| lib.any (one: let target = "/${lib.removePrefix "/" one.target}"; in path == target || isBelow path target) cfg.contents
|| lib.elem path cfg.late.injected
