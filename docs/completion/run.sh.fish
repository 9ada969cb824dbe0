# Completion of ./run.sh for fish, made by `python3 -m orchestrator.manual`. To use it: source docs/completion/run.sh.fish

# Whether the verb is the given one; options without a verb belong to build.
function __nixos_image_verb
    set -l typed (commandline -opc)
    set -l verb build
    if set -q typed[2]; and not string match -q -- '-*' $typed[2]
        set verb $typed[2]
    end
    test "$verb" = $argv[1]
end

# Whether no verb and no option is there.
function __nixos_image_first
    test (count (commandline -opc)) = 1
end

# Whether the last word is the first value of the given option of the verb.
function __nixos_image_second
    set -l typed (commandline -opc)
    __nixos_image_verb $argv[1]; and set -q typed[4]; and test "$typed[-2]" = $argv[2]
end

complete -c run.sh -f
complete -c run.sh -n __nixos_image_first -a attach -d 'docker compose attach'
complete -c run.sh -n __nixos_image_first -a build -d 'build NixOS images: appliance.toml, -c FILE or --flake REF'
complete -c run.sh -n __nixos_image_first -a config -d 'docker compose config'
complete -c run.sh -n __nixos_image_first -a cp -d 'docker compose cp'
complete -c run.sh -n __nixos_image_first -a create -d 'docker compose create'
complete -c run.sh -n __nixos_image_first -a down -d 'docker compose down'
complete -c run.sh -n __nixos_image_first -a events -d 'docker compose events'
complete -c run.sh -n __nixos_image_first -a exec -d 'docker compose exec'
complete -c run.sh -n __nixos_image_first -a images -d 'push the container images, for others to pull'
complete -c run.sh -n __nixos_image_first -a kill -d 'docker compose kill'
complete -c run.sh -n __nixos_image_first -a logs -d 'docker compose logs'
complete -c run.sh -n __nixos_image_first -a ls -d 'docker compose ls'
complete -c run.sh -n __nixos_image_first -a pause -d 'docker compose pause'
complete -c run.sh -n __nixos_image_first -a port -d 'docker compose port'
complete -c run.sh -n __nixos_image_first -a ps -d 'docker compose ps'
complete -c run.sh -n __nixos_image_first -a pull -d 'docker compose pull'
complete -c run.sh -n __nixos_image_first -a push -d 'docker compose push'
complete -c run.sh -n __nixos_image_first -a restart -d 'docker compose restart'
complete -c run.sh -n __nixos_image_first -a rm -d 'docker compose rm'
complete -c run.sh -n __nixos_image_first -a run -d 'docker compose run'
complete -c run.sh -n __nixos_image_first -a scale -d 'docker compose scale'
complete -c run.sh -n __nixos_image_first -a start -d 'docker compose start'
complete -c run.sh -n __nixos_image_first -a stats -d 'docker compose stats'
complete -c run.sh -n __nixos_image_first -a stop -d 'docker compose stop'
complete -c run.sh -n __nixos_image_first -a top -d 'docker compose top'
complete -c run.sh -n __nixos_image_first -a unpause -d 'docker compose unpause'
complete -c run.sh -n __nixos_image_first -a up -d 'docker compose up'
complete -c run.sh -n __nixos_image_first -a version -d 'this project\'s version, main pins, and the engine\'s version'
complete -c run.sh -n __nixos_image_first -a wait -d 'docker compose wait'
complete -c run.sh -n __nixos_image_first -a watch -d 'docker compose watch'
complete -c run.sh -n __nixos_image_first -a boot -d 'boot an image on this terminal, or check that it boots'
complete -c run.sh -n __nixos_image_first -a cache -d 'a signed binary cache of what runs have built'
complete -c run.sh -n __nixos_image_first -a clean -d 'remove leftovers of dead runs, or of the store'
complete -c run.sh -n __nixos_image_first -a compose -d 'docker compose with any of its verbs'
complete -c run.sh -n __nixos_image_first -a demo -d 'build a small bootable system for another CPU, and boot it'
complete -c run.sh -n __nixos_image_first -a doctor -d 'what is wrong with this computer, Docker or the network, and why'
complete -c run.sh -n __nixos_image_first -a eject -d 'write an appliance.toml as plain Nix'
complete -c run.sh -n __nixos_image_first -a flash -d 'write an image to a card, and read it back'
complete -c run.sh -n __nixos_image_first -a formats -d 'the formats of NixOS images'
complete -c run.sh -n __nixos_image_first -a help -d 'print this overview, or the options of one verb'
complete -c run.sh -n __nixos_image_first -a init -d 'write an appliance.toml: describe an image without Nix'
complete -c run.sh -n __nixos_image_first -a kit -d 'all that a machine without a network needs, in a file'
complete -c run.sh -n __nixos_image_first -a pins -d 'pinned versions and hashes of all downloads'
complete -c run.sh -n __nixos_image_first -a store -d 'what the Nix store has, and what each result holds'
complete -c run.sh -n __nixos_image_first -a test -d 'run the test suite (--hosts: on simulated Docker hosts)'
complete -c run.sh -n __nixos_image_first -a verify -d 'check an image against its checksum, SBOM and signature'
complete -c run.sh -n __nixos_image_first -a worker -d 'build for other machines, in a container of its own'

# boot
complete -c run.sh -n '__nixos_image_verb boot' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb boot' -l test -d 'boot check without a terminal: wait until ready, log in by SSH'
complete -c run.sh -n '__nixos_image_verb boot' -l system -x -a 'aarch64-linux riscv64-linux x86_64-linux' -d 'system of the image (default: detected from it)'
complete -c run.sh -n '__nixos_image_verb boot' -l firmware -x -a 'uefi bios u-boot' -d 'firmware of the machine (default: the image\'s)'
complete -c run.sh -n '__nixos_image_verb boot' -l identity -r -F -d 'private key that the image already trusts, instead of a new one'
complete -c run.sh -n '__nixos_image_verb boot' -l user -x -d 'user who logs in (default: root; others need --identity)'
complete -c run.sh -n '__nixos_image_verb boot' -l seed -r -F -d 'second disk, raw or ISO, with cloud-init\'s seed'
complete -c run.sh -n '__nixos_image_verb boot' -l print-command -d 'print QEMU and libvirt commands that boot the image, boot nothing'
complete -c run.sh -n '__nixos_image_verb boot' -l run -x -d 'with --test: run the command in the guest and print its output'
complete -c run.sh -n '__nixos_image_verb boot' -l grow -x -d 'boot the copy on a larger disk'
complete -c run.sh -n '__nixos_image_verb boot' -l boot-timeout -x -d 'how long to wait until the image is ready (default: 300)'
complete -c run.sh -n '__nixos_image_verb boot' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb boot' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb boot' -s v -l verbose -d 'show the log lines of builds, too'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb boot' -F

# build
complete -c run.sh -n '__nixos_image_verb build' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb build' -l appliance -r -F -d 'file that describes images without Nix (default: ./appliance.toml if it exists)'
complete -c run.sh -n '__nixos_image_verb build' -l image -x -d 'only this image of the file (repeatable)'
complete -c run.sh -n '__nixos_image_verb build' -s c -l configuration -r -F -d 'file with a NixOS configuration'
complete -c run.sh -n '__nixos_image_verb build' -l flake -r -F -d 'a flake\'s NixOS configuration: one of nixosConfigurations, or an attribute path (default: the one of this computer\'s name, or the only one)'
complete -c run.sh -n '__nixos_image_verb build' -l nixpkgs -r -F -d 'nixpkgs to use, also for a flake\'s input of that name (default: NIX_PATH\'s, else the pinned one; a flake\'s own)'
complete -c run.sh -n '__nixos_image_verb build' -l override-input -x -d 'use another tree for one of the flake\'s inputs'
complete -c run.sh -n '__nixos_image_second build --override-input' -F
complete -c run.sh -n '__nixos_image_verb build' -s I -x -d 'entry of Nix\' search path; nixos-config=FILE is the configuration'
complete -c run.sh -n '__nixos_image_verb build' -s f -l format -x -a 'amazon azure cloudstack digital-ocean do docker gce google-compute hyperv install-iso install-iso-hyperv iso iso-installer kexec kexec-bundle kubevirt linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qcow qcow-efi qemu qemu-efi raw raw-efi sd-aarch64 sd-aarch64-installer sd-armv7l sd-card sd-riscv64 sd-x86_64 vagrant-virtualbox virtualbox vm vm-bootloader vm-nogui vmware' -d 'image format (./run.sh formats)'
complete -c run.sh -n '__nixos_image_verb build' -l format-path -r -F -d ''
complete -c run.sh -n '__nixos_image_verb build' -l system -x -a 'aarch64-linux armv7l-linux i686-linux riscv64-linux x86_64-linux' -d 'target system (default: the host\'s if the format supports it)'
complete -c run.sh -n '__nixos_image_verb build' -l root-fs -x -a 'ext4 btrfs xfs erofs f2fs' -d ''
complete -c run.sh -n '__nixos_image_verb build' -l allow-no-login -d 'allow an image that nobody can log in to'
complete -c run.sh -n '__nixos_image_verb build' -l ignore-hardware -d 'leave out the disks of hardware-configuration.nix'
complete -c run.sh -n '__nixos_image_verb build' -l list -d 'print the names of all formats'
complete -c run.sh -n '__nixos_image_verb build' -l option -x -d 'set a Nix option'
complete -c run.sh -n '__nixos_image_verb build' -l nix-conf -r -F -d 'nix.conf lines to add, for example access tokens'
complete -c run.sh -n '__nixos_image_verb build' -l special-arg -x -d ''
complete -c run.sh -n '__nixos_image_verb build' -l substituter -x -d ''
complete -c run.sh -n '__nixos_image_verb build' -l trusted-public-key -x -d ''
complete -c run.sh -n '__nixos_image_verb build' -l cores -x -d 'CPU cores per derivation'
complete -c run.sh -n '__nixos_image_verb build' -l show-trace -d ''
complete -c run.sh -n '__nixos_image_verb build' -l boot -d 'check that the first image boots'
complete -c run.sh -n '__nixos_image_verb build' -l run -d 'boot the first image on this terminal afterwards'
complete -c run.sh -n '__nixos_image_verb build' -s o -l out -l out-link -x -a '(__fish_complete_directories)' -d 'output folder, no link into a Nix store (default: ./out)'
complete -c run.sh -n '__nixos_image_verb build' -l force -d 'replace files there that no run of this project made'
complete -c run.sh -n '__nixos_image_verb build' -l emulation -x -a 'auto native private host shared' -d ''
complete -c run.sh -n '__nixos_image_verb build' -l qemu -x -d 'version of the emulators, one of those that ./run.sh version prints (default: the first); auto: if an emulator crashes, try the next version once'
complete -c run.sh -n '__nixos_image_verb build' -l locked -d 'fail if a pinned package is gone, do not use a newer version'
complete -c run.sh -n '__nixos_image_verb build' -l strict -d 'fail if Nix\' sandbox is not available, do not build without it'
complete -c run.sh -n '__nixos_image_verb build' -l dry-run -d 'print the plan and make nothing'
complete -c run.sh -n '__nixos_image_verb build' -l json -d 'with --dry-run: print the plan as JSON on stdout'
complete -c run.sh -n '__nixos_image_verb build' -l yes -d 'do not ask before a build that takes long or much disk'
complete -c run.sh -n '__nixos_image_verb build' -l debug-shell -d 'if a derivation fails, open a shell in its folder, with its variables'
complete -c run.sh -n '__nixos_image_verb build' -l memory -x -d 'memory limit of the builder (default: nine tenths of Docker\'s memory)'
complete -c run.sh -n '__nixos_image_verb build' -l sign -r -F -d 'sign the images\' checksums with this private SSH key'
complete -c run.sh -n '__nixos_image_verb build' -l emulation-timeout -x -d 'how long to wait until programs of another architecture run (default: 60)'
complete -c run.sh -n '__nixos_image_verb build' -l boot-timeout -x -d 'how long to wait until the image is ready (default: 300)'
complete -c run.sh -n '__nixos_image_verb build' -l timeout -x -d 'time limit of the whole run'
complete -c run.sh -n '__nixos_image_verb build' -l builders -r -F -d 'build on another machine, too: \'ssh-ng://USER@HOST SYSTEM KEY JOBS SPEED FEATURES - HOSTKEY\', as in /etc/nix/machines (repeatable)'
complete -c run.sh -n '__nixos_image_verb build' -l partition-table -x -a 'none legacy legacy+boot legacy+gpt efi efixbootldr hybrid sd-card' -d ''
complete -c run.sh -n '__nixos_image_verb build' -l disk-size -x -d 'size of the disk (default: the configuration\'s, else auto: what its content needs, and --additional-space)'
complete -c run.sh -n '__nixos_image_verb build' -l boot-size -x -d 'size of the boot partition; auto: three times what its first files need'
complete -c run.sh -n '__nixos_image_verb build' -l firmware-size -x -d 'size of an SD card\'s firmware partition'
complete -c run.sh -n '__nixos_image_verb build' -l additional-space -x -d 'free space in the root file system'
complete -c run.sh -n '__nixos_image_verb build' -l disk-format -x -a 'raw qcow2 qcow2-compressed vdi vpc vpc-fixed vhdx vmdk vagrant' -d ''
complete -c run.sh -n '__nixos_image_verb build' -l compress -x -a 'none zstd xz gz' -d ''
complete -c run.sh -n '__nixos_image_verb build' -l bmap -d 'write a block map for bmaptool'
complete -c run.sh -n '__nixos_image_verb build' -l check -d 'assemble each image twice and compare'
complete -c run.sh -n '__nixos_image_verb build' -l inject -r -F -d 'add a file to the root file system (default: mode 600, of root)'
complete -c run.sh -n '__nixos_image_verb build' -l host-name -x -d ''
complete -c run.sh -n '__nixos_image_verb build' -l wifi-ssid -x -d ''
complete -c run.sh -n '__nixos_image_verb build' -l wifi-password-file -r -F -d ''
complete -c run.sh -n '__nixos_image_verb build' -l stamp -r -F -d 'CSV file of devices (host, ssh_key, ...): one image per row'
complete -c run.sh -n '__nixos_image_verb build' -l identity-seed -r -F -d 'derive SSH host key, machine-id and serial number of each device from this secret'
complete -c run.sh -n '__nixos_image_verb build' -l secure-boot-key -r -F -d 'sign systemd-boot and the kernels for Secure Boot (PEM, without a passphrase)'
complete -c run.sh -n '__nixos_image_verb build' -l secure-boot-cert -r -F -d 'certificate of the --secure-boot-key (PEM)'
complete -c run.sh -n '__nixos_image_verb build' -l push -x -d 'copy what was built to a binary cache (http:, https:, s3:) or another machine\'s store (ssh-ng:); file: is the cache of ./run.sh cache'
complete -c run.sh -n '__nixos_image_verb build' -l sign-key -r -F -d 'sign it with this key (nix key generate-secret)'
complete -c run.sh -n '__nixos_image_verb build' -l push-credentials -r -F -d 'file with what the cache asks for: a netrc(5) file for http and https; an AWS credentials file (aws_access_key_id, aws_secret_access_key) for s3; a private SSH key for ssh-ng'
complete -c run.sh -n '__nixos_image_verb build' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb build' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb build' -s v -l verbose -d 'show the log lines of builds, too'

# cache
complete -c run.sh -n '__nixos_image_verb cache' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb cache' -l listen -x -d 'address of the engine\'s host (default: 127.0.0.1, which no other computer reaches)'
complete -c run.sh -n '__nixos_image_verb cache' -l port -x -d 'TCP port (default: 5000)'
complete -c run.sh -n '__nixos_image_verb cache' -l json -d 'info as JSON, for programs'
complete -c run.sh -n '__nixos_image_verb cache' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb cache' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb cache' -s v -l verbose -d 'show the log lines of builds, too'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb cache' -a 'info serve stop'

# clean
complete -c run.sh -n '__nixos_image_verb clean' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb clean' -l all -d 'end living runs, too, and remove what they have'
complete -c run.sh -n '__nixos_image_verb clean' -l store -d 'also remove from the Nix store what no recent image needs'
complete -c run.sh -n '__nixos_image_verb clean' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb clean' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb clean' -s v -l verbose -d 'show the log lines of builds, too'

# compose
complete -c run.sh -n '__nixos_image_verb compose' -s h -l help -d 'show this help message and exit'

# demo
complete -c run.sh -n '__nixos_image_verb demo' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb demo' -l system -x -a 'aarch64-linux riscv64-linux x86_64-linux' -d 'target system (default: the one foreign to this host)'
complete -c run.sh -n '__nixos_image_verb demo' -s f -l format -x -a 'qcow qcow-efi raw raw-efi sd-aarch64 sd-riscv64' -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l root-fs -x -a 'ext4 btrfs xfs erofs f2fs' -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l ssh-key -r -F -d 'public keys that may log in (default: ~/.ssh/*.pub)'
complete -c run.sh -n '__nixos_image_verb demo' -l substituter -x -d 'binary cache to ask'
complete -c run.sh -n '__nixos_image_verb demo' -l trusted-public-key -x -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l appliance -r -F -d 'file that describes images without Nix (default: ./appliance.toml if it exists)'
complete -c run.sh -n '__nixos_image_verb demo' -l image -x -d 'only this image of the file (repeatable)'
complete -c run.sh -n '__nixos_image_verb demo' -l no-boot -d 'do not boot the image afterwards'
complete -c run.sh -n '__nixos_image_verb demo' -s o -l out -l out-link -x -a '(__fish_complete_directories)' -d 'output folder, no link into a Nix store (default: ./out)'
complete -c run.sh -n '__nixos_image_verb demo' -l force -d 'replace files there that no run of this project made'
complete -c run.sh -n '__nixos_image_verb demo' -l emulation -x -a 'auto native private host shared' -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l qemu -x -d 'version of the emulators, one of those that ./run.sh version prints (default: the first); auto: if an emulator crashes, try the next version once'
complete -c run.sh -n '__nixos_image_verb demo' -l locked -d 'fail if a pinned package is gone, do not use a newer version'
complete -c run.sh -n '__nixos_image_verb demo' -l strict -d 'fail if Nix\' sandbox is not available, do not build without it'
complete -c run.sh -n '__nixos_image_verb demo' -l dry-run -d 'print the plan and make nothing'
complete -c run.sh -n '__nixos_image_verb demo' -l json -d 'with --dry-run: print the plan as JSON on stdout'
complete -c run.sh -n '__nixos_image_verb demo' -l yes -d 'do not ask before a build that takes long or much disk'
complete -c run.sh -n '__nixos_image_verb demo' -l debug-shell -d 'if a derivation fails, open a shell in its folder, with its variables'
complete -c run.sh -n '__nixos_image_verb demo' -l memory -x -d 'memory limit of the builder (default: nine tenths of Docker\'s memory)'
complete -c run.sh -n '__nixos_image_verb demo' -l sign -r -F -d 'sign the images\' checksums with this private SSH key'
complete -c run.sh -n '__nixos_image_verb demo' -l emulation-timeout -x -d 'how long to wait until programs of another architecture run (default: 60)'
complete -c run.sh -n '__nixos_image_verb demo' -l boot-timeout -x -d 'how long to wait until the image is ready (default: 300)'
complete -c run.sh -n '__nixos_image_verb demo' -l timeout -x -d 'time limit of the whole run'
complete -c run.sh -n '__nixos_image_verb demo' -l builders -r -F -d 'build on another machine, too: \'ssh-ng://USER@HOST SYSTEM KEY JOBS SPEED FEATURES - HOSTKEY\', as in /etc/nix/machines (repeatable)'
complete -c run.sh -n '__nixos_image_verb demo' -l partition-table -x -a 'none legacy legacy+boot legacy+gpt efi efixbootldr hybrid sd-card' -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l disk-size -x -d 'size of the disk (default: the configuration\'s, else auto: what its content needs, and --additional-space)'
complete -c run.sh -n '__nixos_image_verb demo' -l boot-size -x -d 'size of the boot partition; auto: three times what its first files need'
complete -c run.sh -n '__nixos_image_verb demo' -l firmware-size -x -d 'size of an SD card\'s firmware partition'
complete -c run.sh -n '__nixos_image_verb demo' -l additional-space -x -d 'free space in the root file system'
complete -c run.sh -n '__nixos_image_verb demo' -l disk-format -x -a 'raw qcow2 qcow2-compressed vdi vpc vpc-fixed vhdx vmdk vagrant' -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l compress -x -a 'none zstd xz gz' -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l bmap -d 'write a block map for bmaptool'
complete -c run.sh -n '__nixos_image_verb demo' -l check -d 'assemble each image twice and compare'
complete -c run.sh -n '__nixos_image_verb demo' -l inject -r -F -d 'add a file to the root file system (default: mode 600, of root)'
complete -c run.sh -n '__nixos_image_verb demo' -l host-name -x -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l wifi-ssid -x -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l wifi-password-file -r -F -d ''
complete -c run.sh -n '__nixos_image_verb demo' -l stamp -r -F -d 'CSV file of devices (host, ssh_key, ...): one image per row'
complete -c run.sh -n '__nixos_image_verb demo' -l identity-seed -r -F -d 'derive SSH host key, machine-id and serial number of each device from this secret'
complete -c run.sh -n '__nixos_image_verb demo' -l secure-boot-key -r -F -d 'sign systemd-boot and the kernels for Secure Boot (PEM, without a passphrase)'
complete -c run.sh -n '__nixos_image_verb demo' -l secure-boot-cert -r -F -d 'certificate of the --secure-boot-key (PEM)'
complete -c run.sh -n '__nixos_image_verb demo' -l push -x -d 'copy what was built to a binary cache (http:, https:, s3:) or another machine\'s store (ssh-ng:); file: is the cache of ./run.sh cache'
complete -c run.sh -n '__nixos_image_verb demo' -l sign-key -r -F -d 'sign it with this key (nix key generate-secret)'
complete -c run.sh -n '__nixos_image_verb demo' -l push-credentials -r -F -d 'file with what the cache asks for: a netrc(5) file for http and https; an AWS credentials file (aws_access_key_id, aws_secret_access_key) for s3; a private SSH key for ssh-ng'
complete -c run.sh -n '__nixos_image_verb demo' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb demo' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb demo' -s v -l verbose -d 'show the log lines of builds, too'

# doctor
complete -c run.sh -n '__nixos_image_verb doctor' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb doctor' -l json -d 'print JSON, for programs'
complete -c run.sh -n '__nixos_image_verb doctor' -l bundle -r -F -d 'also make an archive for a bug report: findings, versions, settings and the last logs, without secrets (default: nixos-image-doctor-TIME.tar.gz)'
complete -c run.sh -n '__nixos_image_verb doctor' -l privileges -d 'also print the privileges of each container'
complete -c run.sh -n '__nixos_image_verb doctor' -l system -x -a 'aarch64-linux riscv64-linux x86_64-linux' -d 'target system of the planned run'
complete -c run.sh -n '__nixos_image_verb doctor' -l emulation -x -a 'auto native private host shared' -d ''
complete -c run.sh -n '__nixos_image_verb doctor' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb doctor' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb doctor' -s v -l verbose -d 'show the log lines of builds, too'

# eject
complete -c run.sh -n '__nixos_image_verb eject' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb eject' -l appliance -r -F -d 'file that describes images without Nix (default: ./appliance.toml if it exists)'
complete -c run.sh -n '__nixos_image_verb eject' -l image -x -d 'only this image of the file (repeatable)'
complete -c run.sh -n '__nixos_image_verb eject' -s o -l out -x -a '(__fish_complete_directories)' -d 'where the files go (default: beside the appliance.toml)'
complete -c run.sh -n '__nixos_image_verb eject' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb eject' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb eject' -s v -l verbose -d 'show the log lines of builds, too'

# flash
complete -c run.sh -n '__nixos_image_verb flash' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb flash' -l dry-run -d 'check everything, say what would be written where'
complete -c run.sh -n '__nixos_image_verb flash' -l yes -d 'ask nothing; needed for disks inside this computer, and without a terminal'
complete -c run.sh -n '__nixos_image_verb flash' -l no-verify -d 'do not read the disk back and compare'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb flash' -F

# formats
complete -c run.sh -n '__nixos_image_verb formats' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb formats' -a 'amazon azure cloudstack digital-ocean do docker gce google-compute hyperv install-iso install-iso-hyperv iso iso-installer kexec kexec-bundle kubevirt linode lxc lxc-metadata oci openstack openstack-zfs proxmox proxmox-lxc qcow qcow-efi qemu qemu-efi raw raw-efi sd-aarch64 sd-aarch64-installer sd-armv7l sd-card sd-riscv64 sd-x86_64 vagrant-virtualbox virtualbox vm vm-bootloader vm-nogui vmware'

# help
complete -c run.sh -n '__nixos_image_verb help' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb help' -a 'boot build cache clean compose demo doctor eject flash formats help images init kit pins store test verify version worker'

# images
complete -c run.sh -n '__nixos_image_verb images' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb images' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb images' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb images' -s v -l verbose -d 'show the log lines of builds, too'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb images' -a 'push'

# init
complete -c run.sh -n '__nixos_image_verb init' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb init' -l board -x -d 'the machine: arm-board, arm-uefi, aws, azure, digital-ocean, google-cloud, hyper-v, openstack, oracle-cloud, pc, pc-bios, proxmox, qemu, raspberry-pi-3, raspberry-pi-4, raspberry-pi-zero-2-w, virtualbox, vmware'
complete -c run.sh -n '__nixos_image_verb init' -l host-name -x -d 'its name (default: nixos)'
complete -c run.sh -n '__nixos_image_verb init' -l user -x -d 'who logs in (default: you)'
complete -c run.sh -n '__nixos_image_verb init' -l key -r -F -d 'public SSH key, or its file (default: ~/.ssh/*.pub; repeatable)'
complete -c run.sh -n '__nixos_image_verb init' -l time-zone -x -d 'default: this computer\'s'
complete -c run.sh -n '__nixos_image_verb init' -l locale -x -d 'de_DE.UTF-8'
complete -c run.sh -n '__nixos_image_verb init' -l keymap -x -d 'de-latin1'
complete -c run.sh -n '__nixos_image_verb init' -l wifi-ssid -x -d ''
complete -c run.sh -n '__nixos_image_verb init' -l wifi-country -x -d ''
complete -c run.sh -n '__nixos_image_verb init' -l wifi-password-file -r -F -d ''
complete -c run.sh -n '__nixos_image_verb init' -l service -x -d 'a service that the image runs (repeatable): adguard-home, caddy, cockpit, docker, home-assistant, jellyfin, k3s, mdns, mosquitto, nginx, node-exporter, podman, postgresql, ssh, syncthing, tailscale'
complete -c run.sh -n '__nixos_image_verb init' -l nix -d 'write a NixOS module with comments instead'
complete -c run.sh -n '__nixos_image_verb init' -s o -l out -x -a '(__fish_complete_directories)' -d 'default: this folder'

# kit
complete -c run.sh -n '__nixos_image_verb kit' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb kit' -l with -x -d 'what the demo needs for this system (default: the one foreign to this host); what a recent result, which ./run.sh store names, is and was built of; the image of the test suite; repeatable'
complete -c run.sh -n '__nixos_image_verb kit' -l sign-key -r -F -d 'sign the kit with this private SSH key'
complete -c run.sh -n '__nixos_image_verb kit' -l force -d 'replace FILE'
complete -c run.sh -n '__nixos_image_verb kit' -l public-key -r -F -d 'refuse the kit unless this SSH key has signed it'
complete -c run.sh -n '__nixos_image_verb kit' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb kit' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb kit' -s v -l verbose -d 'show the log lines of builds, too'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb kit' -a 'export import'

# pins
complete -c run.sh -n '__nixos_image_verb pins' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb pins' -l update -d 'renew the locks of this checkout and print the changes'
complete -c run.sh -n '__nixos_image_verb pins' -l installed -d 'print the Debian packages of this project\'s container images instead'
complete -c run.sh -n '__nixos_image_verb pins' -l advisories -d 'print the vulnerabilities of these packages, by Debian\'s security tracker; exit code 16 if newer versions fix one'
complete -c run.sh -n '__nixos_image_verb pins' -l tracker -x -d 'address of the tracker\'s data, for --advisories (default: https://security-tracker.debian.org/tracker/data/json)'
complete -c run.sh -n '__nixos_image_verb pins' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb pins' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb pins' -s v -l verbose -d 'show the log lines of builds, too'

# store
complete -c run.sh -n '__nixos_image_verb store' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb store' -l keep -x -d 'let go of all but the N newest results'
complete -c run.sh -n '__nixos_image_verb store' -l older-than -x -d 'let go of results older than 30d, 12h, 2w'
complete -c run.sh -n '__nixos_image_verb store' -l max-size -x -d 'let go of the oldest results until the others have at most 500M, 20G'
complete -c run.sh -n '__nixos_image_verb store' -l repair -d 'fetch or build again what has changed'
complete -c run.sh -n '__nixos_image_verb store' -l substituter -x -d 'fetch from there, too'
complete -c run.sh -n '__nixos_image_verb store' -l trusted-public-key -x -d ''
complete -c run.sh -n '__nixos_image_verb store' -l json -d 'list as JSON, for programs'
complete -c run.sh -n '__nixos_image_verb store' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb store' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb store' -s v -l verbose -d 'show the log lines of builds, too'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb store' -a 'list gc verify optimise'

# test
complete -c run.sh -n '__nixos_image_verb test' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb test' -F

# verify
complete -c run.sh -n '__nixos_image_verb verify' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb verify' -l key -r -F -d 'public SSH key that must have signed it'
complete -c run.sh -n '__nixos_image_verb verify' -l allowed-signers -r -F -d 'allowed signers, in ssh-keygen(1)\'s file format'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb verify' -F

# version
complete -c run.sh -n '__nixos_image_verb version' -s h -l help -d 'show this help message and exit'

# worker
complete -c run.sh -n '__nixos_image_verb worker' -s h -l help -d 'show this help message and exit'
complete -c run.sh -n '__nixos_image_verb worker' -l listen -x -d 'address of the engine\'s host (default: 127.0.0.1, which no other computer reaches)'
complete -c run.sh -n '__nixos_image_verb worker' -l port -x -d 'TCP port (default: 2222)'
complete -c run.sh -n '__nixos_image_verb worker' -l authorized-key -r -F -d 'public keys that may build here (repeatable; default: ~/.ssh/*.pub)'
complete -c run.sh -n '__nixos_image_verb worker' -l jobs -x -d 'builds at a time (default: the number of CPUs)'
complete -c run.sh -n '__nixos_image_verb worker' -l progress -l log-format -x -a 'auto plain live json' -d 'how progress is shown (default: live on a terminal, else plain lines)'
complete -c run.sh -n '__nixos_image_verb worker' -s q -l quiet -d 'say only warnings, errors and results'
complete -c run.sh -n '__nixos_image_verb worker' -s v -l verbose -d 'show the log lines of builds, too'
complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb worker' -a 'start status stop'
