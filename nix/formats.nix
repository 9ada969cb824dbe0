# Every format, in one table of plain data (`nix-instantiate --eval --strict --json nix/formats.nix` prints it).
#
# upstream    name in nixpkgs' system.build.images, null where it has none
# aliases     names of nixos-generators
# systems     that can have it
# assembler   native: our assembler, from an image spec
#             nixpkgs: nixpkgs' recipe with the build machine's tools (nix/artifacts.nix, by the name in `recipe`)
#             vm: nixpkgs' own builder, which runs the target in a VM: on a machine of that system only
# guest       formats with the same one share an evaluation and a system
# modules     of the guest: below ./modules, or nixpkgs' (below nixos/modules)
# variant     image.modules of the configuration that the guest has, nixpkgs' and the user's own
# suffix      of the file's name
# firmware    that starts it; a PC's BIOS starts UEFI images by nixosImage.emulatedUEFI, on x86_64
# login       whether someone must be able to log in without the provider's help
let
  pc = [ "x86_64-linux" "i686-linux" ];
  main = [ "x86_64-linux" "aarch64-linux" ];
  all = main ++ [ "armv7l-linux" "riscv64-linux" "i686-linux" ];

  format = {
    upstream = null;
    aliases = [ ];
    systems = all;
    guest = null;
    modules = [ ];
    variant = null;
    firmware = [ ];
    login = true;
  };

  disk = own: format // {
    assembler = "native";
    diskFormat = "raw";
    compression = "none";
    firmware = [ "uefi" "bios" ];
  } // own // { modules = (own.modules or [ ]) ++ [ "./disk.nix" ]; };

  uefi = own: disk (own // { guest = "uefi"; modules = [ "./generic.nix" ]; });
  bios = own: disk (own // {
    guest = "bios";
    modules = [ "./generic.nix" "./legacy.nix" ];
    systems = pc;
    firmware = [ "bios" ];
  });

  # The provider's guest; its image builder, which would start a VM, is never forced. Keys come from the provider.
  provider = upstream: own: disk ({
    inherit upstream;
    variant = upstream;
    systems = main;
    login = false;
  } // own);

  sdCard = module: own: format // {
    assembler = "native";
    modules = [ "./sd-card.nix" "installer/sd-card/${module}.nix" ];
    diskFormat = "raw";
    compression = "zstd";
    suffix = "img.zst";
    firmware = [ "u-boot" ];
  } // own;

  recipe = name: own: format // { assembler = "nixpkgs"; recipe = name; } // own;
  iso = own: recipe "iso" ({ systems = [ "x86_64-linux" "aarch64-linux" "riscv64-linux" "i686-linux" ]; suffix = "iso"; firmware = [ "uefi" "bios" ]; } // own);
  tarball = name: own: recipe name ({ suffix = "tar.xz"; } // own);
  container = name: own: tarball name ({ login = false; } // own);
in
{
  # Disks for anything
  raw = bios { upstream = "raw"; suffix = "img"; };
  raw-efi = uefi { upstream = "raw-efi"; suffix = "img"; };
  qemu = bios { upstream = "qemu"; aliases = [ "qcow" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  qemu-efi = uefi { upstream = "qemu-efi"; aliases = [ "qcow-efi" ]; diskFormat = "qcow2"; suffix = "qcow2"; };

  # SD cards
  sd-card = sdCard "sd-image-aarch64" { upstream = "sd-card"; aliases = [ "sd-aarch64" ]; systems = [ "aarch64-linux" ]; };
  sd-aarch64-installer = sdCard "sd-image-aarch64-installer" { systems = [ "aarch64-linux" ]; };
  sd-x86_64 = sdCard "sd-image-x86_64" { upstream = "sd-card"; systems = [ "x86_64-linux" ]; };
  sd-riscv64 = sdCard "sd-image-riscv64-qemu" { systems = [ "riscv64-linux" ]; };
  sd-armv7l = sdCard "sd-image-armv7l-multiplatform" { systems = [ "armv7l-linux" ]; };
}
