# Overlay for virtual machines of nixpkgs' builds (`vmTools`), which run without KVM in the appliance's builder.
final: prev:
let
  inherit (final) buildPackages;
  # start-emulated COMMAND...: starts QEMU.
  # Before anything else Linux counts the timer's ticks, and panics where they do not come in time: on a busy host QEMU is late.
  # Nix passes a line that ends with a carriage return on as an empty one: a serial console has no others.
  start = buildPackages.writeScript "start-emulated" ''
    #!${buildPackages.runtimeShell}
    set -o pipefail
    last=
    for word; do
      shift
      [ "$last" != -append ] || word="$word no_timer_check"
      set -- "$@" "$word"
      last=$word
    done
    "$@" | ${buildPackages.coreutils}/bin/tr -d '\r'
  '';
in
{
  vmTools =
    if ! prev.stdenv.hostPlatform.isx86_64 then prev.vmTools
    else prev.vmTools.override {
      customQemu = "${start} ${buildPackages.qemu_kvm}/bin/qemu-system-x86_64 -machine accel=kvm:tcg -cpu max";
    };
}
