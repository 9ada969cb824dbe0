# What a configuration's images are named after, as letters that every file system and shell allows in a name; more is added to it.
text:
let
  kept = builtins.concatStringsSep "" (map (part: if builtins.isString part then part else "-") (builtins.split "[^A-Za-z0-9._-]+" text));
  name = builtins.substring 0 64 (builtins.head (builtins.match "[.-]*(|.*[^.-])[.-]*" kept));
in
if name == "" then "nixos" else name
