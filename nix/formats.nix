# Table of all formats, as plain data (`nix-instantiate --eval --strict --json nix/formats.nix` prints it).
#
# upstream    name in nixpkgs' system.build.images, or null
# aliases     nixos-generators' names
# systems     supported Nix systems
# assembler   native: our assembler, from an image spec
#             nixpkgs: nixpkgs' recipe with the build machine's tools (nix/artifacts.nix, by the name in `recipe`)
#             vm: nixpkgs' own builder, unchanged, which runs the target in a virtual machine: only on a builder of that system
# guest       name of the NixOS evaluation: formats with the same guest share it
# modules     NixOS modules of the format: below ./modules, or nixpkgs' (below nixos/modules)
# variant     name of an image.modules entry (nixpkgs' and the user's) that the guest imports
# suffix      suffix of the image's file name
# firmware    kinds of firmware that start it; bios starts UEFI images on x86_64 with nixosImage.emulatedUEFI
# onDevice    modules of nixpkgs that the image's /etc/nixos/configuration.nix imports (nix/on-device.nix), as nixpkgs' own image has it;
#             "./NAME" is a file that the cloud's own tools may write into /etc/nixos, too; [ ]: no such file
# otherwise   name of the format whose guest the systems without a PC's BIOS get, or null
# tried       what the project's tests were seen to do with it: it is "booted", "built" and looked into, or only "evaluated"
# upstreams   what nixpkgs makes of it, where that is another kind of file; "" where the file is of the same kind
# login       whether the configuration must allow a login: a key or a password, without a provider's help
let
  architectures = (builtins.fromTOML (builtins.readFile ../orchestrator/shared/architectures.toml)).architecture;
  named = map (row: row.name);
  all = named architectures;
  # Systems for which cloud providers have machines.
  main = [ "x86_64-linux" "aarch64-linux" ];

  format = {
    upstream = null;
    aliases = [ ];
    systems = all;
    guest = null;
    modules = [ ];
    variant = null;
    firmware = [ ];
    onDevice = [ ];
    otherwise = null;
    tried = "evaluated";
    upstreams = "";
    login = true;
  };

  disk = own: format // {
    assembler = "native";
    diskFormat = "raw";
    compression = "none";
    firmware = [ "uefi" "bios" ];
  } // own // { modules = (own.modules or [ ]) ++ [ "./disk.nix" ]; };

  uefi = own: disk (own // { guest = "uefi"; modules = [ "./generic.nix" ]; });
  # As in nixos-generators, it is a UEFI disk on systems that never had a BIOS.
  bios = otherwise: own: disk (own // {
    guest = "bios";
    modules = [ "./generic.nix" "./legacy.nix" ];
    inherit otherwise;
    firmware = [ "bios" ];
  });

  # A cloud provider's format. Its nixpkgs image builder, which would start a VM, is never evaluated. SSH keys come from the
  # provider.
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
  # Only 64-bit systems: nixpkgs has neither QEMU nor its guest agent for 32 bits.
  script = name: own: recipe name ({ systems = main; suffix = ""; login = false; } // own);
  onTarget = suffix: { assembler = "vm"; recipe = "image"; modules = [ ]; inherit suffix; };
in
{
  # Disks for any machine
  raw = bios "raw-efi" { upstream = "raw"; tried = "built"; suffix = "img"; };
  raw-efi = uefi { upstream = "raw-efi"; tried = "booted"; suffix = "img"; };
  qemu = bios "qemu-efi" { upstream = "qemu"; tried = "built"; aliases = [ "qcow" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  qemu-efi = uefi { upstream = "qemu-efi"; tried = "booted"; aliases = [ "qcow-efi" ]; diskFormat = "qcow2"; suffix = "qcow2"; };

  # SD cards
  sd-card = sdCard "sd-image-aarch64" { upstream = "sd-card"; tried = "booted"; aliases = [ "sd-aarch64" ]; systems = [ "aarch64-linux" ]; };
  sd-aarch64-installer = sdCard "sd-image-aarch64-installer" {
    tried = "built";
    modules = [ "./sd-card.nix" "installer/sd-card/sd-image-aarch64-installer.nix" ];
    systems = [ "aarch64-linux" ];
  };
  sd-x86_64 = sdCard "sd-image-x86_64" { upstream = "sd-card"; tried = "built"; systems = [ "x86_64-linux" ]; };
  sd-riscv64 = sdCard "sd-image-riscv64-qemu" { tried = "built"; systems = [ "riscv64-linux" ]; };
  sd-armv7l = sdCard "sd-image-armv7l-multiplatform" { tried = "built"; systems = [ "armv7l-linux" ]; };

  # Cloud providers, and hypervisors that need their own drivers
  amazon = provider "amazon" { tried = "built"; onDevice = [ "virtualisation/amazon-image.nix" ]; diskFormat = "vpc"; suffix = "vhd"; };
  azure = provider "azure" { tried = "built"; onDevice = [ "virtualisation/azure-common.nix" "virtualisation/azure-image.nix" ]; diskFormat = "vpc-fixed"; suffix = "vhd"; };
  cloudstack = provider "cloudstack" { tried = "built"; modules = [ "./cloudstack.nix" ]; onDevice = [ "virtualisation/cloudstack-config.nix" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  digital-ocean = provider "digital-ocean" {
    tried = "built";
    aliases = [ "do" ];
    onDevice = [ "./do-userdata.nix" "virtualisation/digital-ocean-config.nix" ];
    diskFormat = "qcow2";
    compression = "gz";
    suffix = "qcow2.gz";
  };
  google-compute = provider "google-compute" { tried = "built"; upstreams = "disk.raw in a tar.gz, which Google imports"; aliases = [ "gce" ]; onDevice = [ "virtualisation/google-compute-image.nix" ]; suffix = "img"; };
  hyperv = provider "hyperv" { tried = "built"; login = true; diskFormat = "vhdx"; suffix = "vhdx"; };
  kubevirt = provider "kubevirt" { tried = "built"; diskFormat = "qcow2"; suffix = "qcow2"; };
  linode = provider "linode" {
    tried = "built";
    onDevice = [ "virtualisation/linode-image.nix" ];
    modules = [ "./linode.nix" ];
    systems = [ "x86_64-linux" ];
    login = true;
    compression = "gz";
    suffix = "img.gz";
    firmware = [ "bios" ];
  };
  oci = provider "oci" { tried = "built"; onDevice = [ "virtualisation/oci-common.nix" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  # nixpkgs' variant is not used: it always copies the channel, which is an option here (copyChannel).
  openstack = provider "openstack" {
    tried = "built";
    variant = null;
    modules = [ "virtualisation/openstack-config.nix" ];
    onDevice = [ "virtualisation/openstack-config.nix" ];
    diskFormat = "qcow2";
    suffix = "qcow2";
  };
  proxmox = provider "proxmox" { tried = "built"; upstreams = "a backup of a machine (VMA)"; modules = [ "./proxmox.nix" ]; diskFormat = "qcow2"; suffix = "qcow2"; };
  # Vagrant starts the box itself: no firmware of ours starts the file.
  vagrant-virtualbox = provider "vagrant-virtualbox" { tried = "built"; systems = [ "x86_64-linux" ]; diskFormat = "vagrant"; suffix = "box"; firmware = [ ]; };
  virtualbox = provider "virtualbox" { upstreams = "a machine to import (OVA)"; tried = "built"; systems = [ "x86_64-linux" ]; login = true; diskFormat = "vdi"; suffix = "vdi"; };
  vmware = provider "vmware" { tried = "built"; upstreams = "a monolithicSparse one, not a streamOptimized one"; login = true; diskFormat = "vmdk"; suffix = "vmdk"; };

  # Live systems and installers
  iso = iso { upstream = "iso"; tried = "booted"; variant = "iso"; modules = [ "./iso.nix" ]; };
  iso-installer = iso {
    tried = "built";
    upstream = "iso-installer";
    aliases = [ "install-iso" ];
    variant = "iso-installer";
    modules = [ "./installer.nix" ];
    systems = main ++ [ "riscv64-linux" ]; # nixpkgs' installers need efivar, which is broken on 32 bits
  };
  install-iso-hyperv = iso { tried = "built"; variant = "iso-installer"; modules = [ "./installer.nix" "./hyperv.nix" ]; systems = main; };
  kexec = tarball "kexec" { tried = "built"; upstream = "kexec"; variant = "kexec"; modules = [ "./kexec.nix" ]; systems = main; };
  kexec-bundle = recipe "kexec-bundle" { tried = "built"; variant = "kexec"; modules = [ "./kexec.nix" ]; systems = main; suffix = ""; };

  # Containers: they need no login, because their host can enter them
  docker = container "docker" { tried = "built"; modules = [ "virtualisation/docker-image.nix" ]; };
  lxc = container "tarball" { tried = "built"; upstream = "lxc"; variant = "lxc"; };
  lxc-metadata = container "metadata" { tried = "built"; upstream = "lxc-metadata"; variant = "lxc-metadata"; };
  proxmox-lxc = container "tarball" { tried = "built"; upstream = "proxmox-lxc"; variant = "proxmox-lxc"; };

  # Scripts that make a disk and start the build machine's QEMU
  vm = script "vm" { tried = "built"; };
  vm-nogui = script "vm" { tried = "built"; modules = [ "./vm-nogui.nix" ]; };

  # nixpkgs' builders that run the target's programs: they install a boot loader, or make ZFS
  vm-bootloader = script "vm-bootloader" { assembler = "vm"; tried = "built"; };
  openstack-zfs = provider "openstack-zfs" { } // onTarget "qcow2";
}
