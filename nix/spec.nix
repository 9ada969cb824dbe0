# The image spec of a guest: JSON for the assembler (orchestrator/shared/spec.py has the fields).
#
# It is a derivation of the build machine that needs nothing but a shell, so that only the system itself, which it names,
# is of the target's. `spec` is the same as a Nix value, for whoever wants to know without building.
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
  # The command line's paths are text: they go into the store like those of a configuration.
  store = path: if lib.isString path && ! lib.hasPrefix builtins.storeDir path then "${/. + path}" else "${path}";

  # Owners are numbers in the image, where nobody can be asked.
  number = kind: field: owner:
    if lib.isInt owner then owner
    else orElse (throw "nixosImage.contents: ${kind} ${owner} has no fixed number") (config.users.${kind}.${owner}.${field} or null);

  contents = map
    (one: {
      source = store one.source;
      inherit (one) target mode;
      user = number "users" "uid" one.user;
      group = number "groups" "gid" one.group;
    })
    cfg.contents
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
  boot =
    if cfg.installBootLoader || cfg.onlyNixStore || table == "none" then loaders.${table} or { inherit grub; }
    else throw "nixosImage.installBootLoader: false takes partitionTableType = \"none\", every other table is there for a loader";

  # What the card's own commands put onto the firmware partition. They copy data: the build machine's tools do it.
  firmware = buildPkgs.runCommand "firmware" { } ''
    mkdir firmware
    ${config.sdImage.populateFirmwareCommands}
    mv firmware $out
  '';
  populated = sdCard && config.sdImage.populateFirmwareCommands != "";

  spec = {
    schema = 1;
    name = orElse "nixos-image-${format.name}-${config.system.nixos.version}-${system}" cfg.baseName;
    inherit system;
    toplevel = toString config.system.build.toplevel;
    format = format.given;
    partitionTable = table;
    bootLoader = boot // { timeout = orElse (-1) config.boot.loader.timeout; };
    root = {
      inherit (cfg) fsType label;
      additionalSpaceMiB = cfg.additionalSpace;
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
    additionalPaths = map store cfg.additionalPaths;
    inherit (cfg) onlyNixStore;
    registration = config.nix.enable && !cfg.onlyNixStore;
    diskFormat = orElse format.diskFormat cfg.format;
    compression = orElse (if sdCard && !config.sdImage.compressImage then "none" else format.compression) cfg.compression;
    # A getty on the serial line, where there is one, is the last thing to come up.
    readyText = lib.optionalString (lib.any (lib.hasPrefix "console=ttyS") config.boot.kernelParams || lib.any (lib.hasPrefix "console=ttyAMA") config.boot.kernelParams) "login:";
  } // lib.optionalAttrs sdCard {
    firmware = {
      label = config.sdImage.firmwarePartitionName;
      sizeMiB = config.sdImage.firmwareSize;
      offsetMiB = config.sdImage.firmwarePartitionOffset;
      identifier = lib.removePrefix "0x" config.sdImage.firmwarePartitionID;
      # Known when `firmware` is built: spec.sh writes them here.
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
  inherit (config.system.build) toplevel;
}
