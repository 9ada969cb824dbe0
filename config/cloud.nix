# Example for a cloud or a hypervisor, format qcow-efi (docs/nixos.md).
#
# The image boots under UEFI, on x86_64 also under BIOS. The root file system grows to the disk's size at each boot. SSH keys
# come from cloud-init's seed disk, labelled `cidata` (NoCloud) or `config-2` (ConfigDrive). To make one by hand:
#
#   printf '#cloud-config\nssh_authorized_keys: [ "%s" ]\n' "$(cat ~/.ssh/id_ed25519.pub)" > user-data
#   printf 'instance-id: one\nlocal-hostname: one\n' > meta-data
#   genisoimage -output seed.iso -volid cidata -joliet -rock user-data meta-data
{
  nixosImage = {
    cloud.enable = true;

    # x86_64: enable = false omits BIOS support; loader "clover" emulates UEFI instead of using GRUB.
    # emulatedUEFI.enable = false;
    # emulatedUEFI.loader = "clover";

    # Size of the disk; the default is the smallest that the system fits on.
    # diskSize = "8G";
  };

  # An SSH key that works without a seed disk, too.
  # users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA… you@example.org" ];

  # NixOS release whose defaults for stateful data this machine keeps: do not change it when you upgrade NixOS.
  system.stateVersion = "26.05";
}
