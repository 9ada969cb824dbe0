# What a configuration says of GRUB's menu (boot.loader.grub), for an image with GRUB alone. The assembler writes the image's menu of
# it (orchestrator/image/loaders/grub_menu.py), and the hook the menus that follow on the device (grub-menu.sh). Texts and their order
# are those of NixOS' own install-grub.pl.
{ config, lib, options, pkgs, ... }:
let
  grub = config.boot.loader.grub;
  given = name: options.boot.loader.grub.${name}.highestPrio < 1000;
  inherit (config.nixosImage) partitionTableType;

  # Folder of /boot, as GRUB finds it on the partition that it was started from.
  root = if partitionTableType == "legacy+boot" then "" else "/boot";

  # Users whose password is in a file have none in the image: declared.nix refuses them, and a default that is no number.
  users = lib.filterAttrs (_: user: user.hashedPassword != null || user.password != null) grub.users;
  passwordOf = name: user:
    if user.hashedPassword != null then "password_pbkdf2 ${name} ${user.hashedPassword}" else "password ${name} ${user.password}";

  # NixOS has a picture by default. A serial console does not show it, so only one that the configuration sets is shown.
  splash = if given "splashImage" then grub.splashImage else null;
  graphics = splash != null || grub.theme != null || options.boot.loader.grub.font.highestPrio < 1500;
  suffix = builtins.unsafeDiscardStringContext (lib.last (lib.splitString "." (toString splash)));
  font =
    if lib.hasSuffix ".pf2" (toString grub.font) then grub.font
    else
      pkgs.runCommand "grub-font-converted.pf2" { } ''
        ${pkgs.buildPackages.grub2}/bin/grub-mkfont ${grub.font} --output $out ${lib.optionalString (grub.fontSize != null) "--size ${toString grub.fontSize}"}
      '';
  hasFont = graphics && grub.font != null;

  head =
    lib.mapAttrsToList passwordOf users
    ++ lib.optional (users != { }) ''set superusers="${lib.concatStringsSep " " (lib.attrNames users)}"''
    ++ lib.optional (grub.default != "0" && builtins.match "[0-9]+" grub.default != null) "set default=${grub.default}"
    ++ lib.optional (grub.timeoutStyle != "menu") "set timeout_style=${grub.timeoutStyle}"
    ++ lib.optionals hasFont [
      "if loadfont ${root}/converted-font.pf2; then"
      "  set gfxmode=${grub.gfxmodeBios}"
      "  set gfxpayload=${grub.gfxpayloadBios}"
      "  terminal_output gfxterm serial"
      "fi"
    ]
    ++ lib.optionals (splash != null) (lib.optional (grub.backgroundColor != null) "background_color '${grub.backgroundColor}'" ++ [
      "if background_image --mode '${grub.splashMode}' ${root}/background.${suffix}; then"
      "  set color_normal=white/black"
      "  set color_highlight=black/white"
      "else"
      "  set menu_color_normal=cyan/blue"
      "  set menu_color_highlight=white/blue"
      "fi"
    ]);

  ended = text: if text == "" || lib.hasSuffix "\n" text then text else text + "\n";
  ofRoot = text: ended (lib.replaceStrings [ "@bootRoot@" ] [ root ] text);
  entries = ofRoot grub.extraEntries;
in
{
  _file = ./grub-settings.nix;

  options.nixosImage.grubMenu = lib.mkOption {
    type = lib.types.raw;
    internal = true;
    readOnly = true;
    description = "GRUB's menu beside the entries: what differs from the assembler's defaults, by the names of the image spec.";
  };

  config.assertions = lib.mapAttrsToList
    (name: user: {
      assertion = user.hashedPassword == null || lib.hasPrefix "grub.pbkdf2." user.hashedPassword;
      message = "boot.loader.grub.users.${name}.hashedPassword: is no hash of grub-mkpasswd-pbkdf2, which begin with grub.pbkdf2.";
    })
    grub.users;
  config.nixosImage.grubMenu = lib.filterAttrs (_: value: value != "" && value != { }) {
    head = lib.concatMapStrings (line: line + "\n") head;
    theme = lib.optionalString (grub.theme != null) "${grub.theme}";
    settings = ofRoot grub.extraConfig;
    perEntry = ended grub.extraPerEntryConfig;
    before = lib.optionalString grub.extraEntriesBeforeNixOS entries;
    after = lib.optionalString (! grub.extraEntriesBeforeNixOS) entries;
    files = lib.mapAttrs (_: file: "${file}") (grub.extraFiles
      // lib.optionalAttrs hasFont { "converted-font.pf2" = font; }
      // lib.optionalAttrs (splash != null) { "background.${suffix}" = splash; });
  }
  // lib.filterAttrs (_: value: value != "--class nixos --unrestricted") { entryOptions = toString grub.entryOptions; };
}
