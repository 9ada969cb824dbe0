# shellcheck shell=bash
# Completion of ./run.sh for bash, made by `python3 -m orchestrator.manual`. To use it: . docs/completion/run.sh.bash

# Set `options` to the options of a verb.
_nixos_image_options() {
  case $1 in
    boot) options="-h --help --test --system --firmware --identity --user --seed --print-command --run --grow --boot-timeout --progress --log-format -q --quiet -v --verbose" ;;
    build) options="-h --help --appliance --image -c --configuration --flake --nixpkgs --override-input -I -f --format --format-path --system --root-fs --allow-no-login --ignore-hardware --list --option --nix-conf --special-arg --substituter --trusted-public-key --cores --show-trace --boot --run -o --out --out-link --force --emulation --qemu --locked --strict --dry-run --json --yes --debug-shell --memory --sign --emulation-timeout --boot-timeout --timeout --builders --partition-table --disk-size --boot-size --firmware-size --additional-space --disk-format --compress --bmap --check --inject --host-name --wifi-ssid --wifi-password-file --stamp --identity-seed --secure-boot-key --secure-boot-cert --push --sign-key --push-credentials --progress --log-format -q --quiet -v --verbose" ;;
    cache) options="-h --help --listen --port --json --progress --log-format -q --quiet -v --verbose" ;;
    clean) options="-h --help --all --store --progress --log-format -q --quiet -v --verbose" ;;
    compose) options="-h --help" ;;
    demo) options="-h --help --system -f --format --root-fs --ssh-key --substituter --trusted-public-key --appliance --image --no-boot -o --out --out-link --force --emulation --qemu --locked --strict --dry-run --json --yes --debug-shell --memory --sign --emulation-timeout --boot-timeout --timeout --builders --partition-table --disk-size --boot-size --firmware-size --additional-space --disk-format --compress --bmap --check --inject --host-name --wifi-ssid --wifi-password-file --stamp --identity-seed --secure-boot-key --secure-boot-cert --push --sign-key --push-credentials --progress --log-format -q --quiet -v --verbose" ;;
    doctor) options="-h --help --json --bundle --privileges --system --emulation --progress --log-format -q --quiet -v --verbose" ;;
    eject) options="-h --help --appliance --image -o --out --progress --log-format -q --quiet -v --verbose" ;;
    flash) options="-h --help --dry-run --yes --no-verify" ;;
    formats) options="-h --help" ;;
    help) options="-h --help" ;;
    images) options="-h --help --progress --log-format -q --quiet -v --verbose" ;;
    init) options="-h --help --board --host-name --user --key --time-zone --locale --keymap --wifi-ssid --wifi-country --wifi-password-file --service --nix -o --out" ;;
    kit) options="-h --help --with --sign-key --force --image -f --format --format-path --system --root-fs --allow-no-login --ignore-hardware --nixpkgs --override-input -I --option --nix-conf --special-arg --substituter --trusted-public-key --cores --show-trace --public-key --progress --log-format -q --quiet -v --verbose" ;;
    pins) options="-h --help --update --installed --advisories --tracker --progress --log-format -q --quiet -v --verbose" ;;
    store) options="-h --help --keep --older-than --max-size --repair --substituter --trusted-public-key --json --progress --log-format -q --quiet -v --verbose" ;;
    test) options="-h --help" ;;
    verify) options="-h --help --key --allowed-signers" ;;
    version) options="-h --help" ;;
    worker) options="-h --help --listen --port --authorized-key --jobs --progress --log-format -q --quiet -v --verbose" ;;
    *) options= ;;
  esac
}

# Set `words` and `kind` to what the value VERB:OPTION:NUMBER may be; fails if there is none.
_nixos_image_value() {
  words='' kind=none
  case $1 in
    boot:--system:1) words="aarch64-linux riscv64-linux x86_64-linux" ;;
    boot:--firmware:1) words="uefi bios u-boot" ;;
    boot:--identity:1) kind='file' ;;
    boot:--user:1) ;;
    boot:--seed:1) kind='file' ;;
    boot:--run:1) ;;
    boot:--grow:1) ;;
    boot:--boot-timeout:1) ;;
    boot:--progress:1 | boot:--log-format:1) words="auto plain live json" ;;
    build:--appliance:1) kind='file' ;;
    build:--image:1) ;;
    build:-c:1 | build:--configuration:1) kind='file' ;;
    build:--flake:1) kind='file' ;;
    build:--nixpkgs:1) kind='file' ;;
    build:--override-input:1) ;;
    build:--override-input:2) kind='file' ;;
    build:-I:1) ;;
    build:-f:1 | build:--format:1) words="amazon azure cloudstack digital-ocean do docker gce google-compute hyperv install-iso install-iso-hyperv iso iso-installer kexec kexec-bundle kubevirt linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qcow qcow-efi qemu qemu-efi raw raw-efi sd-aarch64 sd-aarch64-installer sd-armv7l sd-card sd-riscv64 sd-x86_64 vagrant-virtualbox virtualbox vm vm-bootloader vm-nogui vmware" ;;
    build:--format-path:1) kind='file' ;;
    build:--system:1) words="aarch64-linux armv7l-linux i686-linux riscv64-linux x86_64-linux" ;;
    build:--root-fs:1) words="ext4 btrfs xfs erofs f2fs" ;;
    build:--option:1) ;;
    build:--option:2) ;;
    build:--nix-conf:1) kind='file' ;;
    build:--special-arg:1) ;;
    build:--special-arg:2) ;;
    build:--substituter:1) ;;
    build:--trusted-public-key:1) ;;
    build:--cores:1) ;;
    build:-o:1 | build:--out:1 | build:--out-link:1) kind='folder' ;;
    build:--emulation:1) words="auto native private host shared" ;;
    build:--qemu:1) ;;
    build:--memory:1) ;;
    build:--sign:1) kind='file' ;;
    build:--emulation-timeout:1) ;;
    build:--boot-timeout:1) ;;
    build:--timeout:1) ;;
    build:--builders:1) kind='file' ;;
    build:--partition-table:1) words="none legacy legacy+boot legacy+gpt efi efixbootldr hybrid sd-card" ;;
    build:--disk-size:1) ;;
    build:--boot-size:1) ;;
    build:--firmware-size:1) ;;
    build:--additional-space:1) ;;
    build:--disk-format:1) words="raw qcow2 qcow2-compressed vdi vpc vpc-fixed vhdx vmdk vagrant" ;;
    build:--compress:1) words="none zstd xz gz" ;;
    build:--inject:1) kind='file' ;;
    build:--host-name:1) ;;
    build:--wifi-ssid:1) ;;
    build:--wifi-password-file:1) kind='file' ;;
    build:--stamp:1) kind='file' ;;
    build:--identity-seed:1) kind='file' ;;
    build:--secure-boot-key:1) kind='file' ;;
    build:--secure-boot-cert:1) kind='file' ;;
    build:--push:1) ;;
    build:--sign-key:1) kind='file' ;;
    build:--push-credentials:1) kind='file' ;;
    build:--progress:1 | build:--log-format:1) words="auto plain live json" ;;
    cache:--listen:1) ;;
    cache:--port:1) ;;
    cache:--progress:1 | cache:--log-format:1) words="auto plain live json" ;;
    clean:--progress:1 | clean:--log-format:1) words="auto plain live json" ;;
    demo:--system:1) words="aarch64-linux riscv64-linux x86_64-linux" ;;
    demo:-f:1 | demo:--format:1) words="qcow qcow-efi raw raw-efi sd-aarch64 sd-riscv64" ;;
    demo:--root-fs:1) words="ext4 btrfs xfs erofs f2fs" ;;
    demo:--ssh-key:1) kind='file' ;;
    demo:--substituter:1) ;;
    demo:--trusted-public-key:1) ;;
    demo:--appliance:1) kind='file' ;;
    demo:--image:1) ;;
    demo:-o:1 | demo:--out:1 | demo:--out-link:1) kind='folder' ;;
    demo:--emulation:1) words="auto native private host shared" ;;
    demo:--qemu:1) ;;
    demo:--memory:1) ;;
    demo:--sign:1) kind='file' ;;
    demo:--emulation-timeout:1) ;;
    demo:--boot-timeout:1) ;;
    demo:--timeout:1) ;;
    demo:--builders:1) kind='file' ;;
    demo:--partition-table:1) words="none legacy legacy+boot legacy+gpt efi efixbootldr hybrid sd-card" ;;
    demo:--disk-size:1) ;;
    demo:--boot-size:1) ;;
    demo:--firmware-size:1) ;;
    demo:--additional-space:1) ;;
    demo:--disk-format:1) words="raw qcow2 qcow2-compressed vdi vpc vpc-fixed vhdx vmdk vagrant" ;;
    demo:--compress:1) words="none zstd xz gz" ;;
    demo:--inject:1) kind='file' ;;
    demo:--host-name:1) ;;
    demo:--wifi-ssid:1) ;;
    demo:--wifi-password-file:1) kind='file' ;;
    demo:--stamp:1) kind='file' ;;
    demo:--identity-seed:1) kind='file' ;;
    demo:--secure-boot-key:1) kind='file' ;;
    demo:--secure-boot-cert:1) kind='file' ;;
    demo:--push:1) ;;
    demo:--sign-key:1) kind='file' ;;
    demo:--push-credentials:1) kind='file' ;;
    demo:--progress:1 | demo:--log-format:1) words="auto plain live json" ;;
    doctor:--bundle:1) kind='file' ;;
    doctor:--system:1) words="aarch64-linux riscv64-linux x86_64-linux" ;;
    doctor:--emulation:1) words="auto native private host shared" ;;
    doctor:--progress:1 | doctor:--log-format:1) words="auto plain live json" ;;
    eject:--appliance:1) kind='file' ;;
    eject:--image:1) ;;
    eject:-o:1 | eject:--out:1) kind='folder' ;;
    eject:--progress:1 | eject:--log-format:1) words="auto plain live json" ;;
    images:--progress:1 | images:--log-format:1) words="auto plain live json" ;;
    init:--board:1) ;;
    init:--host-name:1) ;;
    init:--user:1) ;;
    init:--key:1) kind='file' ;;
    init:--time-zone:1) ;;
    init:--locale:1) ;;
    init:--keymap:1) ;;
    init:--wifi-ssid:1) ;;
    init:--wifi-country:1) ;;
    init:--wifi-password-file:1) kind='file' ;;
    init:--service:1) ;;
    init:-o:1 | init:--out:1) kind='folder' ;;
    kit:--with:1) ;;
    kit:--sign-key:1) kind='file' ;;
    kit:--image:1) ;;
    kit:-f:1 | kit:--format:1) ;;
    kit:--format-path:1) kind='file' ;;
    kit:--system:1) words="aarch64-linux armv7l-linux i686-linux riscv64-linux x86_64-linux" ;;
    kit:--root-fs:1) words="ext4 btrfs xfs erofs f2fs" ;;
    kit:--nixpkgs:1) kind='file' ;;
    kit:--override-input:1) ;;
    kit:--override-input:2) kind='file' ;;
    kit:-I:1) ;;
    kit:--option:1) ;;
    kit:--option:2) ;;
    kit:--nix-conf:1) kind='file' ;;
    kit:--special-arg:1) ;;
    kit:--special-arg:2) ;;
    kit:--substituter:1) ;;
    kit:--trusted-public-key:1) ;;
    kit:--cores:1) ;;
    kit:--public-key:1) kind='file' ;;
    kit:--progress:1 | kit:--log-format:1) words="auto plain live json" ;;
    pins:--tracker:1) ;;
    pins:--progress:1 | pins:--log-format:1) words="auto plain live json" ;;
    store:--keep:1) ;;
    store:--older-than:1) ;;
    store:--max-size:1) ;;
    store:--substituter:1) ;;
    store:--trusted-public-key:1) ;;
    store:--progress:1 | store:--log-format:1) words="auto plain live json" ;;
    verify:--key:1) kind='file' ;;
    verify:--allowed-signers:1) kind='file' ;;
    worker:--listen:1) ;;
    worker:--port:1) ;;
    worker:--authorized-key:1) kind='file' ;;
    worker:--jobs:1) ;;
    worker:--progress:1 | worker:--log-format:1) words="auto plain live json" ;;
    *) return 1 ;;
  esac
}

# Set `words` and `kind` to what the arguments of a verb may be.
_nixos_image_argument() {
  words='' kind=none
  case $1 in
    boot) kind='file' ;;
    cache) words="info serve stop" ;;
    flash) kind='file' ;;
    formats) words="amazon azure cloudstack digital-ocean do docker gce google-compute hyperv install-iso install-iso-hyperv iso iso-installer kexec kexec-bundle kubevirt linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qcow qcow-efi qemu qemu-efi raw raw-efi sd-aarch64 sd-aarch64-installer sd-armv7l sd-card sd-riscv64 sd-x86_64 vagrant-virtualbox virtualbox vm vm-bootloader vm-nogui vmware" ;;
    help) words="boot build cache clean compose demo doctor eject flash formats help images init kit pins store test verify version worker" ;;
    images) words="push" ;;
    kit) words="export import" ;;
    store) words="list gc verify optimise" ;;
    test) kind='file' ;;
    verify) kind='file' ;;
    worker) words="start status stop" ;;
  esac
}

_nixos_image() {
  local current=${COMP_WORDS[COMP_CWORD]} at=$COMP_CWORD verb=build options words kind
  COMPREPLY=()
  if [ "$at" -gt 1 ] && [[ ${COMP_WORDS[1]} != -* ]]; then verb=${COMP_WORDS[1]}; fi
  # bash makes --option=value three words.
  if [ "$current" = = ]; then current='' at=$((at + 1)); fi
  local option=${COMP_WORDS[at - 1]}
  if [ "$option" = = ]; then option=${COMP_WORDS[at - 2]}; fi
  if [ "$COMP_CWORD" = 1 ] && [[ $current != -* ]]; then
    words="attach build config cp create down events exec images kill logs ls pause port ps pull push restart rm run scale start stats stop top unpause up version wait watch boot cache clean compose demo doctor eject flash formats help init kit pins store test verify worker" kind=none
  elif ! _nixos_image_value "$verb:$option:1" \
    && ! { [ "$at" -gt 2 ] && _nixos_image_value "$verb:${COMP_WORDS[at - 2]}:2"; }; then
    if [[ $current == -* ]]; then
      _nixos_image_options "$verb"
      words=$options kind=none
    else
      _nixos_image_argument "$verb"
    fi
  fi
  case $kind in
    file) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    folder) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
  esac
}

complete -F _nixos_image run.sh
