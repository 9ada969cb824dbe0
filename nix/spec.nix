# Makes the image spec of a guest: JSON for the assembler (fields: orchestrator/shared/spec.py).
#
# The spec's derivation is for the build machine and needs only a shell, so that only the NixOS system that it names is built for
# the target. Its attribute `spec` is the spec as a Nix value, for evaluation without a build.
{ lib, buildPkgs, buildSystem }:
{ format, guest }:
let
  inherit (guest) config pkgs;
  inherit (pkgs.stdenv.hostPlatform) system efiArch isx86;
  cfg = config.nixosImage;
  sdCard = config ? sdImage;
  table = if sdCard then "sd-card" else cfg.partitionTableType;

  orElse = fallback: value: if value == null then fallback else value;
  autoIsNull = size: if size == "auto" then 0 else size;
  # Paths from the command line are strings: copy them to the store like paths of a configuration.
  store = path: if lib.isString path && ! lib.hasPrefix builtins.storeDir path then "${/. + path}" else "${path}";

  # Owners must be numbers, because the assembler cannot look up names.
  number = kind: field: owner:
    if lib.isInt owner then owner
    else orElse (throw "nixosImage.contents: ${kind}.${owner} has no fixed number") (config.users.${kind}.${owner}.${field} or null);

  # Swap files on the root file system, which the first boot writes in full.
  mountOf = import ./mount-of.nix { inherit lib; inherit (config) fileSystems; };
  isOnRoot = path: (mountOf path).mountPoint or "/" == "/";
  swap = lib.foldl' (sum: one: sum + one.size) 0
    (lib.filter (one: one.size != null && ! lib.hasPrefix "/dev/" one.device && isOnRoot one.device) (lib.optionals (! cfg.onlyNixStore) config.swapDevices));

  # Whether the image gets the provider's /etc/nixos/configuration.nix: what the configuration puts there comes first.
  ownSystem = format.onDevice != [ ] && ! cfg.onlyNixStore && cfg.configFile == null
    && ! lib.any (one: one.target == "/etc/nixos" || lib.hasPrefix "/etc/nixos/" one.target) cfg.contents;
  contents = map
    (one: {
      source = store one.source;
      inherit (one) target mode;
      user = number "users" "uid" one.user;
      group = number "groups" "gid" one.group;
    })
    (cfg.contents ++ lib.optionals ownSystem (import ./on-device.nix { inherit lib format config system; }))
  ++ lib.optional (cfg.configFile != null) {
    source = store cfg.configFile;
    target = "/etc/nixos/configuration.nix";
    mode = "644";
  };

  grub = "${pkgs.grub2}/lib/grub/i386-pc";
  clover = cfg.emulatedUEFI.enable && cfg.emulatedUEFI.loader == "clover" && table == "efi";
  loaders = {
    efi = { inherit systemdBoot; } // lib.optionalAttrs clover {
      clover = toString (import ./clover.nix { inherit buildPkgs; inherit (cfg.emulatedUEFI.clover) url hash; });
    };
    efixbootldr = { inherit systemdBoot; };
    hybrid = { inherit systemdBoot grub; };
    sd-card.extlinux = {
      deviceTree = config.boot.loader.generic-extlinux-compatible.useGenerationDeviceTree;
      deviceTreeName = orElse "" config.hardware.deviceTree.name;
    };
    none = lib.optionalAttrs (isx86 && cfg.installBootLoader) { inherit grub; };
  };
  systemdBoot = "${config.systemd.package}/lib/systemd/boot/efi/systemd-boot${efiArch}.efi";
  hasLimine = lib.elem table [ "efi" "hybrid" ] && config.boot.loader.limine.enable or false;
  boot = if hasLimine then { limine = import ./limine.nix { inherit lib config pkgs store; }; } else loaders.${table} or { inherit grub; };

  # What differs from the assembler's defaults. NixOS counts boots since the version that names entries by their content.
  loaderSettings = lib.optionalAttrs (config.system.nixos.distroName != "NixOS") { inherit (config.system.nixos) distroName; }
  // lib.optionalAttrs (hasLimine && ! config.boot.loader.limine.enableEditor) { editor = false; }
  // lib.optionalAttrs (boot ? systemdBoot) (
    let
      from = config.boot.loader.systemd-boot;
      counting = from.bootCounting or { enable = false; };
    in
    lib.optionalAttrs (! from.editor) { editor = false; }
    // lib.optionalAttrs (from ? bootCounting) { entryNames = "content"; }
    // lib.optionalAttrs counting.enable { inherit (counting) tries; }
    // lib.optionalAttrs (from.consoleMode != "keep") { inherit (from) consoleMode; }
    // lib.optionalAttrs (from.rebootForBitlocker or false) { rebootForBitlocker = true; }
    // lib.optionalAttrs (from.extraEntries != { }) { inherit (from) extraEntries; }
    // lib.optionalAttrs (from.extraFiles != { }) { extraFiles = lib.mapAttrs (_: store) from.extraFiles; }
  );

  grubSettings = lib.optionalAttrs (lib.hasPrefix "legacy" table && cfg.grubMenu != { }) { inherit (cfg) grubMenu; };

  # Files of an SD card's firmware partition: sdImage.populateFirmwareCommands, run with the build machine's tools.
  firmware = buildPkgs.runCommand "firmware" { } ''
    mkdir firmware
    ${config.sdImage.populateFirmwareCommands}
    mv firmware $out
  '';
  populated = sdCard && config.sdImage.populateFirmwareCommands != "";

  spec = {
    schema = 1;
    name = import ./name.nix { inherit config format system; };
    inherit system;
    toplevel = toString config.system.build.toplevel;
    format = format.given;
    partitionTable = table;
    bootLoader = boot // loaderSettings // grubSettings // { timeout = orElse (-1) config.boot.loader.timeout; };
    root = {
      inherit (cfg) fsType label;
      additionalSpaceMiB = cfg.additionalSpace + swap;
      uuid = orElse "" cfg.rootFSUID;
      partUuid = orElse "" cfg.rootGPUID;
    } // lib.optionalAttrs sdCard {
      label = config.sdImage.rootVolumeLabel;
      uuid = orElse "" config.sdImage.rootPartitionUUID;
    };
    boot = {
      label = if lib.elem table [ "legacy+boot" "efixbootldr" ] then "BOOT" else "ESP";
      sizeMiB = autoIsNull cfg.bootSize;
    };
    diskSizeMiB = autoIsNull cfg.diskSize;
    inherit contents;
    additionalPaths = map store (cfg.additionalPaths ++ lib.optionals sdCard (lib.remove config.system.build.toplevel config.sdImage.storePaths));
    inherit (cfg) onlyNixStore;
    registration = config.nix.enable && !cfg.onlyNixStore;
    diskFormat = orElse format.diskFormat cfg.format;
    compression = orElse (if sdCard && !config.sdImage.compressImage then "none" else format.compression) cfg.compression;
    # The boot check waits for the getty on the serial console, if there is one: it starts last.
    readyText = lib.optionalString (lib.any (lib.hasPrefix "console=ttyS") config.boot.kernelParams || lib.any (lib.hasPrefix "console=ttyAMA") config.boot.kernelParams) "login:";
  } // lib.optionalAttrs (! sdCard && cfg.secureBoot.keyFile != null) {
    # The paths are text for a message: nothing here reads these files.
    secureBoot = { inherit (cfg.secureBoot) keyFile certFile; };
  } // lib.optionalAttrs (config.nixosImage.late.places != { }) {
    late = config.nixosImage.late.places;
  } // lib.optionalAttrs sdCard {
    firmware = {
      label = config.sdImage.firmwarePartitionName;
      sizeMiB = config.sdImage.firmwareSize;
      offsetMiB = config.sdImage.firmwarePartitionOffset;
      identifier = lib.removePrefix "0x" config.sdImage.firmwarePartitionID;
      # spec.sh fills this in, because the files are known only when `firmware` is built.
      files = { };
    };
  };
in
derivation
  {
    name = lib.strings.sanitizeDerivationName "${spec.name}.json";
    system = buildSystem;
    builder = "/bin/sh";
    args = [ "-e" ./spec.sh ];
    spec = builtins.toJSON spec;
    firmware = lib.optionalString populated "${firmware}";
    preferLocalBuild = true;
  } // {
  inherit spec;
  file = { inherit (spec) name diskFormat compression; };
  inherit (config.system.build) toplevel;
}
