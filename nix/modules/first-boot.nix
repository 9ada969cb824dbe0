# First boot: loads /nix-path-registration into the Nix database, which the assembler does not make.
{ config, lib, ... }:
{
  systemd.services.register-nix-paths = lib.mkIf (config.nix.enable && !config.nixosImage.onlyNixStore) {
    description = "Register Nix Store Paths";
    unitConfig = {
      DefaultDependencies = false;
      ConditionPathExists = "/nix-path-registration";
    };
    wantedBy = [ "sysinit.target" ];
    before = [ "sysinit.target" "shutdown.target" "nix-daemon.socket" "nix-daemon.service" ];
    after = [ "local-fs.target" "growpart.service" "systemd-growfs-root.service" ];
    conflicts = [ "shutdown.target" ];
    restartIfChanged = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
    };
    script = ''
      ${lib.getExe' config.nix.package.out "nix-store"} --load-db < /nix-path-registration
      touch /etc/NIXOS # nixos-rebuild requires this file, and generation 1
      ${lib.getExe' config.nix.package.out "nix-env"} -p /nix/var/nix/profiles/system --set /run/current-system
      rm /nix-path-registration
    '';
  };
}
