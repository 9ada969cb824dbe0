# Late values (host name, keys, Wi-Fi, injected files) are put into the image after the build. This module makes the system read
# them, or refuses what the booted system would not see: files that NixOS' activation writes itself, and folders where something
# else is mounted.
{ config, lib, modulesPath, options, ... }@arguments:
let
  inherit (config.nixosImage) late onlyNixStore;
  isGiven = late.hostName || late.keyUsers != [ ] || late.wifi || late.identity || late.injected != [ ];
  placesOf = option: path: attribute:
    lib.concatMapStringsSep ", " (import ../place.nix { inherit lib arguments; } path [ attribute ])
      (lib.filter (one: one.value ? ${attribute}) (option.definitionsWithLocations or [ ]));

  # --- /etc -----------------------------------------------------------------------------------------

  overlay = config.system.etc.overlay.enable or false;
  isMutable = ! overlay || config.system.etc.overlay.mutable;
  # What activation puts into /etc: { name, target }
  etc = lib.mapAttrsToList (name: file: { inherit name; inherit (file) target; }) (lib.filterAttrs (_: file: file.enable) config.environment.etc);
  isBelow = folder: path: lib.hasPrefix "${lib.removeSuffix "/" folder}/" path;
  # Files of environment.etc that replace `path`; an overlay's upper layer wins, but not over a folder.
  ownersOf = path: lib.filter
    (file: let target = "/etc/${file.target}"; in
      target == path && ! overlay || isBelow target path || isBelow path target)
    etc;
  etcProblem = path:
    let owner = lib.head (ownersOf path); in
    if ! lib.hasPrefix "/etc/" path then ""
    else if ! isMutable then "/etc is read-only and the system's own (system.etc.overlay.mutable = false)"
    else if ownersOf path != [ ] then
      "environment.etc.\"${owner.name}\" puts /etc/${owner.target} there at each boot; set that option, or its `enable` to false"
    else "";

  # --- users' keys, Wi-Fi ---------------------------------------------------------------------------

  hasKeys = name:
    let keys = config.users.users.${name}.openssh.authorizedKeys; in
    config.users.users ? ${name} && (keys.keys != [ ] || keys.keyFiles != [ ]);
  # Activation writes the file of a user who has keys in the configuration: keys of the device go into a folder beside it.
  # A specialisation may give keys to users who have none outside of it.
  ownFolder = lib.any hasKeys late.keyUsers || config.specialisation != { };
  keys = "etc/ssh/${if ownFolder then "device_keys.d" else "authorized_keys.d"}";

  sshd = import ../sshd.nix { inherit config lib; };
  # " (FILE:LINE)" of what the configuration itself says of an option
  saidAt = path:
    let
      option = lib.attrByPath path { } arguments.options;
      own = lib.filter (one: ! lib.hasPrefix "${toString modulesPath}/" one.file) (option.definitionsWithLocations or [ ]);
      places = map (import ../place.nix { inherit lib arguments; } path [ ]) own;
    in
    lib.optionalString (places != [ ]) " (${lib.concatStringsSep ", " places})";

  # Where sshd reads its Ed25519 host key.
  hostKeys = lib.optionals config.services.openssh.enable (lib.filter (key: key.type == "ed25519") config.services.openssh.hostKeys);
  hostKey = if late.identity && hostKeys != [ ] then lib.removePrefix "/" (lib.head hostKeys).path else "";
  identityFiles = lib.optionals late.identity ([ "/etc/machine-id" "/etc/device-serial" ] ++ lib.optionals (hostKey != "") [ "/${hostKey}" "/${hostKey}.pub" ]);
  placeProblem = path:
    let found = lib.filter (problem: problem != "") [ (etcProblem path) (mountProblem path) (tmpfilesProblem path) (contentsProblem path) ]; in
    if found == [ ] then "" else lib.head found;
  # { path, by } of each late file beside injected ones: its place, and the options that put it there.
  lateFiles = lib.optional late.hostName { path = "/etc/hostname"; by = "--host-name, --stamp"; }
    ++ map (name: { path = "/${keys}/${name}"; by = "--stamp, ssh_key"; }) late.keyUsers
    ++ lib.concatMap (place: lib.optional (place != "") { path = "/${place}${lib.optionalString (wifi ? networkmanager || wifi ? iwd) "/wifi"}"; by = "--wifi-ssid, --stamp"; }) (lib.attrValues wifi)
    ++ map (path: { inherit path; by = "--identity-seed"; }) identityFiles;

  # Parameters by which systemd takes a name or an identity before it looks at a file.
  parameterOf = name: lib.findFirst (lib.hasPrefix "${name}=") null config.boot.kernelParams;
  isFixed = name: parameterOf name != null;

  inherit (config.networking) wireless networkmanager;
  # The file that wpa_supplicant's units read, from their own command line.
  supplicantUnits = lib.filterAttrs (name: _: name == "wpa_supplicant" || lib.hasPrefix "wpa_supplicant-" name) config.systemd.services;
  supplicantFiles = lib.unique (lib.concatMap
    (unit: lib.concatMap (part: if lib.isList part then part else [ ]) (builtins.split "-c (/[^ \"\n]+)" unit.script))
    (lib.attrValues supplicantUnits));
  supplicantFile = if supplicantFiles == [ ] then "" else lib.head supplicantFiles;
  usesSupplicant = wireless.enable && ! networkmanager.enable;
  # ConnMan tells wpa_supplicant and iwd what to join, and takes that from its own folder.
  connman = config.services.connman.enable or false;
  wifi =
    if ! late.wifi || connman then { }
    else if networkmanager.enable then { networkmanager = "etc/NetworkManager/system-connections"; }
    else if wireless.enable then { wpa_supplicant = lib.removePrefix "/" supplicantFile; }
    else if wireless.iwd.enable then { iwd = "var/lib/iwd"; }
    else { };

  # --- injected files -------------------------------------------------------------------------------

  mounts = lib.filter (mount: mount != "/")
    (map (one: one.mountPoint) (lib.attrValues config.fileSystems) ++ lib.attrNames config.boot.specialFileSystems
      ++ map (one: one.where) (lib.filter (one: one.enable && one.wantedBy ++ one.requiredBy != [ ]) config.systemd.mounts)
      ++ lib.optional (config.boot.tmp.useTmpfs || config.boot.tmp.cleanOnBoot) "/tmp");
  mountProblem = path:
    let found = lib.filter (mount: mount == path || isBelow mount path) mounts; in
    lib.optionalString (found != [ ]) "at boot ${lib.head found} is another file system, or emptied${lib.optionalString (isBelow "/boot" path) "; for a boot partition set boot.loader.systemd-boot.extraFiles, for a card's sdImage.populateFirmwareCommands"}";

  # Types of tmpfiles.d lines that replace or remove what is there (tmpfiles.d(5)).
  replaces = type: lib.any (one: lib.hasPrefix one type) [ "R" "r" "D" "F" ] || lib.hasInfix "+" type || lib.hasInfix "=" type;
  words = line: lib.filter (word: word != "") (lib.splitString " " line);
  textsOf = folder: lib.concatMap (file: lib.optionals (lib.hasPrefix "${folder}/" file.target && file.text != null) (lib.splitString "\n" file.text))
    (lib.filter (file: file.enable) (lib.attrValues config.environment.etc));
  rules = lib.filter (rule: lib.length rule >= 2) (map words (config.systemd.tmpfiles.rules ++ textsOf "tmpfiles.d"))
    ++ lib.concatLists (lib.concatMap (lib.mapAttrsToList (path: types: map (type: [ type path ]) (lib.attrNames types))) (lib.attrValues (config.systemd.tmpfiles.settings or { })));
  tmpfilesProblem = path:
    let found = lib.filter (rule: replaces (lib.head rule) && (lib.elemAt rule 1 == path || isBelow (lib.elemAt rule 1) path && ! lib.hasPrefix "L" (lib.head rule))) rules; in
    lib.optionalString (found != [ ]) "systemd-tmpfiles replaces or removes it at boot (line `${lib.concatStringsSep " " (lib.take 2 (lib.head found))} …`)";

  users = "users.users and users.groups decide what is in it";
  written = {
    "/etc/passwd" = users;
    "/etc/group" = users;
    "/etc/shadow" = users;
    "/etc/subuid" = users;
    "/etc/subgid" = users;
    "/etc/static" = "activation makes it";
    "/etc/.clean" = "activation makes it";
    "/bin/sh" = "activation makes it";
    "/usr/bin/env" = "activation makes it";
    "/etc/hostname" = lib.optionalString late.hostName "it is the place of the device's host name";
  } // lib.optionalAttrs (config.networking.resolvconf.enable or false) { "/etc/resolv.conf" = "resolvconf writes it"; };

  # Files that are put into the image for another reason.
  taken =
    map (name: "/${keys}/${name}") late.keyUsers
    ++ identityFiles
    ++ map (place: "/${place}") (lib.attrValues wifi)
    ++ map (name: "/boot/${name}") [ "grub" "kernels" "nixos" "extlinux" ];
  takenProblem = path:
    let found = lib.filter (other: other == path || isBelow other path || isBelow path other) taken; in
    lib.optionalString (found != [ ]) "${lib.head found} is there for the boot loader, or another late value";
  contentsProblem = path:
    let found = lib.filter (one: normal one.target == path || isBelow path (normal one.target)) config.nixosImage.contents; in
    lib.optionalString (found != [ ]) "nixosImage.contents puts ${(lib.head found).target} there";

  # Without repeated slashes, and with one at the start, as in the tree of the image.
  normal = path: "/${lib.concatStringsSep "/" (lib.filter (part: part != "" && part != ".") (lib.splitString "/" path))}";
  homes = map (user: user.home) (lib.attrValues config.users.users);
  problemOf = path: homeProblem:
    let found = lib.filter (problem: problem != "") [
      (written.${path} or "")
      homeProblem
      (etcProblem path)
      (mountProblem path)
      (takenProblem path)
      (tmpfilesProblem path)
    ]; in
    if found == [ ] then "" else lib.head found;
  injectedProblem = path:
    if onlyNixStore then "the image contains only the Nix store (nixosImage.onlyNixStore)"
    else
      let problem = problemOf path (lib.optionalString (lib.elem path homes) "it is a user's home; end the path with a slash to put the file into it"); in
      if problem != "" then problem else contentsProblem path;
in
{
  _file = ./late.nix;

  config = lib.mkMerge [ {
    # Files of the image that come from the configuration share the places of injected ones; a folder may be one of theirs.
    assertions = map
      (one: let problem = problemOf (normal one.target) ""; in {
        assertion = problem == "";
        message = "nixosImage.contents: ${one.target}: the booted system would not see it: ${problem}";
      })
      (lib.optionals (! onlyNixStore) config.nixosImage.contents);
  } (lib.mkIf isGiven {
    nixosImage.late.places = { inherit keys wifi hostKey; etc = if overlay then ".rw-etc/upper" else "etc"; };

    # Without NixOS' /etc/hostname an activation does not overwrite the device's name. Avahi takes the host's name if it is told none.
    environment.etc.hostname.enable = lib.mkIf late.hostName (lib.mkOverride 45 false);
    services.avahi.hostName = lib.mkIf late.hostName (lib.mkDefault "");
    # Without a name in the configuration, images of these providers take that of their network; this one is NixOS' default.
    networking.hostName = lib.mkIf (late.hostName && (options ? ec2 || options ? openstack || options.virtualisation ? digitalOcean))
      (lib.mkOverride 990 config.system.nixos.distroId);
    services.cloud-init = lib.optionalAttrs (options.services.cloud-init ? settings) {
      settings.preserve_hostname = lib.mkIf late.hostName (lib.mkOverride 990 true);
    };
    services.openssh.authorizedKeysFiles = lib.mkIf (late.keyUsers != [ ]) [ "/etc/ssh/device_keys.d/%u" ];
    networking.wireless.allowAuxiliaryImperativeNetworks = lib.mkIf (late.wifi && usesSupplicant) (lib.mkDefault true);

    assertions =
      map (path: { assertion = injectedProblem path == ""; message = "--inject ${path}: the booted system would not see the file: ${injectedProblem path}"; }) late.injected
      ++ [
        {
          assertion = late.hostName || late.keyUsers != [ ] || late.wifi || late.identity -> ! onlyNixStore;
          message = "late values: the image contains only the Nix store (nixosImage.onlyNixStore)";
        }
        {
          assertion = late.hostName -> ! (config.boot.kernel.sysctl ? "kernel.hostname");
          message = "--host-name, --stamp: boot.kernel.sysctl.\"kernel.hostname\" (${placesOf arguments.options.boot.kernel.sysctl [ "boot" "kernel" "sysctl" ] "kernel.hostname"}) would replace the device's name; leave it out";
        }
        {
          assertion = late.hostName -> ! isFixed "systemd.hostname";
          message = "--host-name, --stamp: boot.kernelParams${saidAt [ "boot" "kernelParams" ]} has ${toString (parameterOf "systemd.hostname")}, which would replace the device's name; leave it out";
        }
        {
          # Such a provider's service sets the host name that its network has, where the configuration has none.
          assertion = late.hostName && config.networking.hostName == "" -> ! (config.systemd.services ? apply-ec2-data || config.systemd.services ? digitalocean-set-hostname);
          message = "--host-name, --stamp: networking.hostName${saidAt [ "networking" "hostName" ]} is \"\", so the provider would replace the device's name; leave it out, or give it a name";
        }
        {
          assertion = late.identity -> ! isFixed "systemd.machine_id";
          message = "--identity-seed: boot.kernelParams${saidAt [ "boot" "kernelParams" ]} has ${toString (parameterOf "systemd.machine_id")}, which would replace the device's machine-id; leave it out";
        }
        {
          assertion = late.keyUsers != [ ] -> config.services.openssh.enable;
          message = "--stamp, ssh_key: nothing would read the keys; set services.openssh.enable = true";
        }
        {
          assertion = lib.all (name: sshd.readsKeys name "/${keys}/%u") late.keyUsers;
          message = "--stamp, ssh_key: sshd does not read /${keys}/%u; add it to services.openssh.authorizedKeysFiles";
        }
        {
          assertion = late.wifi -> ! connman;
          message = "--wifi-ssid, --stamp: services.connman.enable${saidAt [ "services" "connman" "enable" ]}: ConnMan reads no network that an image gives it; take networking.networkmanager, networking.wireless or networking.wireless.iwd instead";
        }
        {
          assertion = late.wifi && ! connman -> wifi != { };
          message = "--wifi-ssid, --stamp: nothing in the configuration joins a Wi-Fi network; set networking.networkmanager.enable, networking.wireless.enable or networking.wireless.iwd.enable = true";
        }
        {
          assertion = wifi ? wpa_supplicant -> supplicantFile != "" && etcProblem supplicantFile == "";
          message = "--wifi-ssid, --stamp: wpa_supplicant's units read no file of the device's; set networking.wireless.allowAuxiliaryImperativeNetworks = true";
        }
      ]
      ++ map
        (one: {
          assertion = placeProblem one.path == "";
          message = "${one.by}: the booted system would not see ${one.path}: ${placeProblem one.path}";
        })
        lateFiles
      ++ map
        (name: {
          assertion = config.users.users ? ${name};
          message = "--stamp, ssh_key: the configuration has no user ${name}; set users.users.${name}";
        })
        late.keyUsers
      ++ map
        (name: {
          assertion = sshd.refusal name == "";
          message = "--stamp, ssh_key: sshd takes no key of ${name}: ${sshd.refusal name}; look at services.openssh.settings${saidAt [ "services" "openssh" "settings" ]} and extraConfig${saidAt [ "services" "openssh" "extraConfig" ]}";
        })
        (lib.filter (_: config.services.openssh.enable) late.keyUsers);
  }) ];
}
