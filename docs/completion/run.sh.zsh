#compdef run.sh
# Completion of ./run.sh for zsh, made by `python3 -m orchestrator.manual`. To use it, after compinit: . docs/completion/run.sh.zsh

_nixos_image() {
  local verb=$words[2]
  if (( CURRENT == 2 )) && [[ $verb != -* ]]; then
    local -a verbs=(
      'attach:docker compose attach'
      'build:build NixOS images\: appliance.toml, -c FILE or --flake REF'
      'config:docker compose config'
      'cp:docker compose cp'
      'create:docker compose create'
      'down:docker compose down'
      'events:docker compose events'
      'exec:docker compose exec'
      'images:push the container images, for others to pull'
      'kill:docker compose kill'
      'logs:docker compose logs'
      'ls:docker compose ls'
      'pause:docker compose pause'
      'port:docker compose port'
      'ps:docker compose ps'
      'pull:docker compose pull'
      'push:docker compose push'
      'restart:docker compose restart'
      'rm:docker compose rm'
      'run:docker compose run'
      'scale:docker compose scale'
      'start:docker compose start'
      'stats:docker compose stats'
      'stop:docker compose stop'
      'top:docker compose top'
      'unpause:docker compose unpause'
      'up:docker compose up'
      'version:this project'\''s version, main pins, and the engine'\''s version'
      'wait:docker compose wait'
      'watch:docker compose watch'
      'boot:boot an image on this terminal, or check that it boots'
      'cache:a signed binary cache of what runs have built'
      'clean:remove leftovers of dead runs, or of the store'
      'compose:docker compose with any of its verbs'
      'demo:build a small bootable system for another CPU, and boot it'
      'doctor:what is wrong with this computer, Docker or the network, and why'
      'eject:write an appliance.toml as plain Nix'
      'flash:write an image to a card, and read it back'
      'formats:the formats of NixOS images'
      'help:print this overview, or the options of one verb'
      'init:write an appliance.toml\: describe an image without Nix'
      'kit:all that a machine without a network needs, in a file'
      'pins:pinned versions and hashes of all downloads'
      'store:what the Nix store has, and what each result holds'
      'test:run the test suite (--hosts\: on simulated Docker hosts)'
      'verify:check an image against its checksum, SBOM and signature'
      'worker:build for other machines, in a container of its own'
    )
    _describe verb verbs
    return
  fi
  if [[ $verb == -* ]]; then
    verb=build
  else
    shift words
    (( CURRENT-- ))
  fi
  case $verb in
    boot)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--test[boot check without a terminal\: wait until ready, log in by SSH]' \
        '--system=[system of the image (default\: detected from it)]:VALUE:(aarch64-linux riscv64-linux x86_64-linux)' \
        '--firmware=[firmware of the machine (default\: the image'\''s)]:VALUE:(uefi bios u-boot)' \
        '--identity=[private key that the image already trusts, instead of a new one]:FILE:_files' \
        '--user=[user who logs in (default\: root; others need --identity)]:NAME: ' \
        '--seed=[second disk, raw or ISO, with cloud-init'\''s seed]:FILE:_files' \
        '--print-command[print QEMU and libvirt commands that boot the image, boot nothing]' \
        '--run=[with --test\: run the command in the guest and print its output]:COMMAND: ' \
        '--grow=[boot the copy on a larger disk]:SIZE: ' \
        '--boot-timeout=[how long to wait until the image is ready (default\: 300)]:SECONDS: ' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]' \
        '*:IMAGE:_files'
      ;;
    build)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--appliance=[file that describes images without Nix (default\: ./appliance.toml if it exists)]:FILE:_files' \
        '*--image=[only this image of the file (repeatable)]:NAME: ' \
        '-c+[file with a NixOS configuration]:FILE:_files' \
        '--configuration=[file with a NixOS configuration]:FILE:_files' \
        '--flake=[a flake'\''s NixOS configuration\: one of nixosConfigurations, or an attribute path (default\: the one of this computer'\''s name, or the only one)]:URI\[#NAME\]:_files' \
        '--nixpkgs=[nixpkgs to use, also for a flake'\''s input of that name (default\: NIX_PATH'\''s, else the pinned one; a flake'\''s own)]:PATH|REF:_files' \
        '*--override-input[use another tree for one of the flake'\''s inputs]:NAME: :PATH|REF:_files' \
        '*-I+[entry of Nix'\'' search path; nixos-config=FILE is the configuration]:NAME=PATH|REF: ' \
        '*-f+[image format (./run.sh formats)]:NAME:(amazon azure cloudstack digital-ocean do docker gce google-compute hyperv install-iso install-iso-hyperv iso iso-installer kexec kexec-bundle kubevirt linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qcow qcow-efi qemu qemu-efi raw raw-efi sd-aarch64 sd-aarch64-installer sd-armv7l sd-card sd-riscv64 sd-x86_64 vagrant-virtualbox virtualbox vm vm-bootloader vm-nogui vmware)' \
        '*--format=[image format (./run.sh formats)]:NAME:(amazon azure cloudstack digital-ocean do docker gce google-compute hyperv install-iso install-iso-hyperv iso iso-installer kexec kexec-bundle kubevirt linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qcow qcow-efi qemu qemu-efi raw raw-efi sd-aarch64 sd-aarch64-installer sd-armv7l sd-card sd-riscv64 sd-x86_64 vagrant-virtualbox virtualbox vm vm-bootloader vm-nogui vmware)' \
        '*--format-path=[]:FILE:_files' \
        '*--system=[target system (default\: the host'\''s if the format supports it)]:VALUE:(aarch64-linux armv7l-linux i686-linux riscv64-linux x86_64-linux)' \
        '--root-fs=[]:VALUE:(ext4 btrfs xfs erofs f2fs)' \
        '--allow-no-login[allow an image that nobody can log in to]' \
        '--ignore-hardware[leave out the disks of hardware-configuration.nix]' \
        '--list[print the names of all formats]' \
        '*--option[set a Nix option]:NAME: :VALUE: ' \
        '--nix-conf=[nix.conf lines to add, for example access tokens]:FILE:_files' \
        '*--special-arg[an argument that the configuration'\''s modules may take (specialArgs), a text]:NAME: :VALUE: ' \
        '*--substituter=[binary cache to ask, too; repeatable]:URL: ' \
        '*--trusted-public-key=[what such a cache has may be signed with this key; repeatable]:KEY: ' \
        '--cores=[CPU cores per derivation]:N: ' \
        '--show-trace[with an error of the evaluation, tell each expression that led there]' \
        '--boot[check that the first image boots]' \
        '--run[boot the first image on this terminal afterwards]' \
        '-o+[output folder, no link into a Nix store (default\: ./out)]:DIR:_files -/' \
        '--out=[output folder, no link into a Nix store (default\: ./out)]:DIR:_files -/' \
        '--out-link=[output folder, no link into a Nix store (default\: ./out)]:DIR:_files -/' \
        '--force[replace files there that no run of this project made]' \
        '--emulation=[]:VALUE:(auto native private host shared)' \
        '--qemu=[version of the emulators, one of those that ./run.sh version prints (default\: the first); auto\: if an emulator crashes, try the next version once]:VERSION|auto: ' \
        '--locked[fail if a pinned package is gone, do not use a newer version]' \
        '--strict[fail if Nix'\'' sandbox is not available, do not build without it]' \
        '--dry-run[print the plan and make nothing]' \
        '--json[with --dry-run\: print the plan as JSON on stdout]' \
        '--yes[do not ask before a build that takes long or much disk]' \
        '--debug-shell[if a derivation fails, open a shell in its folder, with its variables]' \
        '--memory=[memory limit of the builder (default\: nine tenths of Docker'\''s memory)]:SIZE: ' \
        '--sign=[sign the images'\'' checksums with this private SSH key]:FILE:_files' \
        '--emulation-timeout=[how long to wait until programs of another architecture run (default\: 60)]:SECONDS: ' \
        '--boot-timeout=[how long to wait until the image is ready (default\: 300)]:SECONDS: ' \
        '--timeout=[time limit of the whole run]:SECONDS: ' \
        '*--builders=[build on another machine, too\: '\''ssh-ng\://USER@HOST SYSTEM KEY JOBS SPEED FEATURES - HOSTKEY'\'', as in /etc/nix/machines (repeatable)]:LINE|@FILE:_files' \
        '--partition-table=[]:VALUE:(none legacy legacy+boot legacy+gpt efi efixbootldr hybrid sd-card)' \
        '--disk-size=[size of the disk (default\: the configuration'\''s, else auto\: what its content needs, and --additional-space)]:SIZE|auto: ' \
        '--boot-size=[size of the boot partition; auto\: three times what its first files need]:SIZE|auto: ' \
        '--firmware-size=[size of an SD card'\''s firmware partition]:SIZE: ' \
        '--additional-space=[free space in the root file system]:SIZE: ' \
        '--disk-format=[]:VALUE:(raw qcow2 qcow2-compressed vdi vpc vpc-fixed vhdx vmdk vagrant)' \
        '--compress=[]:VALUE:(none zstd xz gz)' \
        '--bmap[write a block map for bmaptool]' \
        '--check[assemble each image twice and compare]' \
        '*--inject=[add a file to the root file system (default\: mode 600, of root)]:SRC\:DEST\[\:MODE\[\:UID\[\:GID\]\]\]:_files' \
        '--host-name=[]:NAME: ' \
        '--wifi-ssid=[]:NAME: ' \
        '--wifi-password-file=[]:FILE:_files' \
        '--stamp=[CSV file of devices (host, ssh_key, ...)\: one image per row]:FILE:_files' \
        '--identity-seed=[derive SSH host key, machine-id and serial number of each device from this secret]:FILE:_files' \
        '--secure-boot-key=[sign systemd-boot and the kernels for Secure Boot (PEM, without a passphrase)]:FILE:_files' \
        '--secure-boot-cert=[certificate of the --secure-boot-key (PEM)]:FILE:_files' \
        '--push=[copy what was built to a binary cache (http\:, https\:, s3\:) or another machine'\''s store (ssh-ng\:); file\: is the cache of ./run.sh cache]:URL: ' \
        '--sign-key=[sign it with this key (nix key generate-secret)]:FILE:_files' \
        '--push-credentials=[file with what the cache asks for\: a netrc(5) file for http and https; an AWS credentials file (aws_access_key_id, aws_secret_access_key) for s3; a private SSH key for ssh-ng]:FILE:_files' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]'
      ;;
    cache)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--listen=[address of the engine'\''s host (default\: 127.0.0.1, which no other computer reaches)]:ADDRESS: ' \
        '--port=[TCP port (default\: 5000)]:N: ' \
        '--json[info as JSON, for programs]' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]' \
        '*:action:(info serve stop)'
      ;;
    clean)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--all[end living runs, too, and remove what they have]' \
        '--store[also remove from the Nix store what no recent image needs]' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]'
      ;;
    compose)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '*:VERB ...: '
      ;;
    demo)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--system=[target system (default\: the one foreign to this host)]:VALUE:(aarch64-linux riscv64-linux x86_64-linux)' \
        '-f+[]:VALUE:(qcow qcow-efi raw raw-efi sd-aarch64 sd-riscv64)' \
        '--format=[]:VALUE:(qcow qcow-efi raw raw-efi sd-aarch64 sd-riscv64)' \
        '--root-fs=[]:VALUE:(ext4 btrfs xfs erofs f2fs)' \
        '--ssh-key=[public keys that may log in (default\: ~/.ssh/*.pub)]:FILE:_files' \
        '*--substituter=[binary cache to ask, too; repeatable]:URL: ' \
        '*--trusted-public-key=[what such a cache has may be signed with this key; repeatable]:KEY: ' \
        '--appliance=[file that describes images without Nix (default\: ./appliance.toml if it exists)]:FILE:_files' \
        '*--image=[only this image of the file (repeatable)]:NAME: ' \
        '--no-boot[do not boot the image afterwards]' \
        '-o+[output folder, no link into a Nix store (default\: ./out)]:DIR:_files -/' \
        '--out=[output folder, no link into a Nix store (default\: ./out)]:DIR:_files -/' \
        '--out-link=[output folder, no link into a Nix store (default\: ./out)]:DIR:_files -/' \
        '--force[replace files there that no run of this project made]' \
        '--emulation=[]:VALUE:(auto native private host shared)' \
        '--qemu=[version of the emulators, one of those that ./run.sh version prints (default\: the first); auto\: if an emulator crashes, try the next version once]:VERSION|auto: ' \
        '--locked[fail if a pinned package is gone, do not use a newer version]' \
        '--strict[fail if Nix'\'' sandbox is not available, do not build without it]' \
        '--dry-run[print the plan and make nothing]' \
        '--json[with --dry-run\: print the plan as JSON on stdout]' \
        '--yes[do not ask before a build that takes long or much disk]' \
        '--debug-shell[if a derivation fails, open a shell in its folder, with its variables]' \
        '--memory=[memory limit of the builder (default\: nine tenths of Docker'\''s memory)]:SIZE: ' \
        '--sign=[sign the images'\'' checksums with this private SSH key]:FILE:_files' \
        '--emulation-timeout=[how long to wait until programs of another architecture run (default\: 60)]:SECONDS: ' \
        '--boot-timeout=[how long to wait until the image is ready (default\: 300)]:SECONDS: ' \
        '--timeout=[time limit of the whole run]:SECONDS: ' \
        '*--builders=[build on another machine, too\: '\''ssh-ng\://USER@HOST SYSTEM KEY JOBS SPEED FEATURES - HOSTKEY'\'', as in /etc/nix/machines (repeatable)]:LINE|@FILE:_files' \
        '--partition-table=[]:VALUE:(none legacy legacy+boot legacy+gpt efi efixbootldr hybrid sd-card)' \
        '--disk-size=[size of the disk (default\: the configuration'\''s, else auto\: what its content needs, and --additional-space)]:SIZE|auto: ' \
        '--boot-size=[size of the boot partition; auto\: three times what its first files need]:SIZE|auto: ' \
        '--firmware-size=[size of an SD card'\''s firmware partition]:SIZE: ' \
        '--additional-space=[free space in the root file system]:SIZE: ' \
        '--disk-format=[]:VALUE:(raw qcow2 qcow2-compressed vdi vpc vpc-fixed vhdx vmdk vagrant)' \
        '--compress=[]:VALUE:(none zstd xz gz)' \
        '--bmap[write a block map for bmaptool]' \
        '--check[assemble each image twice and compare]' \
        '*--inject=[add a file to the root file system (default\: mode 600, of root)]:SRC\:DEST\[\:MODE\[\:UID\[\:GID\]\]\]:_files' \
        '--host-name=[]:NAME: ' \
        '--wifi-ssid=[]:NAME: ' \
        '--wifi-password-file=[]:FILE:_files' \
        '--stamp=[CSV file of devices (host, ssh_key, ...)\: one image per row]:FILE:_files' \
        '--identity-seed=[derive SSH host key, machine-id and serial number of each device from this secret]:FILE:_files' \
        '--secure-boot-key=[sign systemd-boot and the kernels for Secure Boot (PEM, without a passphrase)]:FILE:_files' \
        '--secure-boot-cert=[certificate of the --secure-boot-key (PEM)]:FILE:_files' \
        '--push=[copy what was built to a binary cache (http\:, https\:, s3\:) or another machine'\''s store (ssh-ng\:); file\: is the cache of ./run.sh cache]:URL: ' \
        '--sign-key=[sign it with this key (nix key generate-secret)]:FILE:_files' \
        '--push-credentials=[file with what the cache asks for\: a netrc(5) file for http and https; an AWS credentials file (aws_access_key_id, aws_secret_access_key) for s3; a private SSH key for ssh-ng]:FILE:_files' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]'
      ;;
    doctor)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--json[print JSON, for programs]' \
        '--bundle=[also make an archive for a bug report\: findings, versions, settings and the last logs, without secrets (default\: nixos-image-doctor-TIME.tar.gz)]:FILE:_files' \
        '--privileges[also print the privileges of each container]' \
        '--system=[target system of the planned run]:VALUE:(aarch64-linux riscv64-linux x86_64-linux)' \
        '--emulation=[]:VALUE:(auto native private host shared)' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]'
      ;;
    eject)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--appliance=[file that describes images without Nix (default\: ./appliance.toml if it exists)]:FILE:_files' \
        '*--image=[only this image of the file (repeatable)]:NAME: ' \
        '-o+[where the files go (default\: beside the appliance.toml)]:DIR:_files -/' \
        '--out=[where the files go (default\: beside the appliance.toml)]:DIR:_files -/' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]'
      ;;
    flash)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--dry-run[check everything, say what would be written where]' \
        '--yes[ask nothing; needed for disks inside this computer, and without a terminal]' \
        '--no-verify[do not read the disk back and compare]' \
        '*:IMAGE:_files'
      ;;
    formats)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '*:NAME:(amazon azure cloudstack digital-ocean do docker gce google-compute hyperv install-iso install-iso-hyperv iso iso-installer kexec kexec-bundle kubevirt linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qcow qcow-efi qemu qemu-efi raw raw-efi sd-aarch64 sd-aarch64-installer sd-armv7l sd-card sd-riscv64 sd-x86_64 vagrant-virtualbox virtualbox vm vm-bootloader vm-nogui vmware)'
      ;;
    help)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '*:VERB:(boot build cache clean compose demo doctor eject flash formats help images init kit pins store test verify version worker)'
      ;;
    images)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]' \
        '*:action:(push)'
      ;;
    init)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--board=[the machine\: arm-board, arm-uefi, aws, azure, digital-ocean, google-cloud, hyper-v, openstack, oracle-cloud, pc, pc-bios, proxmox, qemu, raspberry-pi-3, raspberry-pi-4, raspberry-pi-zero-2-w, virtualbox, vmware]:NAME: ' \
        '--host-name=[its name (default\: nixos)]:NAME: ' \
        '--user=[who logs in (default\: you)]:NAME: ' \
        '*--key=[public SSH key, or its file (default\: ~/.ssh/*.pub; repeatable)]:KEY|FILE:_files' \
        '--time-zone=[default\: this computer'\''s]:ZONE: ' \
        '--locale=[de_DE.UTF-8]:NAME: ' \
        '--keymap=[de-latin1]:NAME: ' \
        '--wifi-ssid=[]:NAME: ' \
        '--wifi-country=[]:XX: ' \
        '--wifi-password-file=[]:FILE:_files' \
        '*--service=[a service that the image runs (repeatable)\: adguard-home, caddy, cockpit, docker, home-assistant, jellyfin, k3s, mdns, mosquitto, nginx, node-exporter, podman, postgresql, ssh, syncthing, tailscale]:NAME: ' \
        '--nix[write a NixOS module with comments instead]' \
        '-o+[default\: this folder]:DIR:_files -/' \
        '--out=[default\: this folder]:DIR:_files -/'
      ;;
    kit)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '*--with=[what the demo needs for this system (default\: the one foreign to this host); what a recent result, which ./run.sh store names, is and was built of; a configuration (a .nix file, an appliance.toml, the folder of a flake with #NAME)\: it is built, and goes with its sources and nixpkgs; the image of the test suite; repeatable]:SYSTEM|NAME|CONFIGURATION|tests: ' \
        '--sign-key=[sign the kit with this private SSH key]:FILE:_files' \
        '--force[replace FILE]' \
        '*--image=[only this image of the file (repeatable)]:NAME: ' \
        '*-f+[image format (./run.sh formats)]:NAME: ' \
        '*--format=[image format (./run.sh formats)]:NAME: ' \
        '*--format-path=[]:FILE:_files' \
        '*--system=[target system (default\: the host'\''s if the format supports it)]:VALUE:(aarch64-linux armv7l-linux i686-linux riscv64-linux x86_64-linux)' \
        '--root-fs=[]:VALUE:(ext4 btrfs xfs erofs f2fs)' \
        '--allow-no-login[allow an image that nobody can log in to]' \
        '--ignore-hardware[leave out the disks of hardware-configuration.nix]' \
        '--nixpkgs=[nixpkgs to use, also for a flake'\''s input of that name (default\: NIX_PATH'\''s, else the pinned one; a flake'\''s own)]:PATH|REF:_files' \
        '*--override-input[use another tree for one of the flake'\''s inputs]:NAME: :PATH|REF:_files' \
        '*-I+[entry of Nix'\'' search path; nixos-config=FILE is the configuration]:NAME=PATH|REF: ' \
        '*--option[set a Nix option]:NAME: :VALUE: ' \
        '--nix-conf=[nix.conf lines to add, for example access tokens]:FILE:_files' \
        '*--special-arg[an argument that the configuration'\''s modules may take (specialArgs), a text]:NAME: :VALUE: ' \
        '*--substituter=[binary cache to ask, too; repeatable]:URL: ' \
        '*--trusted-public-key=[what such a cache has may be signed with this key; repeatable]:KEY: ' \
        '--cores=[CPU cores per derivation]:N: ' \
        '--show-trace[with an error of the evaluation, tell each expression that led there]' \
        '--public-key=[refuse the kit unless this SSH key has signed it]:FILE:_files' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]' \
        '*:action:(export import)'
      ;;
    pins)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--update[renew the locks of this checkout and print the changes]' \
        '--installed[print the Debian packages of this project'\''s container images instead]' \
        '--advisories[print the vulnerabilities of these packages, by Debian'\''s security tracker; exit code 16 if newer versions fix one]' \
        '--tracker=[address of the tracker'\''s data, for --advisories (default\: https\://security-tracker.debian.org/tracker/data/json)]:URL: ' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]'
      ;;
    store)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--keep=[let go of all but the N newest results]:N: ' \
        '--older-than=[let go of results older than 30d, 12h, 2w]:AGE: ' \
        '--max-size=[let go of the oldest results until the others have at most 500M, 20G]:SIZE: ' \
        '--repair[fetch or build again what has changed]' \
        '*--substituter=[binary cache to ask, too; repeatable]:URL: ' \
        '*--trusted-public-key=[what such a cache has may be signed with this key; repeatable]:KEY: ' \
        '--json[list as JSON, for programs]' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]' \
        '*:action:(list gc verify optimise)'
      ;;
    test)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '*:PYTEST ARGUMENT:_files'
      ;;
    verify)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--key=[public SSH key that must have signed it]:FILE:_files' \
        '--allowed-signers=[allowed signers, in ssh-keygen(1)'\''s file format]:FILE:_files' \
        '*:IMAGE:_files'
      ;;
    version)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]'
      ;;
    worker)
      _arguments \
        '-h[show this help message and exit]' \
        '--help[show this help message and exit]' \
        '--listen=[address of the engine'\''s host (default\: 127.0.0.1, which no other computer reaches)]:ADDRESS: ' \
        '--port=[TCP port (default\: 2222)]:N: ' \
        '*--authorized-key=[public keys that may build here (repeatable; default\: ~/.ssh/*.pub)]:FILE:_files' \
        '--jobs=[builds at a time (default\: the number of CPUs)]:N: ' \
        '--progress=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '--log-format=[how progress is shown (default\: live on a terminal, else plain lines)]:VALUE:(auto plain live json)' \
        '-q[say only warnings, errors and results]' \
        '--quiet[say only warnings, errors and results]' \
        '-v[show the log lines of builds, too]' \
        '--verbose[show the log lines of builds, too]' \
        '*:action:(start status stop)'
      ;;
  esac
}

compdef _nixos_image run.sh
