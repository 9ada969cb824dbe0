# Outputs of a locked flake, whose lock the builder has made with the caller's overrides (`builtins.getFlake` takes none).
#
# `lock` is the content of flake.lock. `sources` has for a node of it what its tree is known to be, such as
# { outPath = "/nix/store/…-source"; lastModified = 1; rev = "…"; }; `folder` is the root's folder in its tree. Other trees are fetched
# when they are needed.
{ lock, sources, folder }:
let
  # A node is named by its key, or by a path of inputs from the root ("follows").
  keyOf = input: if builtins.isList input then builtins.foldl' (key: name: keyOf lock.nodes.${key}.inputs.${name}) lock.root input else input;

  below = place: folder: if folder == "" then place else "${place}/${folder}";
  # Without `.` and `..`
  plain = folder: builtins.substring 1 (-1) (toString (/. + "/${folder}"));
  isRelative = node: node.locked.type or "" == "path" && builtins.substring 0 1 node.locked.path != "/";

  # The tree that a node lies in, and its folder there.
  treeOf = key: node:
    if sources ? ${key} then
      { source = sources.${key} // { outPath = builtins.storePath sources.${key}.outPath; }; folder = if key == lock.root then folder else node.locked.dir or ""; }
    else if isRelative node then
      let parent = trees.${keyOf (node.parent or [ ])}; in
      { inherit (parent) source; folder = plain "${parent.folder}/${node.locked.path}"; }
    else
      {
        source = builtins.addErrorContext "while fetching the flake input '${key}'" (builtins.fetchTree (removeAttrs node.locked [ "dir" "__final" ]));
        folder = node.locked.dir or "";
      };
  trees = builtins.mapAttrs treeOf lock.nodes;

  flakeOf = key: node:
    let
      inherit (trees.${key}) source folder;
      outPath = below source.outPath folder;
      inputs = builtins.mapAttrs (_: input: flakes.${keyOf input}) (node.inputs or { });
      outputs = (import "${outPath}/flake.nix").outputs (inputs // { self = flake; });
      flake = outputs // source // { inherit outPath inputs outputs; sourceInfo = source; _type = "flake"; };
    in
    if node.flake or true then flake else source // { inherit outPath; sourceInfo = source; };
  flakes = builtins.mapAttrs flakeOf lock.nodes;
in
flakes.${lock.root}
