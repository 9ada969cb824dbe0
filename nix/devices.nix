# What names a device in a configuration beside fileSystems, swapDevices and LUKS: units of mounts, /etc/fstab, /etc/crypttab and its
# like, the initrd's root, its services and the like. The image has its own disk alone, so a boot would wait for any other device, or fail.
#
#   definitionsOf, placeOf, plain   those of nix/modules/declared.nix
#   declared                        options of the configuration without the format's modules
#   made                            { device, fsType } of each file system that the image has
#   isHarmless                      whether an entry { device, fsType, options } of fstab needs no disk
#   isLive                          whether the image is a system in memory, without a disk
#   hasEsp                          whether the image has an EFI system partition
#   hasGpt                          whether the image has a GPT, or none that is this project's
#   problemsOf                      sentences of what is wrong with an entry that has a mountPoint, too, whether it needs a disk or not
#
# Returns a list of { option, findings }: a finding is { name, places, why, instead, without }, where `without` is a definition of the
# option that leaves the thing out, null where only the configuration itself can.
{ lib, declared, definitionsOf, escapePath, hasEsp, hasGpt, isHarmless, isLive, made, placeOf, plain, problemsOf }:
let
  strong = lib.mkOverride 45;
  optionAt = path: lib.attrByPath path null declared;
  definitionsAt = path: let option = optionAt path; in lib.optionals (option != null) (definitionsOf option);
  placesAt = path: map (placeOf path [ ]) (definitionsAt path);
  # An attribute of a definition's value, without mkIf and mkForce.
  attribute = value: name: default: let found = plain (value.${name} or default); in if found == [ ] then default else lib.head found;

  # Devices in memory, and those that a program makes: nobody waits for them.
  isVirtual = device: builtins.match "/dev/(loop|zram|ram|fuse|null|zero|shm|hugepages|mqueue|pts|net|kvm|vfio).*" device != null;
  labelOf = device: lib.removePrefix "/dev/disk/by-label/" device;
  isMade = device: lib.any (one: device == one.device || device == "LABEL=${labelOf one.device}") made;
  isAbsent = device:
    (lib.hasPrefix "/dev/" device || builtins.match "(UUID|LABEL|PARTUUID|PARTLABEL|ID)=.*" device != null)
    && ! isVirtual device && ! isMade device;

  # --- options of one value -----------------------------------------------------------------------

  singles = [
    {
      path = [ "boot" "resumeDevice" ];
      none = "";
      why = "the image has no such device";
    }
    {
      path = [ "boot" "zfs" "extraPools" ];
      none = [ ];
      why = "the image has no ZFS pool";
    }
    {
      path = [ "boot" "initrd" "secrets" ];
      none = { };
      # NixOS makes secrets of these.
      from = map (path: [ "boot" "initrd" ] ++ path) [ [ "network" "ssh" "hostKeys" ] [ "network" "openvpn" "configuration" ] [ "clevis" "devices" ] ];
      why = "secrets are appended to the initrd on the machine, and would be readable in the image";
      instead = "deliver them to the running system: --inject, sops-nix, agenix, systemd credentials";
    }
    {
      path = [ "boot" "initrd" "systemd" "root" ];
      none = "fstab";
      why = "the image's root is found by its label, not by the type of its partition, and never by the kernel's command line";
      instead = "leave it out";
    }
    {
      path = [ "boot" "initrd" "systemd" "repart" "device" ];
      none = null;
      # A live system has no disk of its own: it divides that of the machine.
      isWrong = device: ! isLive && isAbsent device;
      why = "the image has no such device";
      instead = "leave it out, systemd-repart takes the disk of the root";
    }
    {
      path = [ "boot" "initrd" "systemd" "repart" "empty" ];
      none = "refuse";
      isWrong = empty: made != [ ] && hasGpt && empty != "allow";
      why = "systemd-repart would erase the image's own disk, or find no empty one";
      instead = "leave it out";
    }
    {
      path = [ "systemd" "sysupdate" "enable" ];
      none = false;
      from = [ [ "systemd" "sysupdate" "transfers" ] ];
      isWrong = _: withoutTarget != [ ];
      why = "${lib.concatStringsSep ", " withoutTarget} would update what the image does not have: its disk has one system, whose root is a partition of type linux-generic, and an ESP only with systemd-boot";
      instead = "leave out such transfers, or declare their partitions in systemd.repart.partitions";
    }
    {
      path = [ "zramSwap" "writebackDevice" ];
      none = null;
      isWrong = isAbsent;
      why = "the image has no such device";
    }
    {
      path = [ "boot" "iscsi-initiator" "name" ];
      none = null;
      why = "the image's root is on its own disk, and its initrd would wait for the iSCSI target";
      instead = "take services.openiscsi, which the running system uses";
    }
  ] ++ map
    (path: {
      path = path ++ [ "repart" "enable" ];
      none = false;
      isWrong = _: ! hasGpt;
      why = "systemd-repart changes GPT alone, which the image does not have";
      instead = "take a partition table with it: nixosImage.partitionTableType = \"efi\", \"hybrid\" or \"legacy+gpt\"";
    })
    managers;
  ofSingle = { path, none, why, from ? [ ], instead ? "", isWrong ? (_: true) }:
    let
      option = optionAt path;
      places = lib.concatMap placesAt ([ path ] ++ from);
    in
    lib.optional (places != [ ] && option.value != none && isWrong option.value) {
      name = lib.concatStringsSep "." path;
      inherit places;
      inherit why instead;
      without = strong none;
    };

  # Transfers of systemd-sysupdate onto a partition that nothing makes, or into an ESP that is not there.
  valueAt = path: let option = optionAt path; in if option == null then { } else option.value;
  repartTypes = lib.concatMap (one: lib.optional (one ? Type) one.Type) (lib.attrValues (valueAt [ "systemd" "repart" "partitions" ]));
  withoutTarget = lib.attrNames (lib.filterAttrs
    (_: transfer:
      let target = transfer.Target or { }; type = target.Type or ""; in
      made != [ ] && (
        type == "partition" && ! lib.elem (target.MatchPartitionType or "") repartTypes
        || lib.elem (target.PathRelativeTo or "") [ "esp" "xbootldr" "boot" ] && ! hasEsp
      ))
    (valueAt [ "systemd" "sysupdate" "transfers" ]));

  # --- units --------------------------------------------------------------------------------------

  starts = [ "wantedBy" "requiredBy" "upheldBy" ];
  # A unit that nothing starts waits for nothing.
  isStarted = unit: attribute unit "enable" true && lib.any (name: attribute unit name [ ] != [ ]) starts;
  ofUnit = path: option: { key, unit, where, what, type, options, places }:
    let
      isOther = isAbsent what || lib.elem type [ "zfs" "bcachefs" ];
      # systemd finds the type by itself.
      entry = { mountPoint = where; device = what; fsType = if type == "" then "auto" else type; options = [ options ]; };
      problems = problemsOf entry;
    in
    lib.optional (isOther || problems != [ ]) {
      name = "${lib.concatStringsSep "." (path ++ [ option ])}.\"${key}\"";
      inherit places;
      why =
        if isOther then "${what} is not in the image, and the boot would wait for it"
        else lib.head problems;
      instead = lib.optionalString isOther "leave out its wantedBy and requiredBy if the device is attached later, and let systemd.automounts start it";
      without.${unit} = { enable = strong false; } // lib.genAttrs starts (_: strong [ ]);
    };
  ofMounts = path: lib.concatMap
    (definition: lib.concatMap
      (mount: lib.concatLists (lib.optional (isStarted mount) (ofUnit path "mounts" {
        key = attribute mount "where" "";
        unit = "${escapePath (attribute mount "where" "")}.mount";
        where = attribute mount "where" "";
        what = attribute mount "what" "";
        type = attribute mount "type" "";
        options = attribute mount "options" "";
        places = [ (placeOf (path ++ [ "mounts" ]) [ ] definition) ];
      })))
      (lib.filter lib.isAttrs (lib.concatMap plain (lib.toList definition.value))))
    (definitionsAt (path ++ [ "mounts" ]));
  # Units that are written as text: the value after `NAME=`.
  lineOf = name: text: lib.findFirst (line: line != "") "" (map (line: lib.optionalString (lib.hasPrefix "${name}=" line) (lib.removePrefix "${name}=" line)) (lib.splitString "\n" text));
  ofTexts = path: lib.concatMap
    (definition: lib.concatLists (lib.mapAttrsToList
      (unit: given: lib.concatMap
        (one: lib.concatLists (lib.optional (lib.isAttrs one && isStarted one && lib.any (suffix: lib.hasSuffix suffix unit) [ ".mount" ".swap" ])
          (let text = toString (attribute one "text" ""); in ofUnit path "units" {
            key = unit;
            inherit unit;
            where = lineOf "Where" text;
            what = lineOf "What" text;
            type = lineOf "Type" text;
            options = lineOf "Options" text;
            places = [ (placeOf (path ++ [ "units" ]) [ unit ] definition) ];
          })))
        (plain given))
      (lib.zipAttrsWith (_: lib.mkMerge) (lib.filter lib.isAttrs (plain definition.value)))))
    (definitionsAt (path ++ [ "units" ]));
  managers = [ [ "systemd" ] [ "boot" "initrd" "systemd" ] ];

  # --- services and commands of the initrd --------------------------------------------------------

  madeUnits = map (one: "${escapePath one.device}.device") made;
  disks = "disk|mapper|md|(xv|[hsv])d[a-z]|nvme[0-9]|mmcblk[0-9]";
  # Folders of /dev that have no disks: any other one is a volume group's, whose volumes are below it.
  folders = [
    "block" "bsg" "bus" "char" "cpu" "dma_heap" "dri" "dvb" "fd" "hugepages" "infiniband" "input" "mapper" "mqueue" "net" "pts" "serial" "shm" "snd"
    "tcp" "udp" "usb" "v4l" "vfio" "virtio-ports" "virtio\\x2dports"
  ];
  isOfGroup = found: found != null && ! lib.elem (lib.head found) ([ "disk" ] ++ folders);
  isAbsentUnit = unit:
    (builtins.match "dev-(${disks}).*\\.device|systemd-cryptsetup@.*\\.service" unit != null
      || isOfGroup (builtins.match "dev-([^-]+)-.+\\.device" unit))
    && ! lib.elem unit madeUnits;
  # What a script names that is not in the image: devices, and pools of ZFS.
  namedIn = script:
    let
      lines = lib.filter (line: ! lib.hasPrefix "#" (lib.trim line)) (lib.splitString "\n" script);
      words = lib.concatMap (line: wordsOf (lib.replaceStrings [ "\"" "'" "`" "(" ")" ";" ] (lib.genList (_: " ") 6) line)) lines;
      isDevice = word: isAbsent word
        && (builtins.match "/dev/(${disks}).*|[A-Z]+=.*" word != null && word != "/dev/mapper" && word != "/dev/mapper/control"
          || isOfGroup (builtins.match "/dev/([A-Za-z0-9+_.-]+)/[A-Za-z0-9+_.-]+" word));
      # The image's own btrfs has none, so what is meant to be thrown away at each boot would stay.
      usesSubvolumes = lib.any (line: builtins.match "(.*[ /])?btrfs su[a-z]* (delete|snapshot).*" line != null) lines
        && ! lib.any (line: builtins.match "(.*[ /])?btrfs su[a-z]* create.*" line != null) lines;
    in
    lib.filter isDevice words
    ++ lib.optional usesSubvolumes "a btrfs subvolume"
    ++ lib.optional (lib.any (line: builtins.match "(.*[ /])?z(fs (rollback|load-key|mount)|pool import).*" line != null) lines) "a ZFS pool";
  why = named: "it takes ${lib.concatStringsSep ", " (lib.unique named)}, which is not in the image";
  # `isMeant` is whether a boot would wait for a unit.
  ofServices = path: isMeant: lib.concatMap
    (definition: lib.concatLists (lib.mapAttrsToList
      (name: given: lib.concatMap
        (one:
          let
            section = name: let found = attribute one name { }; in if lib.isAttrs found then found else { };
            pulled = lib.concatMap (pull: lib.toList (attribute one pull [ ])) [ "requires" "requisite" "bindsTo" "wants" ]
              ++ lib.concatMap (pull: lib.concatMap (line: wordsOf (toString line)) (lib.toList (attribute (section "unitConfig") pull [ ]))) [ "Requires" "Requisite" "BindsTo" "Wants" ];
            # Of a script in the store the text may be an attribute.
            textOfCommand = command: if lib.isDerivation command then command.text or "" else toString command;
            commands = map (text: toString (attribute one text "")) [ "preStart" "script" "postStart" ]
              ++ lib.concatMap (name: map textOfCommand (lib.toList (attribute (section "serviceConfig") name [ ]))) [ "ExecCondition" "ExecStartPre" "ExecStart" "ExecStartPost" ];
            named = lib.filter isAbsentUnit pulled ++ lib.concatMap namedIn commands;
          in
          lib.optional (lib.isAttrs one && isMeant one && named != [ ]) {
            name = "${lib.concatStringsSep "." path}.${name}";
            places = [ (placeOf path [ name ] definition) ];
            why = why named;
            instead = "";
            without.${name} = { enable = strong false; } // lib.genAttrs starts (_: strong [ ]);
          })
        (plain given))
      (lib.zipAttrsWith (_: lib.mkMerge) (lib.filter lib.isAttrs (plain definition.value)))))
    (definitionsAt path);
  ofCommands = path:
    let named = lib.concatMap namedIn (lib.concatMap (definition: plain definition.value) (definitionsAt path)); in
    lib.optional (named != [ ]) {
      name = lib.concatStringsSep "." path;
      places = placesAt path;
      why = why named;
      instead = "leave these commands out";
      without = null;
    };
  initrd = name: [ "boot" "initrd" name ];

  # --- /etc/fstab and /etc/crypttab ---------------------------------------------------------------

  wordsOf = line: lib.filter (word: word != "") (lib.splitString " " (lib.replaceStrings [ "\t" "\r" ] [ " " "" ] line));
  linesOf = text: lib.filter (words: words != [ ] && ! lib.hasPrefix "#" (lib.head words)) (map wordsOf (lib.splitString "\n" text));
  word = number: words: if number < lib.length words then lib.elemAt words number else "";
  optionsOf = number: words: lib.splitString "," (word number words);
  notHere = device: "it names ${device}, which is not in the image";
  mayFail = options: lib.intersectLists options [ "nofail" "noauto" "_netdev" ] != [ ];
  ofSecond = words: lib.optional (isAbsent (word 1 words) && ! mayFail (optionsOf 3 words)) (notHere (word 1 words));
  files = {
    # crypttab(5): name, device, key, options
    crypttab = ofSecond;
    # veritytab(5): name, data device, hash device, root hash, options
    veritytab = words: lib.optionals (! mayFail (optionsOf 4 words))
      (map notHere (lib.filter isAbsent [ (word 1 words) (word 2 words) ]));
    # integritytab(5): name, device, key, options
    integritytab = ofSecond;
    # fstab(5): device, mount point, type, options
    fstab = words:
      let entry = { mountPoint = word 1 words; device = word 0 words; fsType = word 2 words; options = optionsOf 3 words; }; in
      lib.optional (! isHarmless entry && (isAbsent entry.device || entry.fsType == "zfs")) (notHere entry.device)
      ++ problemsOf entry;
  };
  # A store path that is not a derivation's output is there before the build.
  isThere = source: lib.all (one: one.path or false) (lib.attrValues (builtins.getContext source)) && builtins.pathExists source;
  # The text of a file, null where only the build would show it.
  textOf = one:
    let source = attribute one "source" null; in
    if attribute one "text" null != null then attribute one "text" null
    else if builtins.isPath source || lib.isString source && isThere source then builtins.readFile source
    else null;
  # `option` has files by name, of which /etc has one as `target`.
  ofFile = option: prefix: lib.concatMap
    (definition: lib.concatLists (lib.mapAttrsToList
      (name: given: lib.concatMap
        (one:
          let
            target = lib.removePrefix prefix (attribute one "target" name);
            text = textOf one;
            wrong = lib.concatMap files.${target} (linesOf text);
          in
          lib.optional (lib.isAttrs one && files ? ${target} && attribute one "enable" true && (text == null || wrong != [ ])) {
            name = "${lib.concatStringsSep "." option}.${if lib.hasPrefix "/" name then "\"${name}\"" else name}";
            places = [ (placeOf option [ name ] definition) ];
            why = if text == null then "what is in the file is not known before the build" else lib.concatStringsSep "; " wrong;
            instead = if target == "fstab" then "write the entry in fileSystems or swapDevices" else "add nofail to the options of a device that is attached later";
            without = if target == "fstab" then null else { ${name}.enable = strong false; };
          })
        (plain given))
      (lib.zipAttrsWith (_: lib.mkMerge) (lib.filter lib.isAttrs (plain definition.value)))))
    (definitionsAt option);

  # --- what is read where the initrd is made, mounted first, or divides the disk ------------------

  # The attributes of an option's definitions, each with `place` and `name`: CHECK gives null, or { why, instead, without }.
  ofEach = path: check: lib.concatMap
    (definition: lib.concatLists (lib.mapAttrsToList
      (name: given: lib.concatMap
        (one:
          let found = if lib.isAttrs one then check name one else null; in
          lib.optional (found != null) ({
            name = "${lib.concatStringsSep "." path}.${if lib.hasPrefix "/" name then "\"${name}\"" else name}";
            places = [ (placeOf path [ name ] definition) ];
          } // found))
        (plain given))
      (lib.zipAttrsWith (_: lib.mkMerge) (lib.filter lib.isAttrs (plain definition.value)))))
    (definitionsAt path);
  outOfStore = name: one:
    let source = attribute one "source" null; in
    if ! (attribute one "enable" true && lib.isString source && ! lib.hasPrefix builtins.storeDir source) then null
    else {
      why = "its source ${source} is text, and the build sees no such file";
      instead = "write it without quotes, which puts the file into the store, or deliver it to the running system: --inject";
      without.${name}.enable = strong false;
    };
  # Lists of paths that the initrd's builder reads.
  ofPaths = path:
    let
      given = lib.concatMap (definition: lib.concatMap lib.toList (plain definition.value)) (definitionsAt path);
      sources = map (one: if lib.isAttrs one && ! lib.isDerivation one then one.source or "" else one) given;
      outside = lib.filter (one: lib.isString one && lib.hasPrefix "/" one && ! lib.hasPrefix builtins.storeDir one) sources;
    in
    lib.optional (outside != [ ]) {
      name = lib.concatStringsSep "." path;
      places = placesAt path;
      why = "${lib.concatStringsSep ", " outside} is text, and the build sees no such file";
      instead = "write it without quotes, which puts the file into the store";
      without = null;
    };
  writesBack = _: one:
    let what = toString (attribute one "writeback-device" ""); in
    if ! isAbsent what then null
    else { why = "its writeback-device ${what} is not in the image"; instead = "leave it out"; without = null; };
  special = _: one:
    let what = toString (attribute one "device" ""); in
    if ! isAbsent what then null
    else { why = "${what} is not in the image"; instead = "declare it in fileSystems, with nofail"; without = null; };
  # systemd-repart makes what it does not find. The image's root partition has no type of its own.
  ofPartition = _: one:
    let source = toString (attribute one "CopyBlocks" ""); in
    if made != [ ] && hasGpt && lib.hasPrefix "root" (toString (attribute one "Type" "")) then {
      why = "the image's root is a partition of type linux-generic, so systemd-repart would make another one, and the root would not grow";
      instead = "set Type = \"linux-generic\"";
      without = null;
    }
    else if isAbsent source then {
      why = "its CopyBlocks ${source} is not in the image";
      instead = "leave it out";
      without = null;
    }
    else null;

  # --- the kernel's parameters --------------------------------------------------------------------

  # Those that the initrd takes for its root, or waits for.
  device = "(/dev/|UUID=|LABEL=|PARTUUID=|PARTLABEL=|ZFS=|zfs:).*";
  namesOther = parameter:
    builtins.match "(resume|mount\\.usr)=${device}|root=.+|(rd\\.)?luks\\.(uuid|name)=.*|(root|usr)hash=.*|cryptdevice=.*|(rd\\.)?systemd\\.(mount|swap)-extra=${device}" parameter != null
    && ! lib.elem parameter ([ "root=fstab" ] ++ lib.concatMap (one: [ "root=${one.device}" "root=LABEL=${labelOf one.device}" ]) made);
  parameters = lib.filter namesOther (lib.concatMap (definition: lib.concatMap lib.toList (plain definition.value)) (definitionsAt [ "boot" "kernelParams" ]));
in
# A configuration's structure must not depend on its own values, so nothing of one is in the list's length and its `option`s.
map (single: { option = single.path; findings = ofSingle single; }) singles
++ map (path: { option = path ++ [ "units" ]; findings = ofMounts path ++ ofTexts path; }) managers
++ map (name: { option = initrd name; findings = ofCommands (initrd name); })
  [ "preDeviceCommands" "preLVMCommands" "postDeviceCommands" "postResumeCommands" "postMountCommands" ]
++ [
  (let path = [ "boot" "initrd" "systemd" "services" ]; in { option = path; findings = ofServices path isStarted; })
  # A running system without one of its services is a system; without its first targets it is in emergency mode.
  (let path = [ "systemd" "services" ]; in { option = path; findings = ofServices path (one: attribute one "enable" true && lib.intersectLists [ "local-fs.target" "sysinit.target" "basic.target" ] (lib.toList (attribute one "requiredBy" [ ])) != [ ]); })
  (let path = [ "services" "zram-generator" "settings" ]; in { option = path; findings = ofEach path writesBack; })
  { option = [ "environment" "etc" ]; findings = ofFile [ "environment" "etc" ] ""; }
  (let path = [ "boot" "initrd" "systemd" "contents" ]; in { option = path; findings = ofFile path "/etc/" ++ ofEach path outOfStore; })
  (let path = [ "boot" "initrd" "prepend" ]; in { option = path; findings = ofPaths path; })
  (let path = [ "boot" "initrd" "systemd" "storePaths" ]; in { option = path; findings = ofPaths path; })
  (let path = [ "boot" "specialFileSystems" ]; in { option = path; findings = ofEach path special; })
  (let path = [ "systemd" "repart" "partitions" ]; in { option = path; findings = ofEach path ofPartition; })
  {
    option = [ "boot" "kernelParams" ];
    findings = lib.optional (parameters != [ ]) {
      name = "boot.kernelParams";
      places = placesAt [ "boot" "kernelParams" ];
      why = "${lib.concatStringsSep ", " parameters} names a device that is not in the image";
      instead = "leave it out, the image's initrd finds its root by itself";
      without = null;
    };
  }
]
