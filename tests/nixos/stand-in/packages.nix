# Maps nixpkgs' pname to the Debian packages of its stand-in ("kernel" means the package that linux-image-cloud-<arch> depends
# on). fixups.nix may change a stand-in. A package without an entry fails to build.
{
  debian = {
    acl = [ "acl" ];
    attr = [ "attr" ];
    bash = [ "bash" ];
    bash-interactive = [ "bash" ];
    btrfs-progs = [ "btrfs-progs" ];
    bzip2 = [ "bzip2" ];
    busybox = [ "busybox" ];
    cloud-init = [
      "cloud-init" "python3.13" "python3.13-minimal" "libpython3.13-minimal" "libpython3.13-stdlib" "python3-attr" "python3-bcrypt"
      "python3-certifi" "python3-cffi-backend" "python3-charset-normalizer" "python3-configobj" "python3-cryptography" "python3-idna"
      "python3-jinja2" "python3-json-pointer" "python3-jsonpatch" "python3-jsonschema" "python3-jsonschema-specifications"
      "python3-jwt" "python3-markupsafe" "python3-oauthlib" "python3-referencing" "python3-requests" "python3-rpds-py"
      "python3-urllib3" "python3-yaml"
    ];
    cloud-utils = [ "cloud-guest-utils" ];
    coreutils = [ "coreutils" ];
    coreutils-full = [ "coreutils" ];
    cpio = [ "cpio" ];
    curl = [ "curl" ];
    dash = [ "dash" ];
    dbus = [ "dbus" "dbus-user-session" "dbus-bin" "dbus-daemon" "dbus-system-bus-common" "dbus-session-bus-common" ];
    dbus-broker = [ "dbus-broker" ];
    dhcpcd = [ "dhcpcd-base" ];
    diffutils = [ "diffutils" ];
    dosfstools = [ "dosfstools" ];
    e2fsprogs = [ "e2fsprogs" "logsave" ];
    findutils = [ "findutils" ];
    gawk = [ "gawk" ];
    glibc-nolibgcc = [ "libc-bin" ];
    gnugrep = [ "grep" ];
    gnused = [ "sed" ];
    gnutar = [ "tar" ];
    gptfdisk = [ "gdisk" ];
    grub = [ "grub-pc-bin" "grub-efi-amd64-bin" "grub-common" "grub2-common" ];
    gzip = [ "gzip" ];
    hostname-debian = [ "hostname" ];
    iana-etc = [ "netbase" ];
    iproute2 = [ "iproute2" ];
    iputils = [ "iputils-ping" ];
    jq = [ "jq" ];
    kbd = [ "kbd" ];
    kexec-tools = [ "kexec-tools" ];
    kmod = [ "kmod" ];
    less = [ "less" ];
    libcap = [ "libcap2-bin" ];
    libxslt = [ "xsltproc" ];
    libfaketime = [ "faketime" "libfaketime" ];
    libisoburn = [ "xorriso" ];
    linux = [ "kernel" ];
    linux-config = [ "kernel" ];
    linux-headers = [ "linux-libc-dev" "libc6-dev" ];
    linux-pam = [ "libpam-modules" "libpam-modules-bin" ];
    logrotate = [ "logrotate" ];
    mdadm = [ "mdadm" ];
    mtools = [ "mtools" ];
    nano = [ "nano" ];
    ncurses = [ "ncurses-bin" "ncurses-base" ];
    net-tools = [ "net-tools" "hostname" ];
    nix = [ "nix-bin" "nix-setup-systemd" ];
    nss-cacert = [ "ca-certificates" ];
    openresolv = [ "openresolv" ];
    OVMF = [ "ovmf" ];
    openssh = [ "openssh-client" "openssh-server" "openssh-sftp-server" ];
    parted = [ "parted" ];
    patch = [ "patch" ];
    perl = [
      "bash" "perl" "perl-base" "perl-modules-5.40" "libperl5.40" "libfile-copy-recursive-perl" "libfile-slurp-perl" "libjson-perl"
      "liblist-compare-perl" "libxml-libxml-perl" "libxml-namespacesupport-perl" "libxml-sax-base-perl" "libxml-sax-perl"
    ];
    pixz = [ "pixz" ];
    procps = [ "procps" ];
    python3 = [ "python3.13" "python3.13-minimal" "libpython3.13-minimal" "libpython3.13-stdlib" ];
    qemu-host-cpu-only = [ "qemu-guest-agent" "qemu-system-x86" "qemu-system-common" "qemu-system-data" "seabios" "ipxe-qemu" "qemu-utils" ];
    qemu-utils = [ "qemu-utils" ];
    rsync = [ "rsync" ];
    shadow = [ "passwd" "login" "login.defs" "uidmap" "util-linux" ];
    squashfs = [ "squashfs-tools" ];
    syslinux = [ "isolinux" "syslinux-common" "syslinux-utils" ];
    systemd = [
      "systemd" "systemd-sysv" "udev" "systemd-boot-efi" "systemd-boot-tools" "systemd-timesyncd" "systemd-resolved" "systemd-repart"
      "libpam-systemd" "libnss-myhostname"
    ];
    systemd-minimal = [ "systemd" "systemd-sysv" "udev" ];
    tzdata = [ "tzdata" "tzdata-legacy" ];
    util-linux = [ "util-linux" "util-linux-extra" "bsdutils" "bsdextrautils" "mount" "fdisk" "eject" "login" "lastlog2" ];
    util-linux-minimal = [ "util-linux" "util-linux-extra" "bsdutils" "bsdextrautils" "mount" "fdisk" "eject" "login" "lastlog2" ];
    virtiofsd = [ "virtiofsd" ];
    which = [ "debianutils" ];
    xz = [ "xz-utils" ];
    zstd = [ "zstd" ];
  };

  # Packages of nixpkgs that empty folders replace, because no test runs them.
  empty = [
    "amazon-ec2-utils" "amazon-ssm-agent" "bash-completion" "bind" "brotli" "ccrypt" "cifs-utils" "cryptsetup" "ddrescue"
    "distrobuilder-nixos-generator" "do-agent" "efibootmgr" "efivar" "ena" "f2fs-tools" "file" "fuse" "git" "glibc-locales"
    "gnupg" "google-guest-configs" "google-guest-oslogin" "guest-agent" "hdparm" "hicolor-icon-theme" "hyperv-daemons-bin"
    "inetutils" "iptables" "libfido2" "libressl" "lsof" "lzip" "man-db" "mkpasswd" "mktemp" "modemmanager" "mpack" "ms-sys"
    "mtr" "networkmanager" "nfs-utils" "nix-bash-completions" "nix-info" "nixos-option" "nixos-rebuild-ng" "nixos-render-docs"
    "ntfs3g" "nvme-cli" "open-vm-tools" "openssl" "pciutils" "polkit" "screen" "sdparm" "sg3_utils" "shellcheck" "smartmontools"
    "socat" "sound-theme-freedesktop" "sshfs-fuse" "strace" "sysstat" "tcpdump" "testdisk" "time" "tpm2-tss" "unzip" "usbutils"
    "vim" "w3m" "waagent" "wget" "xauth" "xfsprogs" "zip"
  ];

  # Tools that builders run, for the build machine's architecture.
  tools = [
    "bash" "bzip2" "coreutils" "cpio" "diffutils" "dpkg" "findutils" "gawk" "grep" "gzip" "kmod" "patch" "patchelf" "sed" "tar" "tcc"
    "xz-utils" "zstd" "python3.13-minimal" "libpython3.13-minimal" "python3.13" "libpython3.13-stdlib" "libc6-dev" "linux-libc-dev"
  ];

  # Debian packages that conflict with others of the table: apt resolves them separately.
  alone = [ "openresolv" ];

  # Packages that only PCs have: their boot loaders, firmware and QEMU.
  pc = {
    of = [ "amd64" "i386" ];
    packages = [
      "grub-pc-bin" "grub-efi-amd64-bin" "grub2-common" "isolinux" "syslinux-common" "syslinux-utils" "ovmf" "qemu-system-x86"
      "seabios" "ipxe-qemu"
    ];
  };
  # Packages that Debian does not have for an architecture.
  absent.armhf = [ "virtiofsd" ];
  absent.i386 = [ "qemu-system-x86" "seabios" "ipxe-qemu" "virtiofsd" ];
  absent.riscv64 = [ "kexec-tools" "tcc" ];
}
