# copyChannel: puts nixpkgs into the image as root's channel, like `nixos-install --channel`, when the first boot registers store
# paths.
{ config, lib, pkgs, ... }:
{
  key = "nixos-image/channel";
  _file = ./channel.nix;

  config = lib.mkIf config.nixosImage.copyChannel {
    assertions = [{
      assertion = config.systemd.services.register-nix-paths.wantedBy != [ ];
      message = "nixosImage.copyChannel: no boot of this image registers store paths, a channel among them, because ${
        if config.nix.enable then "its format has none that does" else "nix.enable is false"}; leave it out";
    }];
    systemd.services.register-nix-paths.script = lib.mkAfter ''
      ${lib.getExe' config.nix.package.out "nix-env"} -p /nix/var/nix/profiles/per-user/root/channels \
        --set ${pkgs.linkFarm "nixos-channel" { nixos = lib.cleanSource pkgs.path; }}
    '';
  };
}
