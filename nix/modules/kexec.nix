# A system that a running Linux starts by kexec (nix/artifacts.nix), as nixos-generators made it: a machine that does not come up
# starts again, so that one need not go there; and the keys of the file /ssh_pubkey, on the machine that was, let root in.
{ config, lib, ... }:
let
  systemd = config.boot.initrd.systemd.enable;
  # Puts the file that the script has added to the initrd below `root`.
  copyKeys = root: ''
    mkdir -p -m 700 ${root}/root ${root}/root/.ssh
    cat /ssh_pubkey >> ${root}/root/.ssh/authorized_keys
    chmod 600 ${root}/root/.ssh/authorized_keys
  '';
in
{
  imports = [ ./consoles.nix ];

  boot.kernelParams = [ "panic=30" "boot.panic_on_fail" ];

  boot.initrd.systemd.services.ssh-pubkey = lib.mkIf systemd {
    description = "Keys of /ssh_pubkey";
    unitConfig = {
      DefaultDependencies = false;
      ConditionPathExists = "/ssh_pubkey";
    };
    wantedBy = [ "initrd.target" ];
    before = [ "initrd.target" ];
    requires = [ "sysroot.mount" ];
    after = [ "sysroot.mount" ];
    serviceConfig.Type = "oneshot";
    script = copyKeys "/sysroot";
  };
  boot.initrd.postMountCommands = lib.mkIf (! systemd) "if [ -e /ssh_pubkey ]; then\n${copyKeys "/mnt-root"}fi\n";
}
