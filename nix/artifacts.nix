# Images that nixpkgs' own code assembles: ISO, tarballs, kexec, scripts for QEMU, and images that need a VM.
#
# nixpkgs' recipes take their tools as arguments (`.override`): the tools run on the build machine, the packed files are the
# target's.
{ lib, buildPkgs, nixpkgs }:
{ format, guest }:
let
  inherit (guest) config pkgs;
  inherit (pkgs.stdenv.hostPlatform) system;
  name = import ./name.nix { inherit config format system; };

  asTarball = tarball: tarball.override { inherit (buildPkgs) stdenv closureInfo pixz; };
  tarball = arguments: buildPkgs.callPackage (nixpkgs + "/nixos/lib/make-system-tarball.nix") ({ fileName = name; } // arguments);

  # Initrd for kexec: the system's initrd and the whole store as a squashfs.
  ramdisk = buildPkgs.makeInitrdNG {
    inherit (config.boot.initrd) compressor compressorArgs;
    prepend = [ "${config.system.build.initialRamdisk}/initrd" ];
    contents = [{
      source = config.system.build.squashfsStore.override { inherit (buildPkgs) stdenv squashfsTools closureInfo; };
      target = "/nix-store.squashfs";
    }];
  };
  # The system is in the initrd: without references, it is not in the archive for a second time.
  kexecFiles = buildPkgs.runCommand "kexec-files" { nativeBuildInputs = [ buildPkgs.nukeReferences ]; } ''
    mkdir $out
    cp ${config.system.build.kernel}/${config.system.boot.loader.kernelFile} $out/kernel
    cp ${ramdisk}/initrd $out/initrd
    chmod +w $out/kernel
    nuke-refs $out/kernel
  '';
  kexec = buildPkgs.writeScript "kexec_nixos" ''
    #!/bin/sh -e
    # This script replaces the running system by NixOS; its archive must be unpacked to /. Keys in /ssh_pubkey let root in.
    initrd=${kexecFiles}/initrd
    if [ -e /ssh_pubkey ]; then
      cd /
      initrd=/initrd-with-keys
      ${pkgs.coreutils}/bin/cp ${kexecFiles}/initrd $initrd
      echo ssh_pubkey | ${pkgs.cpio}/bin/cpio -o -H newc | ${pkgs.gzip}/bin/gzip >> $initrd
    fi
    kexec=${pkgs.kexec-tools}/bin/kexec
    $kexec --load ${kexecFiles}/kernel --initrd=$initrd \
      --command-line "init=${builtins.unsafeDiscardStringContext config.system.build.toplevel}/init ${toString config.boot.kernelParams}"
    sync
    $kexec -e
  '';
  kexecTarball = tarball { storeContents = [{ object = kexec; symlink = "/kexec_nixos"; }]; contents = [ ]; };

  recipes = {
    iso = config.system.build.isoImage.override {
      inherit (buildPkgs) stdenv callPackage closureInfo xorriso libossp_uuid squashfsTools zstd;
    };
    tarball = asTarball config.system.build.tarball;
    metadata = asTarball config.system.build.metadata;
    # nixpkgs' docker module would name the file after the machine that packs it.
    docker = (asTarball config.system.build.tarball).override { fileName = name; };
    kexec = kexecTarball;
    kexec-bundle = buildPkgs.runCommand "kexec-bundle" { } ''
      mkdir $out
      printf '%s\n' '#!/bin/sh -e' 'tail -n +4 "$0" | tar -xJ -C /' 'exec /kexec_nixos' > $out/${name}
      cat ${kexecTarball}/tarball/*.tar.xz >> $out/${name}
      chmod +x $out/${name}
    '';
  };
  # Make a folder that contains only the recipe's image file.
  file = recipe:
    let
      extension = if format.recipe == "iso" then config.image.extension else format.suffix;
      suffix = lib.optionalString (extension != "") ".${extension}";
    in
    buildPkgs.runCommand (lib.strings.sanitizeDerivationName name) { preferLocalBuild = true; } ''
      mkdir $out
      file=$(find ${recipe} -type f ! -path '*/nix-support/*')
      [ "$(echo "$file" | wc -l)" = 1 ]
      ln -s "$file" $out/${lib.escapeShellArg "${name}${suffix}"}
    '' // { file.name = "${name}${suffix}"; };

  # A derivation whose output is a file would be taken for an image spec: put it into a folder as `fileName`.
  inFolder = fileName: made: buildPkgs.runCommand made.name { preferLocalBuild = true; } ''
    if [ -d ${made} ]; then
      ln -s ${made} $out
    else
      mkdir $out
      ln -s ${made} $out/${lib.escapeShellArg fileName}
    fi
  '';
  own = config.system.build.${config.formatAttr};

  # Recipes whose whole output folder is delivered: a script's, or a VM builder's, which may have several files.
  folders = {
    vm = variant.vmVariant.system.build.vm;
    vm-bootloader = variant.vmVariantWithBootLoader.system.build.vm;
    image = inFolder "${name}.${format.suffix}" config.system.build.image;
    format-path = inFolder "${lib.removeSuffix config.fileExtension own.name}${config.fileExtension}" own;
    disk-image = import ./disk-image.nix { inherit lib nixpkgs config pkgs format name; };
  };
  variant = config.virtualisation;
  toplevel = {
    vm = variant.vmVariant.system.build.toplevel;
    vm-bootloader = variant.vmVariantWithBootLoader.system.build.toplevel;
  }.${format.recipe} or config.system.build.toplevel;
in
(folders.${format.recipe} or (file recipes.${format.recipe})) // lib.optionalAttrs (format.recipe != "metadata") { inherit toplevel; }
