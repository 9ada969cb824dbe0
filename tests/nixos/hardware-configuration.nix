# As nixos-generate-config writes it for an encrypted laptop.
{ lib, modulesPath, ... }:
{
  imports = [ (modulesPath + "/installer/scan/not-detected.nix") ];
  boot.initrd.availableKernelModules = [ "xhci_pci" "nvme" ];
  fileSystems."/" = { device = "/dev/mapper/luks-4"; fsType = "btrfs"; options = [ "subvol=@" ]; };
  fileSystems."/home" = { device = "/dev/mapper/luks-4"; fsType = "btrfs"; options = [ "subvol=@home" ]; };
  boot.initrd.luks.devices."luks-4".device = "/dev/disk/by-uuid/40000000-0000-0000-0000-000000000004";
  fileSystems."/boot" = { device = "/dev/disk/by-uuid/AAAA-4444"; fsType = "vfat"; options = [ "fmask=0077" "dmask=0077" ]; };
  swapDevices = [ { device = "/dev/disk/by-uuid/50000000-0000-0000-0000-000000000005"; } ];
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
}
