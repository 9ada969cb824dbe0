# nixpkgs itself in the image, as `nixos-install --channel` leaves it: every format registers its store paths with this service.
{ config, lib, pkgs, ... }:
{
  key = "nixos-image/channel";
  _file = ./channel.nix;

  config = lib.mkIf config.nixosImage.copyChannel {
    systemd.services.register-nix-paths.script = lib.mkAfter ''
      ${lib.getExe' config.nix.package.out "nix-env"} -p /nix/var/nix/profiles/per-user/root/channels \
        --set ${pkgs.linkFarm "nixos-channel" { nixos = lib.cleanSource pkgs.path; }}
    '';
  };
}
