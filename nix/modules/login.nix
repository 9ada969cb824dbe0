# Refuses images that nobody can log in to, and SSH keys that are placeholders.
{ config, lib, modulesPath, options, ... }:
let
  cfg = config.nixosImage;
  inherit (config.services) openssh;
  users = lib.attrValues config.users.users;

  # --- keys, as sshd reads an authorized_keys file: a line each; empty lines and comments are none --------

  byteOrderMark = builtins.fromJSON ''"\ufeff"'';
  trimmed = line: let found = builtins.match "[ \t\r]*(.*[^ \t\r])[ \t\r]*" line; in if found == null then "" else lib.head found;
  linesOf = text: lib.filter (line: line != "" && ! lib.hasPrefix "#" line) (map trimmed (lib.splitString "\n" text));
  # A key may have options before it and a comment after it: `from="10.*" ssh-ed25519 AAAA... me@home`.
  isKey = line: builtins.match "(.*[ \t])?(ssh-|ecdsa-|sk-)[a-z0-9@.-]+[ \t]+AAAA[0-9A-Za-z+/=]{60,}([ \t].*)?" line != null;
  # { attribute, place, line } of each line of a user's
  linesOfUser = user:
    lib.concatMap (text: map (line: { attribute = "keys"; place = ""; inherit line; }) (linesOf text)) user.openssh.authorizedKeys.keys
    ++ lib.concatMap (file: map (line: { attribute = "keyFiles"; place = " of ${toString file}"; inherit line; }) (linesOf (lib.readFile file))) user.openssh.authorizedKeys.keyFiles;
  broken = lib.concatMap (user: map (one: one // { inherit (user) name; }) (lib.filter (one: ! isKey one.line) (linesOfUser user))) users;

  # --- who can log in: by sshd, by a password (PAM), without one (getty, a display manager) ---------------

  shellOf = user: if lib.isAttrs user.shell then user.shell.shellPath or "" else toString user.shell;
  hasShell = user: ! lib.any (name: lib.hasSuffix "/${name}" (shellOf user)) [ "nologin" "false" ];
  isProvided = import ../provided.nix { inherit config lib; };
  # Keys by which agenix or sops-nix makes the file `path` at boot, [ ] if neither does. An image without one of them makes its own
  # host key at the first boot, for which nobody has encrypted anything.
  keysOf = path:
    let
      age = config.age or { };
      sops = config.sops or { };
      makes = module: lib.any (secret: secret.path or "" == path) (lib.attrValues (module.secrets or { }));
    in
    map toString (lib.filter (key: key != null) (
      lib.optionals (makes age) (age.identityPaths or [ ])
      ++ lib.optionals (makes sops) ([ (sops.age.keyFile or null) ] ++ sops.age.sshKeyPaths or [ ] ++ sops.gnupg.sshKeyPaths or [ ])
    ));
  hasKeyOf = path:
    let keys = keysOf path; in
    keys == [ ] || lib.any isProvided keys || cfg.late.identity && lib.any (key: lib.elem key (map (one: one.path) openssh.hostKeys)) keys;
  isReadable = path: isProvided path && hasKeyOf path;
  passwordFile = user: if user.hashedPasswordFile or null == null then null else toString user.hashedPasswordFile;
  hasPassword = user:
    lib.any (field: (user.${field} or null) != null) [ "password" "initialPassword" ]
    || passwordFile user != null && isReadable (passwordFile user)
    # A hash that begins so locks the account (shadow(5)).
    || lib.any (field: let hash = user.${field} or null; in hash != null && ! lib.hasPrefix "!" hash && ! lib.hasPrefix "*" hash) [ "hashedPassword" "initialHashedPassword" ];
  hasKey = user: lib.any (one: isKey one.line) (linesOfUser user);
  sshd = import ../sshd.nix { inherit config lib; };
  # Keys of the configuration are in a file that activation writes.
  maySsh = name: sshd.refusal name == "" && sshd.readsKeys name "/etc/ssh/authorized_keys.d/%u";
  # Whom an injected file of keys lets in: the user whose home it is in, or who gives it its name.
  injectedFor = user: path:
    path == "${user.home}/.ssh/authorized_keys" && sshd.readsKeys user.name "%h/.ssh/authorized_keys"
    || path == "/etc/ssh/authorized_keys.d/${user.name}" && sshd.readsKeys user.name "/etc/ssh/authorized_keys.d/%u";
  hasInjectedKey = user: hasShell user && sshd.refusal user.name == "" && lib.any (injectedFor user) cfg.late.injected;
  letsIn = user: hasShell user && (hasPassword user || maySsh user.name && hasKey user);
  displayManager = config.services.displayManager.autoLogin or { enable = false; };
  canLogIn =
    lib.any letsIn users
    || config.users.allowNoPasswordLogin
    || config.services.getty.autologinUser != null
    || displayManager.enable
    || config.services.cloud-init.enable
    || openssh.enable && openssh.authorizedKeysCommand != "none"
    || cfg.late.everyDeviceHasKey # late.nix refuses keys of users whom sshd shuts out
    || lib.any hasInjectedKey users;

  # File and line of the definitions of a user's keys, for the error message.
  places = name: attribute: lib.concatMap
    (definition:
      let
        found = builtins.unsafeGetAttrPos attribute (lib.attrByPath [ name "openssh" "authorizedKeys" ] { } definition.value);
      in
      lib.optional (found != null) "${found.file}:${toString found.line}")
    options.users.users.definitionsWithLocations;
  where = name: attribute: lib.concatMapStrings (place: "\n  edit ${place}") (places name attribute);
  withKeys = lib.filter (user: hasShell user && hasKey user) users;
  withoutFile = lib.filter (user: hasShell user && passwordFile user != null && ! isReadable (passwordFile user)) users;
  shutOut = map (user: "${user.name} (${let why = sshd.refusal user.name; in if why != "" then why else "AuthorizedKeysFile has no /etc/ssh/authorized_keys.d/%u"})") withKeys;

  # NixOS leaves such a group out without a word, and the user has not its rights. What nixpkgs says of its own users is no mistake of
  # the configuration: an installer's user is in networkmanager, without NetworkManager, too.
  inherit (import ../definitions.nix { inherit lib modulesPath; }) isFromNixpkgs plain;
  ofNixpkgs = name: lib.concatMap
    (definition: lib.concatMap (user: lib.optionals (lib.isAttrs user) (lib.concatMap lib.toList (plain (user.extraGroups or [ ]))))
      (lib.concatMap plain (lib.catAttrs name (plain definition.value))))
    (lib.filter isFromNixpkgs options.users.users.definitionsWithLocations);
  noGroups = lib.concatMap
    (user: map (group: "${user.name}: ${group}")
      (lib.subtractLists (ofNixpkgs user.name) (lib.filter (group: ! config.users.groups ? ${group}) user.extraGroups)))
    (lib.filter (user: user.isNormalUser) users);
in
{
  key = "nixos-image/login";
  _file = ./login.nix;

  warnings = lib.optional (noGroups != [ ])
    "users.users.NAME.extraGroups: there is no such group, and the user will not be in it (${lib.concatStringsSep ", " noGroups}); administrators are in wheel";

  assertions = lib.mkIf (!cfg.allowNoLogin) (
    map
      ({ name, attribute, place, line }: {
        assertion = false;
        message = "users.users.${name}.openssh.authorizedKeys.${attribute}: ${builtins.toJSON line}${place} is not a public key${
          lib.optionalString (lib.hasPrefix byteOrderMark line) ", because a byte order mark precedes it"}.${where name attribute}"
          + "\n  insert your key (cat ~/.ssh/id_ed25519.pub), or set nixosImage.allowNoLogin = true";
      })
      broken
    ++ [{
      assertion = canLogIn;
      message =
        if lib.any hasKey users && ! openssh.enable then
          "nobody could log in: there are SSH keys, but services.openssh.enable is false"
        else if withKeys != [ ] then
          "nobody could log in: sshd lets no user in who has an SSH key: ${lib.concatStringsSep ", " shutOut}; look at services.openssh.settings and extraConfig"
        else if withoutFile != [ ] then
          let
            user = lib.head withoutFile;
            file = passwordFile user;
            keys = lib.optionals (isProvided file) (keysOf file);
            lost = if keys == [ ] then file else lib.head keys;
          in
          "nobody could log in: users.users.${user.name}.hashedPasswordFile is ${file}, "
          + (if keys == [ ] then "which is not in the image" else "which is encrypted for a key that is not in the image: ${lib.concatStringsSep ", " keys}")
          + "\n  put it there (--inject FILE:${lost}), or set nixosImage.allowNoLogin = true"
        else
          "nobody could log in: no user who has a shell has an SSH key or a password.${lib.concatMapStrings (user: where user.name "keys") users}"
          + "\n  set users.users.NAME.openssh.authorizedKeys.keys (in an appliance.toml: keys of a table [[users]]), or nixosImage.allowNoLogin = true";
    }]
  );
}
