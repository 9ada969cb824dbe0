# Compares what the configuration declares with what the image will be. Nothing is dropped in silence: a definition that the
# image cannot honour fails the evaluation with its option, file and line; one that the image's own disk or boot loader takes the
# place of is told in one line.
#
# `declared` is the configuration without the format's modules, whose priority hides definitions of the configuration:
#   options    of that evaluation, where each family of nix/options.toml is declared
#   absent     those that nobody declares: lists of names
#   families   those of them that somebody means: a module may ask whether there is such a family, and set it only then
#   kind       of the image where the partition table does not decide it, else null
#   parent     the options outside of the specialisation that this is, else null
#   within     what its options' names begin with
#   told       { name, places } of what is told outside of this specialisation
#   isInstaller  whether nixpkgs' module of the installer is in the format, which drops all disks of a configuration
{ config, declared, lib, modulesPath, options, pkgs, utils, ... }@arguments:
let
  cfg = config.nixosImage;
  table = cfg.partitionTableType;
  kind =
    if declared.kind != null then declared.kind
    else if config ? sdImage then "card"
    else { none = "bare"; efi = "uefi"; efixbootldr = "uefi"; hybrid = "uefi"; }.${table} or "bios";
  onDisk = lib.elem kind [ "uefi" "bios" "bare" "card" ];
  isLive = lib.elem kind [ "live" "kexec" ];
  hasGpt = ! (kind == "card" || onDisk && lib.elem table [ "legacy" "legacy+boot" "none" ]);
  rules = builtins.fromTOML (builtins.readFile ../options.toml);

  definitions = import ../definitions.nix { inherit lib modulesPath; };
  inherit (definitions) isFromNixpkgs plain;
  isOwn = definition: !(isFromNixpkgs definition || lib.hasPrefix "${toString ./.}/" definition.file);
  definitionsOf = option: lib.filter isOwn (definitions.saidOf option);
  isHardware = definition: baseNameOf definition.file == "hardware-configuration.nix";

  placeOf = import ../place.nix { inherit lib arguments; };

  # --- findings: { name, places, refused, why, instead } ------------------------------------------

  finding = name: places: refused: why: instead: { inherit name places refused why instead; };
  refuse = name: places: finding name places true;
  replaced = name: places: finding name places false "" "";

  # What the configuration itself says of `name` in the option `option`, which is of attribute sets: [ { place, value } ]
  saidOf = path: name:
    let option = lib.attrByPath path null declared.options; in
    lib.optionals (option != null) (lib.concatMap
      (definition: map (value: { value = plainFunction value; place = placeOf path [ name ] definition; hardware = isHardware definition; })
        (lib.concatMap plain (lib.catAttrs name (plain definition.value))))
      (definitionsOf option));
  plainFunction = value: if lib.isAttrs value then value else { };
  # Without what is left out with the hardware's file.
  said = mount: lib.filter (one: ! (cfg.ignoreHardware && one.hardware)) (lib.concatMap (saidOf [ "fileSystems" ]) (namesAt mount));
  # An entry of fileSystems may have another name than its mount point.
  mountOf = name: (declared.options.fileSystems.value.${name} or { mountPoint = name; }).mountPoint;
  namesAt = mount: lib.unique ([ mount ] ++ lib.filter (name: mountOf name == mount) (namesOf [ "fileSystems" ]));
  # The values of one attribute, with their places.
  attributeOf = name: lib.concatMap (one: map (value: one // { inherit value; }) (lib.concatMap plain (lib.catAttrs name [ one.value ])));

  # --- file systems -------------------------------------------------------------------------------

  byLabel = label: "/dev/disk/by-label/${label}";
  # fstab(5) has another word for a device by its label.
  canonical = device: if lib.hasPrefix "LABEL=" (toString device) then byLabel (lib.removePrefix "LABEL=" device) else device;
  # The mount points that the image's disk has, with the device and the type that is made.
  made =
    if kind == "card" then {
      "/" = { device = byLabel config.sdImage.rootVolumeLabel; fsType = "ext4"; };
      "/boot/firmware" = { device = byLabel config.sdImage.firmwarePartitionName; fsType = "vfat"; };
    }
    else if ! onDisk then { }
    else
      { ${if cfg.onlyNixStore then "/nix/store" else "/"} = { device = byLabel cfg.label; inherit (cfg) fsType; }; }
      // lib.optionalAttrs (kind == "uefi") { "/boot" = { device = byLabel (if table == "efixbootldr" then "BOOT" else "ESP"); fsType = "vfat"; }; }
      // lib.optionalAttrs (table == "efixbootldr") { "/efi" = { device = byLabel "ESP"; fsType = "vfat"; }; }
      // lib.optionalAttrs (table == "legacy+boot") { "/boot" = { device = byLabel "BOOT"; fsType = "vfat"; }; };
  isMade = mount: made ? ${mount};
  # A live system has its own root, a container that of who runs it; what starts the image has its place from the format.
  isReplaced = mount: kind != "upstream" && ! isMade mount && (! onDisk && mount == "/" || lib.elem mount [ "/boot" "/boot/efi" "/efi" ]);

  # Partitions of a disk: the image's takes their place. Anything else is a device that the image would have to make.
  isPartition = device: builtins.match "/dev/(disk/by-(uuid|partuuid|partlabel|id|path)/.*|(xv|[hsv])d[a-z]+[0-9]*|nvme[0-9]+n[0-9]+(p[0-9]+)?|mmcblk[0-9]+(p[0-9]+)?)|(UUID|PARTUUID|PARTLABEL|ID)=.*" device != null;
  # fstab(5) has one list, whose words a configuration may join itself.
  optionsIn = lib.concatMap (lib.splitString ",");
  mountOptions = import ../mount-options.nix;
  # Each btrfs has the subvolume that is its whole tree.
  isSubvolume = option: lib.hasPrefix "subvol" option && ! lib.elem option [ "subvol=/" "subvolid=0" "subvolid=5" ];
  subvolumes = options: lib.filter (option: isSubvolume option || lib.hasPrefix "X-mount.subdir" option) (optionsIn options);
  # Options that the kernel does not mount this type with; subvolumes are told apart.
  foreignTo = fsType: options: lib.filter (option: subvolumes [ option ] == [ ] && mountOptions.isForeign fsType option) (optionsIn options);

  isProvided = import ../provided.nix { inherit config lib; };
  # No disk: memory, the network, other parts of the tree; or one that need not be there.
  withoutDisk = [ "tmpfs" "ramfs" "proc" "sysfs" "devpts" "devtmpfs" "cgroup2" "bpf" "efivarfs" "tracefs" "debugfs" "hugetlbfs" "overlay" "autofs" "nfs" "nfs4" "cifs" "smb3" "9p" "virtiofs" "ceph" "glusterfs" "davfs" "vboxsf" "sshfs" "mergerfs" "bindfs" ];
  mayBeMissing = option: lib.elem option [ "nofail" "noauto" "bind" "rbind" "_netdev" "x-systemd.automount" ];
  isHarmless = entry:
    lib.elem entry.fsType withoutDisk || lib.hasPrefix "fuse" entry.fsType
    || lib.any mayBeMissing (optionsIn entry.options)
    # A file, which the boot finds where the image has it.
    || lib.elem "loop" (optionsIn entry.options) && isProvided (toString entry.device)
    || (entry.overlay.lowerdir or null) != null
    || isOfOwnDisk entry && subvolumes entry.options == [ ];
  # A further mount of a file system that the image has, and the options that are not for that.
  ownOf = entry: lib.findFirst (one: one.device == canonical entry.device && lib.elem entry.fsType [ one.fsType "auto" ]) null (lib.attrValues made);
  isOfOwnDisk = entry: ownOf entry != null;
  foreignOf = entry: lib.optionals (isOfOwnDisk entry) (foreignTo (ownOf entry).fsType entry.options);

  # The store is on the image's own root, so what needs no disk hides the system if it is mounted over it. A bind mount or an overlay of the same folder shows it.
  hasStore = (onDisk || kind == "container") && ! isMade "/nix/store";
  withoutRoot = path: if path == null then "" else lib.removePrefix "/sysroot" path;
  shows = mount: option: option == mount || lib.hasPrefix "lowerdir=" option && lib.elem mount (map withoutRoot (lib.splitString ":" (lib.removePrefix "lowerdir=" option)));
  hides = entry:
    let
      mount = withoutRoot entry.mountPoint;
      options = optionsIn entry.options;
      isThere = lib.elem entry.fsType [ "tmpfs" "ramfs" "overlay" ] || lib.intersectLists options [ "bind" "rbind" ] != [ ] || isOfOwnDisk entry;
    in
    isHarmless entry && hasStore && lib.elem mount [ "/nix" "/nix/store" "/nix/var" "/nix/var/nix" "/nix/var/nix/db" ]
    && ! lib.any (shows mount) ([ (withoutRoot entry.device) ] ++ options)
    && ! (lib.elem "noauto" options || lib.elem "nofail" options && ! isThere);
  noStore = entry: "${entry.device} (${entry.fsType}) would hide the image's own ${withoutRoot entry.mountPoint}, which its system is started from";

  noOption = entry: foreign: "${entry.device} is ${(ownOf entry).fsType}, which has no mount option ${lib.concatStringsSep ", " foreign}";
  noSubvolume = entry: found: "${entry.device} has no subvolumes, and the mount would fail: ${lib.concatStringsSep ", " found}";
  # What is wrong with a further mount, whether it may be missing or not: sentences.
  problemsOf = entry:
    let foreign = foreignOf entry; missing = lib.optionals (isOfOwnDisk entry) (subvolumes entry.options); in
    lib.optional (foreign != [ ]) (noOption entry foreign)
    ++ lib.optional (missing != [ ]) (noSubvolume entry missing)
    ++ lib.optional (hides entry) (noStore entry);

  noOtherDisk = if onDisk then "the image has one disk, with its own partitions" else "this format has no disk";
  fileSystemName = mount: "fileSystems.\"${mount}\"";
  ofMade = mount:
    let
      mine = made.${mount};
      found = said mount;
      name = attribute: "${fileSystemName mount}.${attribute}";
      wrongTypes = lib.filter (one: one.value != mine.fsType && one.value != "auto") (attributeOf "fsType" found);
      # NixOS makes the device of a label.
      devices = lib.filter (one: one.value != mine.device) (
        map (one: one // { attribute = "device"; value = canonical one.value; }) (lib.filter (one: one.value != null) (attributeOf "device" found))
        ++ map (one: one // { attribute = "label"; value = byLabel one.value; }) (lib.filter (one: one.value != null) (attributeOf "label" found)));
      encrypted = lib.filter (one: one.value.enable or false == true) (attributeOf "encrypted" found);
      pools = lib.filter (one: one.value.poolUuid or null != null) (attributeOf "stratis" found);
      final = config.fileSystems.${mount} or { device = null; fsType = "nothing"; options = [ ]; };
      isType = type: mount == "/" && lib.elem type (options.nixosImage.fsType.type.functor.payload.values or [ ]);
      subvolume = lib.filter (one: lib.isList one.value && subvolumes one.value != [ ]) (attributeOf "options" found);
      foreign = lib.concatMap (one: map (value: one // { inherit value; }) (foreignTo mine.fsType (lib.toList one.value))) (attributeOf "options" found);
      otherType = type:
        if isType type then "set nixosImage.fsType = \"${type}\" (--root-fs ${type})"
        else if type == "tmpfs" then "take the format iso or kexec, whose root is in memory"
        else if type == "zfs" then "take the format openstack-zfs"
        else "";
      refusals =
        map (one: refuse (name "fsType") [ one.place ] "the image's ${mount} is ${mine.fsType}, not ${toString one.value}" (otherType one.value)) wrongTypes
        ++ lib.optionals (wrongTypes == [ ]) (map
          (one: refuse (name one.attribute) [ one.place ] "${toString one.value} is not made; ${noOtherDisk}"
            (lib.optionalString (mount == "/" && lib.hasPrefix (byLabel "") (toString one.value)) "set nixosImage.label = \"${lib.removePrefix (byLabel "") one.value}\""))
          (lib.filter (one: ! isPartition (toString one.value)) devices))
        ++ map (one: refuse (name "encrypted") [ one.place ] "the image is not encrypted" "") encrypted
        ++ map (one: refuse (name "stratis") [ one.place ] "the image has no Stratis pool, and its initrd would wait for one" "") pools
        ++ map (one: refuse (name "options") [ one.place ] "the image's file system has no subvolumes" "") subvolume
        ++ lib.optionals (wrongTypes == [ ]) (map
          (one: refuse (name "options") [ one.place ] "the image's ${mount} is ${mine.fsType}, which has no mount option ${one.value}"
            (lib.concatStringsSep ", or " (map otherType (lib.filter isType (mountOptions.typesOf one.value)))))
          foreign);
      forced = final.fsType != mine.fsType || canonical final.device != mine.device;
    in
    if refusals != [ ] then refusals
    else if forced then
      [ (refuse (fileSystemName mount) (map (one: one.place) found) "it would be ${toString final.device} (${final.fsType}), but ${mine.device} (${mine.fsType}) is made" "") ]
    else map (one: replaced (name one.attribute) [ one.place ]) devices
      ++ map (other: replaced (fileSystemName other) (map (one: one.place) (saidOf [ "fileSystems" ] other))) (twinsOf mount);
  # Entries of another name for a mount point of the image's own: it has one.
  twinsOf = mount: lib.remove mount (namesAt mount);
  # A partition that systemd-repart makes and formats at the first boot.
  repart = config.systemd.repart.partitions or { };
  isOfRepart = entry: hasGpt && (! utils.fsNeededForBoot entry && config.systemd.repart.enable or false || config.boot.initrd.systemd.repart.enable or false)
    && isByRepart entry.device entry.fsType;
  isByRepart = device: format: lib.any (one: one ? Label && "/dev/disk/by-partlabel/${one.Label}" == device && one.Format or "" == format) (lib.attrValues repart);
  isSwapOfRepart = swap: hasGpt && (config.systemd.repart.enable or false || config.boot.initrd.systemd.repart.enable or false) && isByRepart swap.device "swap";
  # What is said of a mount point, and is not what it has: the format's module has one of its own, and is stronger.
  overridden = entry: found:
    let values = name: map (one: one.value) (attributeOf name found); in
    lib.filter (name: values name != [ ] && ! lib.elem entry.${name} (values name)) [ "device" "fsType" ]
    ++ lib.optional (lib.subtractLists [ "defaults" ] (lib.flatten (values "options")) != [ ] && lib.intersectLists entry.options (lib.flatten (values "options")) == [ ]) "options";
  ofOther = mount: entry:
    let
      lost = overridden entry (said mount);
      problems = problemsOf entry;
      refuseFor = refuse (fileSystemName mount) (map (one: one.place) (said mount));
    in
    if lost != [ ] then [ (refuseFor "the format has its own ${mount}, ${toString entry.device} (${entry.fsType}), and is stronger than your ${lib.concatStringsSep ", " lost}" "say it with lib.mkForce") ]
    else if problems != [ ] then [ (refuseFor (lib.head problems) "") ]
    else if isHarmless entry || isOfRepart entry then [ ]
    else [ (refuseFor "${toString entry.device} (${entry.fsType}) is not in the image; ${noOtherDisk}" "add \"nofail\" to its options if the device is attached later") ];

  # Entries that only nixpkgs' own modules have are the format's.
  others = lib.filter (entry: let mount = entry.mountPoint; in ! isMade mount && ! isReplaced mount && said mount != [ ] && ! (cfg.onlyNixStore && mount == "/"))
    (lib.attrValues config.fileSystems);
  fileSystemFindings =
    lib.concatMap ofMade (lib.attrNames made)
    ++ lib.concatMap (entry: ofOther entry.mountPoint entry) others
    ++ map (name: replaced (fileSystemName name) (map (one: one.place) (said (mountOf name)))) replacedNames;
  replacedNames = lib.filter (name: isReplaced (mountOf name) && said (mountOf name) != [ ]) (namesOf [ "fileSystems" ]);

  # --- swap, encrypted devices, and what else names a device --------------------------------------

  placesOf = path: map (placeOf path [ ]) (definitionsOf (lib.attrByPath path { definitionsWithLocations = [ ]; } declared.options));
  saidSwap = lib.concatMap (definition: lib.concatMap (list: lib.concatMap plain (lib.toList list)) (plain definition.value)) (definitionsOf declared.options.swapDevices);
  isSaidSwap = swap: lib.any (one: one.device or (byLabel (one.label or "")) == swap.device) saidSwap;
  isSwapFile = swap: ! lib.hasPrefix "/dev/" swap.device && swap.size != null;
  mountOfFile = import ../mount-of.nix { inherit lib; inherit (config) fileSystems; };
  # Why the file system that a swap file would lie on cannot have it, "" if it can.
  noSwapOn = entry:
    if entry == null then ""
    else if lib.elem entry.fsType [ "tmpfs" "ramfs" "overlay" "9p" "virtiofs" "vboxsf" "zfs" "bcachefs" ] || lib.hasPrefix "fuse" entry.fsType then "which cannot hold a swap file"
    else if entry.mountPoint == "/" then ""
    else if isMade entry.mountPoint then "which has no room for it"
    else "";
  # A kernel's name of a device is that of any disk, the image's own too, and a random key overwrites it at each boot.
  overwrites = swap: swap.randomEncryption.enable && isPartition swap.device && ! lib.hasPrefix "/dev/disk/" swap.device;
  swapFinding = swap:
    let
      refuseFor = refuse "swapDevices" (placesOf [ "swapDevices" ]);
      entry = mountOfFile swap.device;
      mayFail = lib.any mayBeMissing (optionsIn swap.options);
      file = "take a swap file, which the first boot makes: { device = \"/swapfile\"; size = 2048; }";
    in
    if lib.hasPrefix "/dev/zram" swap.device || isSwapOfRepart swap then [ ]
    else if overwrites swap then [ (refuseFor "${swap.device} is encrypted by a random key, which overwrites what has that name, and the image's own disk may" "name it below /dev/disk/by-partuuid, and add \"nofail\" to its options if it is attached later${lib.optionalString onDisk "; or ${file}"}") ]
    else if isSwapFile swap && (onDisk || kind == "upstream") then
      lib.optional (noSwapOn entry != "") (refuseFor "${swap.device} is on ${entry.mountPoint} (${entry.fsType}), ${noSwapOn entry}" (lib.optionalString (entry.mountPoint != "/") file))
    else lib.optional (! mayFail) (refuseFor "${swap.device} is not in the image${lib.optionalString (! onDisk) "; ${noOtherDisk}"}" (lib.optionalString onDisk file));
  swapFindings = lib.concatMap swapFinding (lib.filter isSaidSwap config.swapDevices);
  # NixOS makes such devices of encrypted file systems and swap devices, too.
  luksPath = [ "boot" "initrd" "luks" "devices" ];
  luksNames = lib.unique (namesOf luksPath ++ lib.attrNames (lib.attrByPath luksPath { value = { }; } declared.options).value);
  isOfLabel = label: one: lib.any (given: given.value.enable or false == true && given.value.label or null == label) (attributeOf "encrypted" [ one ]);
  placesOfLuks = name:
    map (one: one.place) (saidOf luksPath name
      ++ lib.filter (isOfLabel name) (lib.concatMap (saidOf [ "fileSystems" ]) (namesOf [ "fileSystems" ])))
    ++ lib.optionals (lib.any (value: isOfLabel name { inherit value; }) (lib.filter lib.isAttrs saidSwap)) (placesOf [ "swapDevices" ]);
  luksFindings = map
    (name: refuse "boot.initrd.luks.devices.${name}" (placesOfLuks name) "the image is not encrypted, and its initrd would wait for that device" "")
    (lib.attrNames config.boot.initrd.luks.devices);
  devices = import ../devices.nix {
    inherit lib definitionsOf hasGpt isHarmless isLive placeOf plain problemsOf;
    hasEsp = kind == "uefi";
    declared = declared.options;
    escapePath = utils.escapeSystemdPath;
    made = lib.attrValues made;
  };
  deviceFindings = lib.optionals (! lib.elem kind [ "own" "vm" "machine" ]) (lib.concatMap (one: one.findings) devices);

  # --- boot loaders -------------------------------------------------------------------------------

  # The loader that the image has; the others are off, or NixOS would have two installers.
  # Of Limine's table the disk has a place for what it is to support.
  limine = declared.options.boot.loader.limine or { };
  wantsLimine = limine ? enable && limine.enable.value && ! cfg.onlyNixStore;
  limineTable = if limine.biosSupport.value then "hybrid" else "efi";
  hasLimine = wantsLimine && kind == "uefi" && table == limineTable;
  installed = { uefi = if hasLimine then "limine" else "systemd-boot"; bios = "external"; bare = "external"; card = "generic-extlinux-compatible"; }.${kind} or "";
  loaders = lib.filter (name: declared.options.boot.loader.${name} or { } ? enable) [ "grub" "systemd-boot" "limine" "refind" "generic-extlinux-compatible" "external" ];
  otherLoaders = lib.filter (name: name != installed) loaders;
  loaderFindings = map
    (name: refuse "boot.loader.${name}.enable" (placesOf [ "boot" "loader" name "enable" ]) "the image's boot loader is ${installed}" "leave out mkForce")
    (lib.optionals onDisk (lib.filter (name: config.boot.loader.${name}.enable) otherLoaders)
      ++ lib.optional (onDisk && ! config.boot.loader.${installed}.enable) installed)
  ++ map (one: refuse "system.build.installBootLoader" [ one.place ] "its program runs on the device only, and the image's boot loader is ${if installed == "" then "another one" else installed}" "leave it out")
    (lib.optionals (onDisk || isLive) (saidOf [ "system" "build" ] "installBootLoader"));

  # Of GRUB's settings, which an image with GRUB alone honours, what NixOS' own installer does on the machine.
  grub = config.boot.loader.grub;
  grubFindings = lib.optionals (kind == "bios") (
    lib.concatLists (lib.mapAttrsToList
      (user: given: map
        (name: refuse "boot.loader.grub.users.${user}.${name}" (placesOf [ "boot" "loader" "grub" "users" ]) "the file is read on the machine, and the image's menu would be without that password"
          "set ${if name == "passwordFile" then "password" else "hashedPassword"}, which the menu shows in any case")
        (lib.filter (name: given.${name} != null) [ "passwordFile" "hashedPasswordFile" ]))
      grub.users)
    ++ lib.optional (builtins.match "[0-9]+" grub.default == null)
      (refuse "boot.loader.grub.default" (placesOf [ "boot" "loader" "grub" "default" ]) "the image's menu has other titles than NixOS' own, and does not save what was chosen" "give the number of an entry, the first one is 0"));

  # What a configuration says of Limine, by another option.
  limineFindings = lib.optionals (installed == "limine") (
    # By default it is what panicOnChecksumMismatch is.
    lib.optional limine.enrollConfig.value
      (refuse "boot.loader.limine.enrollConfig" (placesOf [ "boot" "loader" "limine" "enrollConfig" ] ++ placesOf [ "boot" "loader" "limine" "panicOnChecksumMismatch" ])
        "Limine's program writes the checksum on the device only" "set it to false, and to true once the device runs")
    ++ lib.optional declared.options.boot.loader.systemd-boot.enable.value
      (refuse "boot.loader.systemd-boot.enable" (placesOf [ "boot" "loader" "systemd-boot" "enable" ]) "the configuration has Limine, too, and a system has one boot loader" "leave out one of them")
    ++ lib.optional (declared.options.virtualisation.xen.enable.value or false)
      (refuse "virtualisation.xen.enable" (placesOf [ "virtualisation" "xen" "enable" ]) "Limine's entries of Xen are made on the device only" "enable it there"));

  # --- specialisations ----------------------------------------------------------------------------

  # The boot loader has each of them among its entries, and the disk is one.
  isWhole = declared.parent == null;
  outcomeOfInner = option:
    let
      # Without `specialisation`, its name, and `configuration`.
      path = lib.drop 3 option.loc;
      differs = builtins.tryEval (option.value != (lib.getAttrFromPath path declared.parent).value);
      name = lib.concatStringsSep "." path;
    in
    lib.optional (name != "nixosImage.ignore" && differs.success && differs.value)
      (refuse name (map (placeOf path [ ]) (definitionsOf option)) "the image has one disk for all specialisations" "set it outside of the specialisation" // { without = null; });
  innerFindings = lib.optionals (! isWhole) (lib.concatMap outcomeOfInner (leaves declared.options.nixosImage));
  # One without this module has only the file systems that it declares itself.
  strangers = lib.optionals (onDisk && isWhole && isMade "/") (lib.filter
    (name:
      let child = config.specialisation.${name}; root = child.configuration.fileSystems."/" or { }; in
      ! child.inheritParentConfig && (root.device or null != made."/".device || ! lib.elem root.fsType [ "auto" made."/".fsType ]))
    (namesOf [ "specialisation" ]));
  strangerFindings = map
    (name: refuse "specialisation.${name}.inheritParentConfig" (map (one: one.place) (saidOf [ "specialisation" ] name))
      "its / is not the image's, which is ${made."/".device} (${made."/".fsType})" "leave it out, or declare the image's file systems in its configuration" // { without = null; })
    strangers;

  # --- options by name: nix/options.toml ----------------------------------------------------------

  splitName = lib.splitString ".";
  # The rule of the longest name that is the option's or one above it.
  ruleOf = path:
    let
      above = map (count: lib.concatStringsSep "." (lib.take count path)) (lib.range 1 (lib.length path));
      matching = lib.concatMap (name: map (rule: rule // { of = name; }) (lib.filter (rule: lib.elem name rule.names) rules.option)) (lib.reverseList above);
    in
    if matching == [ ] then { } else lib.head matching;
  leaves = tree: if lib.isOption tree then [ tree ] else lib.optionals (lib.isAttrs tree) (lib.concatMap leaves (lib.attrValues tree));
  # Loaders that are off say nothing; the loader of the image is on, whatever the configuration says.
  isOff = path:
    let enable = lib.attrByPath (lib.take 3 path ++ [ "enable" ]) null declared.options; in
    lib.take 2 path == [ "boot" "loader" ] && lib.length path > 3 && lib.elemAt path 2 != installed && enable != null && lib.isOption enable && ! enable.value;
  # A loader that is only somebody's default, a board's profile for example, gives way to the image's own, with all its settings.
  gaveWay = rule:
    let enable = lib.attrByPath (splitName rule.of ++ [ "enable" ]) null declared.options; in
    rule.whole or false && lib.hasPrefix "boot.loader." rule.of && enable != null && enable.highestPrio >= 1000;
  # What has a switch of its own, and is off, says nothing, unless it is off because it is to be ignored (switches.nix).
  isSwitchedOff = rule:
    let switch = lib.attrByPath (splitName rule.switch) null declared.options; in
    rule ? switch && lib.isOption switch && ! switch.value && ! isIgnored rule.of;
  # Defaults of other modules may be there only to be replaced, and not even evaluate.
  isDefault = option: lib.head option.loc == "boot" && lib.all (file: isFromNixpkgs { inherit file; }) (map toString option.declarations)
    && option ? default && (builtins.tryEval (option.value == option.default)).value;

  has = outcome: rule: lib.elem kind (rule.${outcome} or [ ]) || lib.elem installed (rule.${outcome} or [ ]) || lib.elem "all" (rule.${outcome} or [ ]);
  refuseBy = rule: name: places: refuse (if rule.whole or false then rule.of else name) places (rule.why or "this format has no use for it") (rule.instead or "");
  outcomeOf = path: places:
    let rule = ruleOf path; in
    # nixpkgs' own builder follows what its module and NixOS declare; of this project's options it knows none.
    if kind == "upstream" && lib.head path != "nixosImage" && lib.hasAttrByPath path options then [ ]
    else if has "honoured" rule || lib.elem "declared" (rule.honoured or [ ]) && lib.hasAttrByPath path options then [ ]
    else if has "replaced" rule then [ (replaced (lib.concatStringsSep "." path) places) ]
    else [ (refuseBy rule (lib.concatStringsSep "." path) places) ];
  byName = family: lib.concatMap
    (option:
      let
        found = definitionsOf option;
        rule = ruleOf option.loc;
        places = map (placeOf option.loc [ ]) found;
      in
      # The switch comes first: behind it, not even the defaults need to evaluate.
      if isSwitchedOff rule || found == [ ] || isOff option.loc || isDefault option then [ ]
      else if has "honoured" rule || ! gaveWay rule then outcomeOf option.loc places
      else lib.optional (lib.last option.loc == "enable") (replaced (lib.concatStringsSep "." option.loc) places))
    (leaves (lib.attrByPath family { } declared.options));
  # Of a family that nixpkgs' image modules declare, or nobody, the attributes are looked through down to where their options are.
  leavesIn = path: value:
    if lib.isAttrs value && ! lib.isDerivation value && value != { } && ! lib.isOption (lib.attrByPath path { } options)
    then lib.concatLists (lib.mapAttrsToList (name: inner: lib.concatMap (leavesIn (path ++ [ name ])) (plain inner)) value)
    else [ path ];
  ofFamily = family: lib.concatMap
    (definition: lib.concatMap
      (path: outcomeOf path [ (placeOf family (lib.drop (lib.length family) path) definition) ])
      (lib.concatMap (leavesIn family) (plain definition.value)))
    (definitionsOf (lib.getAttrFromPath family declared.options));
  # One for each name.
  merged = found: map (name: let same = lib.filter (one: one.name == name) found; in lib.head same // { places = lib.concatMap (one: one.places) same; })
    (lib.unique (map (one: one.name) found));
  nameFindings = lib.optionals (kind != "own") (lib.concatMap byName (lib.subtractLists declared.absent (map splitName rules.families)) ++ lib.concatMap ofFamily declared.families);

  growFindings = lib.optionals (isLive || kind == "container") (map (place: replaced "boot.growPartition" [ place ]) (placesOf [ "boot" "growPartition" ]));
  diskFindings = fileSystemFindings ++ growFindings ++ swapFindings ++ luksFindings;
  findings = merged (lib.optionals (kind != "own") (
    lib.optionals (! lib.elem kind [ "vm" "machine" ]) (diskFindings ++ map (one: finding one.name one.places true one.why one.instead // { inherit (one) without; }) deviceFindings ++ innerFindings ++ strangerFindings)
    # Of a specialisation NixOS takes no boot loader.
    ++ lib.optionals isWhole (lib.optionals (! lib.elem kind [ "vm" "machine" ]) (loaderFindings ++ grubFindings ++ limineFindings) ++ nameFindings)));

  # --- what the user has said to ignore -----------------------------------------------------------

  unquoted = lib.replaceStrings [ "\"" ] [ "" ];
  # What only the configuration itself can leave out has a null instead of a definition.
  mayIgnore = one: one.without or { } != null && isIgnored one.name;
  covers = name: given: let one = unquoted given; in unquoted name == one || lib.hasPrefix "${one}." (unquoted name);
  isIgnored = name: lib.any (covers name) cfg.ignore;
  ignored = lib.filter isNew (lib.filter (one: one.refused && mayIgnore one) findings ++ dropped);
  # A specialisation has what its parent has, which is told there.
  key = one: { inherit (one) name; places = lib.unique one.places; };
  isNew = one: ! lib.elem (key one) declared.told;
  # What is not in this configuration any more, because it is ignored.
  dropped =
    map (mount: { name = fileSystemName mount; places = map (one: one.place) (said mount); }) (lib.unique (lib.filter (mount: isIgnored "fileSystems.${mount}") (map mountOf mountsOut)))
    ++ map (name: { name = "boot.initrd.luks.devices.${name}"; places = placesOfLuks name; }) (lib.filter (name: isIgnored "boot.initrd.luks.devices.${name}") luksOut)
    ++ map (path: { name = lib.concatStringsSep "." path; places = placesOf path; }) (lib.filter isDroppedLoader (map (name: [ "boot" "loader" name "enable" ]) loaders))
    ++ lib.optional (isIgnored "swapDevices" && placesOf [ "swapDevices" ] != [ ]) { name = "swapDevices"; places = placesOf [ "swapDevices" ]; };
  # A loader's switch, which the configuration has the other way.
  isDroppedLoader = path: onDisk && isWhole && isIgnored (lib.concatStringsSep "." path) && placesOf path != [ ]
    && (lib.getAttrFromPath path declared.options).value != (lib.elemAt path 2 == installed);
  notThere = lib.optionals isWhole (lib.filter (given: ! lib.any (one: covers one.name given) (findings ++ dropped)) cfg.ignore);
  refused = lib.filter (one: isNew one && one.refused && ! mayIgnore one) findings;
  inPlace = lib.filter (one: isNew one && ! one.refused && ! isIgnored one.name) findings;

  at = places: lib.optionalString (places != [ ]) " (${lib.concatStringsSep ", " (lib.unique places)})";
  sentence = one: "${declared.within}${one.name}${at one.places}: ${one.why}."
    + lib.optionalString (one.instead != "") "\n  ${one.instead}${lib.optionalString (one.without or { } != null) ";"}"
    + lib.optionalString (one.without or { } != null) "\n  or ${declared.within}nixosImage.ignore = [ ${builtins.toJSON (unquoted one.name)} ] to make the image without it"
    + lib.optionalString (lib.any (place: lib.hasInfix "hardware-configuration.nix" place) one.places && lib.any (other: other.name == one.name) diskFindings)
    ", or --ignore-hardware (nixosImage.ignoreHardware = true) without the disks of that file";
  listed = found: lib.concatMapStringsSep ", " (one: "${declared.within}${one.name}${at one.places}") found;

  # The list of names is of another evaluation, so it may decide what this one has.
  namesOf = path: lib.unique (lib.concatMap (definition: lib.concatMap lib.attrNames (lib.filter lib.isAttrs (plain definition.value)))
    (definitionsOf (lib.attrByPath path { definitionsWithLocations = [ ]; } declared.options)));
  # Entries that are to be ignored, and those that only hardware-configuration.nix has.
  isLeftOut = path: name: isIgnored "${lib.concatStringsSep "." path}.${if path == [ "fileSystems" ] then mountOf name else name}" || (cfg.ignoreHardware && saidOf path name != [ ] && lib.all (one: one.hardware) (saidOf path name));
  leftOut = path: lib.filter (isLeftOut path) (if path == luksPath then luksNames else namesOf path);
  # A live system's own root is stronger than the configuration's.
  mountsOut = lib.filter (name: ! isMade name && ! (isLive && name == "/"))
    (leftOut [ "fileSystems" ] ++ replacedNames ++ lib.concatMap twinsOf (lib.attrNames made));
  # Mount points of the image that are made anew, without what is said of them.
  anew = lib.filterAttrs (mount: _: lib.any (name: isIgnored "fileSystems.${mount}${name}") [ "" ".device" ".fsType" ".options" ".encrypted" ".stratis" ]
    || cfg.ignoreHardware && lib.any (one: one.hardware) (saidOf [ "fileSystems" ] mount)) made;
  given = name: list: lib.optionalAttrs (list != [ ]) { ${name} = list; };
  # Options of a file system of another type are not for the one that is made.
  optionsOf = mount: mine: lib.optionals (lib.all (one: lib.elem one.value [ mine.fsType "auto" ]) (attributeOf "fsType" (said mount)))
    (lib.concatMap (one: lib.filter (option: subvolumes [ option ] == [ ] && ! mountOptions.isForeign mine.fsType option) (optionsIn (lib.toList one.value))) (attributeOf "options" (said mount)))
    ++ lib.optional (mine.fsType == "vfat") "umask=0077";
  luksOut = leftOut luksPath;
  swapDefinitions = declared.options.swapDevices.definitionsWithLocations;
  keptSwap = lib.filter (definition: ! isIgnored "swapDevices" && ! (cfg.ignoreHardware && isHardware definition)) swapDefinitions;
  strong = lib.mkOverride 45;
  # nixpkgs' module of the installer drops what a configuration declares: it counts again, to be honoured or refused as in other images.
  level = if declared.isInstaller then lib.mkImageMediaOverride else lib.id;
  fromHardware = lib.concatMap (path: map (placeOf path [ ]) (lib.filter (definition: isHardware definition && definition.value != [ ] && definition.value != { }) (definitionsOf (lib.attrByPath path null declared.options))))
    [ [ "fileSystems" ] [ "swapDevices" ] luksPath ];
in
{
  _file = ./declared.nix;

  options.nixosImage.told = lib.mkOption {
    type = lib.types.raw;
    internal = true;
    readOnly = true;
    description = "What is refused, replaced or ignored: { name, places } of each.";
  };

  config = lib.mkMerge ([
    {
      nixosImage.told = map key (findings ++ dropped);
      assertions = map (one: { assertion = false; message = sentence one; }) refused;
      warnings =
        lib.optional (ignored != [ ]) "nixosImage.ignore: the image is made without ${listed ignored}"
        ++ lib.optional (notThere != [ ]) "nixosImage.ignore: the image has nothing to ignore at ${lib.concatStringsSep ", " notThere}"
        ++ lib.optional (inPlace != [ ]) "the image's own disk and boot loader take the place of ${listed inPlace}"
        ++ lib.optional (isWhole && cfg.ignoreHardware && fromHardware != [ ]) "nixosImage.ignoreHardware: the image is made without the disks of ${lib.concatStringsSep ", " (lib.unique (map (place: lib.head (lib.splitString ":" place)) fromHardware))}";
    }
    # Weaker than what a format or the configuration says, stronger than this project's default.
    (lib.mkIf (declared.kind == null && ! config ? sdImage && wantsLimine) { nixosImage.partitionTableType = lib.mkOverride 950 limineTable; })
    # There is no partition to grow, nor a device of / to look for it on.
    (lib.mkIf (isLive || kind == "container") { boot.growPartition = lib.mkOverride 55 false; })
    # NixOS' own installer puts the configuration's boot loader onto a machine's disk.
    (lib.mkIf (! lib.elem kind [ "own" "upstream" "machine" ]) {
      boot.loader = lib.genAttrs otherLoaders (name: { enable = lib.mkOverride (if isIgnored "boot.loader.${name}.enable" then 45 else 55) false; });
    })
    # Some formats' modules have a time of their own; the configuration's is stronger, and was no mistake.
    (lib.mkIf (isWhole && (onDisk || kind == "live") && definitionsOf declared.options.boot.loader.timeout != [ ]) {
      boot.loader.timeout = lib.mkOverride 55 declared.options.boot.loader.timeout.value;
    })
    { boot.loader = lib.genAttrs (lib.optional (onDisk && isIgnored "boot.loader.${installed}.enable") installed) (_: { enable = strong true; }); }
    (lib.mkIf onDisk {
      fileSystems = lib.mapAttrs
        (mount: mine: strong (mine // given "options" (optionsOf mount mine) // lib.optionalAttrs (mount == "/" && kind != "card") { autoResize = true; }))
        anew;
    })
    (lib.mkIf (mountsOut != [ ]) { fileSystems = level (lib.genAttrs mountsOut (_: { enable = strong false; })); })
    (lib.mkIf declared.isInstaller (lib.mkMerge (map (path: lib.setAttrByPath path (lib.mkMerge (map (definition: level definition.value) (definitionsOf (lib.getAttrFromPath path declared.options)))))
      [ [ "fileSystems" ] [ "swapDevices" ] luksPath ])))
    (lib.mkIf (lib.length keptSwap < lib.length swapDefinitions) {
      swapDevices = lib.mkMerge ([ (strong [ ]) ] ++ map (definition: strong definition.value) keptSwap);
    })
    (lib.mkIf (luksOut != [ ]) {
      boot.initrd.luks.devices = lib.mkMerge ([ (strong { }) ]
        ++ map (definition: strong (removeAttrs definition.value luksOut)) (lib.filter (definition: lib.isAttrs definition.value) (lib.attrByPath luksPath null declared.options).definitionsWithLocations));
    })
  ] ++ map
    (one: lib.setAttrByPath one.option (lib.mkMerge (map (found: found.without) (lib.filter mayIgnore one.findings))))
    (lib.filter (one: lib.hasAttrByPath one.option options) devices));
}
