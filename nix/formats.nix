# Every format, in one table of plain data (`nix-instantiate --eval --strict --json nix/formats.nix` prints it).
#
# upstream    name in nixpkgs' system.build.images, null where it has none
# aliases     names of nixos-generators
# systems     that can have it
# assembler   native: our assembler, from an image spec
#             nixpkgs: nixpkgs' recipe with the build machine's tools (nix/artifacts.nix, by the name in `recipe`)
#             vm: nixpkgs' own builder, as it is, which runs the target in a VM: on a machine of that system only
# guest       formats with the same one share an evaluation and a system
# modules     of the guest: below ./modules, or nixpkgs' (below nixos/modules)
# variant     image.modules of the configuration that the guest has, nixpkgs' and the user's own
# suffix      of the file's name
# firmware    that starts it; a PC's BIOS starts UEFI images by nixosImage.emulatedUEFI, on x86_64
# login       whether someone must be able to log in without the provider's help
let
  architectures = (builtins.fromTOML (builtins.readFile ../orchestrator/shared/architectures.toml)).architecture;
  named = map (row: row.name);
  all = named architectures;
  pc = named (builtins.filter (row: builtins.elem "grub" row.loaders) architectures);
  # Those that providers have machines of.
  main = [ "x86_64-linux" "aarch64-linux" ];

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
    modules = [ "./sd-card.nix" "./sd-card-system.nix" "installer/sd-card/${module}.nix" ];
    diskFormat = "raw";
    compression = "zstd";
    suffix = "img.zst";
    firmware = [ "u-boot" ];
  } // own;

  recipe = name: own: format // { assembler = "nixpkgs"; recipe = name; } // own;
  iso = own: recipe "iso" ({ systems = [ "x86_64-linux" "aarch64-linux" "riscv64-linux" "i686-linux" ]; suffix = "iso"; firmware = [ "uefi" "bios" ]; } // own);
  tarball = name: own: recipe name ({ suffix = "tar.xz"; } // own);
  container = name: own: tarball name ({ login = false; } // own);
  # For 32 bits nixpkgs has no QEMU, nor its agent for guests.
  script = name: own: recipe name ({ systems = main; suffix = ""; login = false; } // own);
  onTarget = suffix: { assembler = "vm"; recipe = "image"; modules = [ ]; inherit suffix; };
in
{
  # Disks for anything
  raw = bios { upstream = "raw"; suffix = "img"; };
  raw-efi = uefi { upstream = "raw-efi"; suffix = "img"; };
  qemu = bios { upstream = "qemu"; aliases = [ "qcow" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  qemu-efi = uefi { upstream = "qemu-efi"; aliases = [ "qcow-efi" ]; diskFormat = "qcow2"; suffix = "qcow2"; };

  # SD cards
  sd-card = sdCard "sd-image-aarch64" { upstream = "sd-card"; aliases = [ "sd-aarch64" ]; systems = [ "aarch64-linux" ]; };
  sd-aarch64-installer = sdCard "sd-image-aarch64-installer" {
    modules = [ "./sd-card.nix" "installer/sd-card/sd-image-aarch64-installer.nix" ];
    systems = [ "aarch64-linux" ];
  };
  sd-x86_64 = sdCard "sd-image-x86_64" { upstream = "sd-card"; systems = [ "x86_64-linux" ]; };
  sd-riscv64 = sdCard "sd-image-riscv64-qemu" { systems = [ "riscv64-linux" ]; };
  sd-armv7l = sdCard "sd-image-armv7l-multiplatform" { systems = [ "armv7l-linux" ]; };

  # Providers, and hypervisors with drivers of their own
  amazon = provider "amazon" { diskFormat = "vpc"; suffix = "vhd"; };
  azure = provider "azure" { diskFormat = "vpc-fixed"; suffix = "vhd"; };
  cloudstack = provider "cloudstack" { diskFormat = "qcow2"; suffix = "qcow2"; };
  digital-ocean = provider "digital-ocean" { aliases = [ "do" ]; diskFormat = "qcow2"; compression = "gz"; suffix = "qcow2.gz"; };
  google-compute = provider "google-compute" { aliases = [ "gce" ]; suffix = "img"; };
  hyperv = provider "hyperv" { login = true; diskFormat = "vhdx"; suffix = "vhdx"; };
  kubevirt = provider "kubevirt" { diskFormat = "qcow2"; suffix = "qcow2"; };
  linode = provider "linode" {
    modules = [ "./linode.nix" ];
    systems = [ "x86_64-linux" ];
    login = true;
    compression = "gz";
    suffix = "img.gz";
    firmware = [ "bios" ];
  };
  oci = provider "oci" { diskFormat = "qcow2"; suffix = "qcow2"; };
  # Not the variant: it has the channel in every image, which here is an option.
  openstack = provider "openstack" { variant = null; modules = [ "virtualisation/openstack-config.nix" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  proxmox = provider "proxmox" { modules = [ "./proxmox.nix" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  virtualbox = provider "virtualbox" { systems = [ "x86_64-linux" ]; login = true; diskFormat = "vdi"; suffix = "vdi"; };
  vmware = provider "vmware" { login = true; diskFormat = "vmdk"; suffix = "vmdk"; };

  # Live systems and installers
  iso = iso { upstream = "iso"; variant = "iso"; modules = [ "./iso.nix" ]; };
  iso-installer = iso {
    upstream = "iso-installer";
    aliases = [ "install-iso" ];
    variant = "iso-installer";
    modules = [ "./installer.nix" ];
    systems = main ++ [ "riscv64-linux" ]; # nixpkgs' installers have efivar, which is broken on 32 bits
  };
  install-iso-hyperv = iso { variant = "iso-installer"; modules = [ "./installer.nix" "./hyperv.nix" ]; systems = main; };
  kexec = tarball "kexec" { upstream = "kexec"; variant = "kexec"; systems = main; };
  kexec-bundle = recipe "kexec-bundle" { variant = "kexec"; systems = main; suffix = ""; };

  # Containers: whoever runs them can enter them
  docker = container "docker" { modules = [ "virtualisation/docker-image.nix" ]; };
  lxc = container "tarball" { upstream = "lxc"; variant = "lxc"; };
  lxc-metadata = container "metadata" { upstream = "lxc-metadata"; variant = "lxc-metadata"; };
  proxmox-lxc = container "tarball" { upstream = "proxmox-lxc"; variant = "proxmox-lxc"; };

  # Scripts that start QEMU, the build machine's, on a disk that they make themselves
  vm = script "vm" { };
  vm-nogui = script "vm" { modules = [ "./vm-nogui.nix" ]; };

  # nixpkgs' builders that need the target's programs to run: an installed boot loader, ZFS, VirtualBox
  vm-bootloader = script "vm-bootloader" { assembler = "vm"; };
  openstack-zfs = provider "openstack-zfs" { } // onTarget "qcow2";
  vagrant-virtualbox = provider "vagrant-virtualbox" { systems = [ "x86_64-linux" ]; } // onTarget "box";
}
