# A NixOS for a Raspberry Pi 3, 4, Zero 2 W or another 64-bit ARM board that U-Boot starts: format sd-aarch64. Edit the key
# first (docs/nixos.md).
{ lib, pkgs, ... }:
{
  networking.hostName = "nixos-pi";

  # The only way in. Your public key, one line of ~/.ssh/id_ed25519.pub: `ssh nixos@nixos-pi.local`
  users.users.nixos = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = [
      "ssh-ed25519 ... you@example.org"
    ];
  };
  # Nobody has a password, so sudo asks for none.
  security.sudo.wheelNeedsPassword = false;

  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
    settings.PermitRootLogin = "no";
  };
  # Answers to `nixos-pi.local`.
  services.avahi = {
    enable = true;
    nssmdns4 = true;
    publish.enable = true;
    publish.addresses = true;
  };

  # Wi-Fi. What stands here goes into the world-readable store of the image: no password belongs here.
  networking.networkmanager.enable = true;
  hardware.enableRedistributableFirmware = true; # the Pi's Wi-Fi chip does nothing without

  # Raspberry Pi
  # - The firmware partition has nixpkgs' config.txt, which starts U-Boot on a Pi 3, 4 and Zero 2 W. Other boards: delete what is
  #   on it and write their U-Boot there, or where the board looks for it.
  # - The kernel is nixpkgs' own, so it need not be compiled. The Pi's own would take hours under emulation:
  #   boot.kernelPackages = pkgs.linuxPackages_rpi4;
  # - A serial line on pins 8 and 10, 115200 baud, shows U-Boot and a login; it is on.
  # - The card grows to its full size on the first boot.

  # Memory is short, and swap on a card wears it out.
  zramSwap.enable = true;

  # A small image: no manual, no tools that a headless machine does not need.
  documentation.enable = lib.mkDefault false;

  environment.systemPackages = [ pkgs.vim ];

  # The release whose defaults for data on disk this machine keeps: leave it as it is when NixOS is upgraded.
  system.stateVersion = "26.05";
}
