# The demo system: laid out like NixOS, but made of Debian packages, so that it needs neither nixpkgs nor a binary cache.
#
# Steps, in the order of this file: packages fetched by hash -> unpacked trees (fixed-output, so their store paths are the same on
# every build host) -> configuration steps that run on the target's system -> toplevel with a bootspec -> image spec.
#
# The host's name, the user and the keys are late values: what Nix builds is the same for everybody.
#
# `inputs` is a JSON file: { system, format, partitionTable, diskFormat, rootFs,
# packages = { ROLE = { url, package, version, sha256, tree }; }; }.
# A `tree` of null (a package newer than its pin) makes the unpacked tree input-addressed.
{ inputs }:
let
  demo = builtins.fromJSON (builtins.readFile inputs);
  inherit (demo) system;

  hostName = "nixos-demo"; # until a late value gives another one

  architectures = (builtins.fromTOML (builtins.readFile ../../orchestrator/shared/architectures.toml)).architecture;
  arch = builtins.head (builtins.filter (row: row.name == system) architectures);
  filesystems = (builtins.fromTOML (builtins.readFile ../../orchestrator/shared/filesystems.toml)).filesystem;
  # Kernel modules of a file system, dependencies first.
  modulesOf = name: builtins.concatMap (module: (arch.demo.module_needs or { }).${module} or [ ] ++ [ module ])
    (builtins.head (builtins.filter (row: row.name == name) filesystems)).kernel_modules;

  version = "1";
  release = "demo-${version}";
  label = "nixos";

  # Store path names allow neither "~" nor ":".
  storeName = p: builtins.replaceStrings [ "~" ":" ] [ "-" "-" ] "${p.package}-${p.version}";

  fetch = p: derivation {
    name = "${storeName p}.deb";
    system = "builtin";
    builder = "builtin:fetchurl";
    inherit (p) url;
    outputHash = p.sha256;
    outputHashAlgo = "sha256";
    outputHashMode = "flat";
    preferLocalBuild = true;
  };

  # The only step that uses a program of the builder's container: a static busybox, which the sandbox contains (UNPACKER in
  # agents/builder/demo.py). The hash of its output is pinned, too.
  unpack = p: derivation ({
    name = storeName p;
    system = builtins.currentSystem;
    builder = "/usr/bin/busybox";
    args = [ "sh" "-e" ./unpack.sh ];
    deb = fetch p;
  } // (if p.tree == null then { } else { outputHash = p.tree; outputHashMode = "recursive"; }));

  packages = builtins.mapAttrs (_: unpack) demo.packages;

  # The derivations below run on the target's system, emulated if the builder's is another one.
  busybox = derivation {
    name = "busybox";
    inherit system;
    builder = "${packages.busybox}/usr/bin/busybox";
    args = [ "sh" "-e" ./busybox.sh ];
    source = packages.busybox;
  };

  onTarget = name: script: attributes: derivation ({
    inherit name system;
    builder = "${busybox}/bin/sh";
    args = [ "-e" script ];
    PATH = "${busybox}/bin";
    applets = ./applets.sh;
  } // attributes);

  linux = onTarget "linux" ./linux.sh {
    kernel = packages.kernel;
    # Kernel modules of a virtual machine, with dependencies, in loading order; modules that are built into the kernel are
    # skipped.
    wanted = "virtio_blk failover net_failover virtio_net virtio-rng ${toString (modulesOf "vfat" ++ modulesOf demo.rootFs)}";
  };

  libraries = onTarget "libraries" ./libraries.sh {
    trees = with packages; [
      libblkid libc libcom-err libcrypt libext2fs libfdisk libgmp libreadline libsmartcols libtinfo libtomcrypt libtommath
      libuuid zlib
    ];
  };

  initrd = onTarget "initrd" ./initrd.sh { inherit busybox linux; init = ./initrd-init.sh; };

  etc = onTarget "etc" ./etc.sh {
    inherit hostName busybox release;
    inherit (arch.demo) console;
  };

  name = "${hostName}-${demo.format}-${system}-${version}";

  bootspec = {
    inherit system;
    label = "NixOS demo (${release})";
    kernelParams = [ "console=tty0" "console=${arch.demo.console}" "panic=10" "root=LABEL=${label}" "rootfstype=${demo.rootFs}" "loglevel=4" ];
  };

  toplevel = onTarget "nixos-system-${hostName}-${release}" ./toplevel.sh {
    inherit busybox linux libraries initrd etc;
    inherit (packages) dropbear e2fsprogs fdisk;
    init = ./init.sh;
    rc = ./rc.sh;
    bootspec = builtins.toJSON bootspec;
    kernelParams = bootspec.kernelParams;
  };
in
{
  inherit toplevel;

  # What a kit carries to a machine without a network.
  trees = builtins.attrValues packages;

  # The image's file name is printed while Nix evaluates, as in nix/build.nix.
  imageSpec = builtins.trace "nixos-image-file ${builtins.toJSON { inherit name; inherit (demo) diskFormat; }}" onTarget "image-spec.json" ./image-spec.sh {
    spec = builtins.toJSON {
      schema = 1;
      inherit name;
      inherit system toplevel;
      inherit (demo) format partitionTable diskFormat;
      # All boot loaders of the system; the partition table decides which are installed.
      bootLoader = {
        timeout = 0;
        systemdBoot = "${packages.systemd-boot}/usr/lib/systemd/boot/efi/systemd-boot${arch.efi}.efi";
      } // (if builtins.elem "grub" arch.loaders then { grub = "${packages.grub}/usr/lib/grub/i386-pc"; } else { extlinux = { }; });
      boot = { label = "ESP"; sizeMiB = 48; };
      root = { fsType = demo.rootFs; inherit label; additionalSpaceMiB = 64; };
      readyText = "nixos-image demo: ready";
    };
  };
}
