# Refuses images that nobody can log in to, and SSH keys that are placeholders.
{ config, lib, options, ... }:
let
  cfg = config.nixosImage;
  users = lib.attrValues config.users.users;

  # A key may have options before it and a comment after it: `from="10.*" ssh-ed25519 AAAA... me@home`.
  isKey = key: builtins.match "(.* )?(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ AAAA[0-9A-Za-z+/=]{60,}( .*)?[\n]?" key != null;
  keysOf = user: user.openssh.authorizedKeys.keys;
  broken = lib.concatMap (user: map (key: { inherit (user) name; inherit key; }) (lib.filter (key: !isKey key) (keysOf user))) users;

  hasPassword = user: lib.any (field: (user.${field} or null) != null)
    [ "hashedPassword" "password" "hashedPasswordFile" "initialHashedPassword" "initialPassword" ];
  hasKey = user: keysOf user != [ ] || user.openssh.authorizedKeys.keyFiles != [ ];
  letsIn = user: (config.services.openssh.enable && hasKey user) || hasPassword user;

  # File and line of the definitions of a user's keys, for the error message.
  places = name: lib.concatMap
    (definition:
      let
        found = builtins.unsafeGetAttrPos "keys" (lib.attrByPath [ name "openssh" "authorizedKeys" ] { } definition.value);
      in
      lib.optional (found != null) "${found.file}:${toString found.line}")
    options.users.users.definitionsWithLocations;
  where = name: lib.concatMapStrings (place: "\n  edit ${place}") (places name);
in
{
  key = "nixos-image/login";
  _file = ./login.nix;

  assertions = lib.mkIf (!cfg.allowNoLogin) (
    map
      ({ name, key }: {
        assertion = false;
        message = "users.users.${name}.openssh.authorizedKeys.keys: ${builtins.toJSON key} is not a public key.${where name}"
          + "\n  insert your key (cat ~/.ssh/id_ed25519.pub), or set nixosImage.allowNoLogin = true";
      })
      broken
    ++ [{
      assertion = lib.any letsIn users || config.services.cloud-init.enable;
      message =
        if lib.any hasKey users then
          "nobody could log in: there are SSH keys, but services.openssh.enable is false"
        else
          "nobody could log in: no user has an SSH key or a password.${lib.concatMapStrings (user: where user.name) users}"
          + "\n  set users.users.NAME.openssh.authorizedKeys.keys, or nixosImage.allowNoLogin = true";
    }]
  );
}
