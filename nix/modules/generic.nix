# Disk image for any machine or hypervisor: adds virtio drivers and consoles, which no provider's module adds.
{ modulesPath, ... }:
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ./consoles.nix ];
}
