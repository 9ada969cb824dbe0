# For a cloud or a hypervisor: format qcow-efi (docs/nixos.md).
#
# The image starts on UEFI, and on x86_64 on a BIOS, too. Its root grows to the disk's size on each boot. Who may log in comes
# from cloud-init: a disk labelled `cidata` (NoCloud) or `config-2` (ConfigDrive). Made by hand:
#
#   printf '#cloud-config\nssh_authorized_keys: [ "%s" ]\n' "$(cat ~/.ssh/id_ed25519.pub)" > user-data
#   printf 'instance-id: one\nlocal-hostname: one\n' > meta-data
#   genisoimage -output seed.iso -volid cidata -joliet -rock user-data meta-data
{
  nixosImage = {
    cloud.enable = true;

    # x86_64: false leaves BIOS out; "clover" emulates UEFI instead of showing GRUB's menu.
    # emulatedUEFI.enable = false;
    # emulatedUEFI.loader = "clover";

    # A disk of a given size instead of one that the system fits in.
    # diskSize = "8G";
  };

  # A key here lets you in without a seed, too.
  # users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA… you@example.org" ];

  # The release whose defaults for data on disk this machine keeps: leave it as it is when NixOS is upgraded.
  system.stateVersion = "26.05";
}
