# Example for a Raspberry Pi 3, 4, Zero 2 W or another 64-bit ARM board with U-Boot, format sd-aarch64. Edit the key first
# (docs/nixos.md).
{ lib, pkgs, ... }:
{
  networking.hostName = "nixos-pi";

  # Your public key, the line in ~/.ssh/id_ed25519.pub. It is the only way to log in: `ssh nixos@nixos-pi.local`
  users.users.nixos = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = [
      "ssh-ed25519 ... you@example.org"
    ];
  };
  # sudo asks for no password, because no user has one.
  security.sudo.wheelNeedsPassword = false;

  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
    settings.PermitRootLogin = "no";
  };
  # Avahi announces the name `nixos-pi.local`.
  services.avahi = {
    enable = true;
    nssmdns4 = true;
    publish.enable = true;
    publish.addresses = true;
  };

  # Wi-Fi. Write no password here: this file's values end up in the image's world-readable Nix store.
  networking.networkmanager.enable = true;
  hardware.enableRedistributableFirmware = true; # firmware for the Pi's Wi-Fi chip

  # Raspberry Pi
  # - The firmware partition has nixpkgs' config.txt, which starts U-Boot on a Pi 3, 4 and Zero 2 W. For other boards, replace its
  #   content by the board's U-Boot, or write that where the board expects it.
  # - The kernel is nixpkgs' default, which need not be compiled. The Pi's kernel would take hours to compile under emulation:
  #   boot.kernelPackages = pkgs.linuxPackages_rpi4;
  # - A serial console on pins 8 and 10, 115200 baud, shows U-Boot and a login; it is enabled.
  # - The root file system grows to the card's full size at the first boot.

  # Compressed swap in memory: swap on an SD card would wear it out.
  zramSwap.enable = true;

  # No manuals, for a smaller image.
  documentation.enable = lib.mkDefault false;

  environment.systemPackages = [ pkgs.vim ];

  # NixOS release whose defaults for stateful data this machine keeps: do not change it when you upgrade NixOS.
  system.stateVersion = "26.05";
}
