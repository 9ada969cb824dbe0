# The entry of fileSystems that the file `path` lies on, through bind mounts; null if there is none.
{ lib, fileSystems }:
let
  entries = lib.attrValues fileSystems;
  isBelow = folder: path: folder == "/" || path == folder || lib.hasPrefix "${folder}/" path;
  # `seen` are the mount points of the bind mounts so far, which may go round in a circle.
  mountOf = seen: path:
    let
      above = lib.filter (one: isBelow one.mountPoint path && ! lib.elem one.mountPoint seen) entries;
      deepest = lib.head (lib.sort (one: other: lib.stringLength one.mountPoint > lib.stringLength other.mountPoint) above);
      rest = lib.removePrefix (if deepest.mountPoint == "/" then "" else deepest.mountPoint) path;
      isBind = lib.intersectLists (lib.concatMap (lib.splitString ",") deepest.options) [ "bind" "rbind" ] != [ ];
    in
    if above == [ ] then null
    else if isBind then mountOf (seen ++ [ deepest.mountPoint ]) "${lib.removeSuffix "/" deepest.device}${rest}"
    else deepest;
in
mountOf [ ]
