# Whom the configured sshd lets in with a key. It judges sshd_config(5) as NixOS writes it: services.openssh.settings, then extraConfig
# with its Match blocks. What depends on more than the user's name and groups, an address for example, shuts nobody out here.
#
#   refusal NAME         why sshd takes no key of the user, "" if it may take one
#   readsKeys NAME FILE  whether sshd may read the user's keys in FILE, a word of AuthorizedKeysFile
{ config, lib }:
let
  inherit (config.services) openssh;

  # --- the file: { keyword, values } --------------------------------------------------------------

  # Paths of programs are words like others: nothing here is built.
  wordsOf = text: lib.filter (word: word != "")
    (lib.splitString " " (lib.replaceStrings [ "\t" "\"" ] [ " " "" ] (builtins.unsafeDiscardStringContext text)));
  textOf = value: if value == true then "yes" else if value == false then "no" else toString value;
  ofSettings = lib.mapAttrsToList (name: value: { keyword = lib.toLower name; values = lib.concatMap (one: wordsOf (textOf one)) (lib.toList value); })
    (lib.filterAttrs (_: value: value != null) openssh.settings);
  # A keyword and its values may have an equals sign between them.
  lines = lib.filter (words: words != [ ] && ! lib.hasPrefix "#" (lib.head words))
    (map (line: wordsOf (lib.replaceStrings [ "=" ] [ " " ] line)) (lib.splitString "\n" openssh.extraConfig));
  parsed = lib.foldl'
    (sections: words:
      let line = { keyword = lib.toLower (lib.head words); values = lib.tail words; }; in
      if line.keyword == "match" then sections ++ [{ criteria = line.values; lines = [ ]; }]
      else lib.init sections ++ [ ((lib.last sections) // { lines = (lib.last sections).lines ++ [ line ]; }) ])
    [{ criteria = [ ]; lines = ofSettings; }]
    lines;
  global = lib.head parsed;
  blocks = lib.tail parsed;

  # --- users: "yes", "no", "maybe" ----------------------------------------------------------------

  groupsOf = name:
    let user = config.users.users.${name} or { }; in
    [ (user.group or "") ] ++ user.extraGroups or [ ] ++ lib.attrNames (lib.filterAttrs (_: group: lib.elem name group.members) config.users.groups);
  # A pattern has `*` and `?` for any letters.
  fits = pattern: name: builtins.match (lib.replaceStrings [ "\\*" "\\?" ] [ ".*" "." ] (lib.escapeRegex pattern)) name != null;
  anyFits = patterns: names: lib.any (pattern: lib.any (fits pattern) names) patterns;
  # One that begins with an exclamation mark excludes whom it fits, whatever else is listed.
  matches = patterns: names:
    if anyFits (map (lib.removePrefix "!") (lib.filter (lib.hasPrefix "!") patterns)) names then "no"
    else if anyFits patterns names then "yes"
    else "no";
  all = verdicts: if lib.elem "no" verdicts then "no" else if lib.elem "maybe" verdicts then "maybe" else "yes";
  ofCriteria = name: criteria:
    let
      kind = lib.toLower (lib.head criteria);
      patterns = lib.splitString "," (lib.elemAt criteria 1);
    in
    if criteria == [ ] then [ ]
    else if kind == "all" then [ "yes" ] ++ ofCriteria name (lib.tail criteria)
    else if kind == "invalid-user" || lib.length criteria < 2 then [ "no" ]
    else [ ({ user = matches patterns [ name ]; group = matches patterns (groupsOf name); }.${kind} or "maybe") ] ++ ofCriteria name (lib.drop 2 criteria);

  # Values of a keyword for a user: the first line's, or of a list those of all lines; [ ] without any, null where it depends.
  isList = keyword: lib.elem keyword [ "allowusers" "denyusers" "allowgroups" "denygroups" ];
  valuesOf = keyword: name:
    let
      linesIn = section: lib.filter (line: line.keyword == keyword) section.lines;
      having = verdict: lib.concatMap linesIn (lib.filter (block: all (ofCriteria name block.criteria) == verdict) blocks);
      found = if having "yes" != [ ] then having "yes" else linesIn global;
    in
    if having "maybe" != [ ] then null
    else if found == [ ] then [ ]
    else if isList keyword then lib.concatMap (line: line.values) found
    else (lib.head found).values;

  # --- refusals -----------------------------------------------------------------------------------

  # A pattern may have a host (USER@HOST), on which only an admission can depend.
  userOf = pattern: lib.head (lib.splitString "@" pattern);
  isNot = keyword: name: names: let values = valuesOf keyword name; in
    values != null && values != [ ] && matches (map userOf values) names == "no";
  is = keyword: name: names: let values = valuesOf keyword name; in values != null && matches values names == "yes";
  says = keyword: name: text: let values = valuesOf keyword name; in values != null && values != [ ] && lib.toLower (lib.head values) == text;
  # Lists of methods, each of which has to succeed; a key is one of them.
  methods = name: let values = valuesOf "authenticationmethods" name; in if values == null then [ ] else values;
  isKeyAlone = list: lib.all (method: lib.hasPrefix "publickey" method || method == "any") (lib.splitString "," list);
in
{
  refusal = name:
    let found = lib.filter (one: one.shut) [
      { shut = ! openssh.enable; why = "services.openssh.enable is false"; }
      { shut = says "pubkeyauthentication" name "no"; why = "PubkeyAuthentication is no"; }
      { shut = name == "root" && says "permitrootlogin" name "no"; why = "PermitRootLogin is no"; }
      { shut = isNot "allowusers" name [ name ]; why = "AllowUsers does not name ${name}"; }
      { shut = is "denyusers" name [ name ]; why = "DenyUsers names ${name}"; }
      { shut = isNot "allowgroups" name (groupsOf name); why = "AllowGroups has no group of ${name}"; }
      { shut = is "denygroups" name (groupsOf name); why = "DenyGroups has a group of ${name}"; }
      { shut = methods name != [ ] && ! lib.any isKeyAlone (methods name); why = "AuthenticationMethods wants more than a key"; }
    ]; in
    if found == [ ] then "" else (lib.head found).why;

  readsKeys = name: file:
    let values = valuesOf "authorizedkeysfile" name; in
    values == null || values == [ ] || lib.elem file values;
}
