# What the image spec has of the boot loader Limine (orchestrator/shared/spec.py): the texts of limine.conf are those that NixOS' own
# limine-install.py writes.
{ lib, config, pkgs, store }:
let
  from = config.boot.loader.limine;
  inherit (pkgs.stdenv.hostPlatform) efiArch;
  inherit (from) style;
  terminal = style.graphicalTerminal;

  text = value: if lib.isBool value then (if value then "yes" else "no") else toString value;
  line = name: value: lib.optionalString (value != null) "${name}: ${text value}\n";

  # The stages for a BIOS name their place on the disk, so Limine's own program writes them to a disk like the image's: layout.py has
  # the BIOS boot partition there. Then they are cut out.
  bios = pkgs.runCommand "limine-bios" { } ''
    truncate --size 4M disk
    echo '2 : start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649' | ${pkgs.util-linux}/bin/sfdisk --quiet --label gpt disk
    ${from.package}/bin/limine bios-install disk 2
    mkdir $out
    head --bytes 440 disk > $out/mbr
    dd if=disk of=$out/stage2 bs=1M skip=1 count=1 status=none
    cp ${from.package}/share/limine/limine-bios.sys $out/
  '';
in
lib.optionalAttrs from.efiSupport { program = "${from.package}/share/limine/BOOT${lib.toUpper efiArch}.EFI"; }
  // lib.optionalAttrs from.biosSupport { bios = toString bios; }
  // lib.optionalAttrs (! from.validateChecksums) { checksums = false; }
  // lib.optionalAttrs from.panicOnChecksumMismatch { panic = true; }
  // lib.optionalAttrs (from.resolution or null != null) { inherit (from) resolution; }
  // {
  head = from.extraConfig;
  entries = from.extraEntries;
  wallpapers = map store style.wallpapers;
  files = lib.mapAttrs (_: store) from.additionalFiles;
  # Older releases have fewer of these.
  style = line "wallpaper_style" style.wallpaperStyle
    + line "backdrop" style.backdrop
    + line "interface_resolution" style.interface.resolution
    + line "interface_branding" style.interface.branding
    + line "interface_branding_colour" (style.interface.brandingColor or null)
    + line "interface_help_colour" (style.interface.helpColor or null)
    + line "interface_help_colour_bright" (style.interface.helpColorBright or null)
    + line "interface_help_hidden" (style.interface.helpHidden or null)
    + line "term_font_scale" terminal.font.scale
    + line "term_font_spacing" terminal.font.spacing
    + line "term_palette" terminal.palette
    + line "term_palette_bright" terminal.brightPalette
    + line "term_foreground" terminal.foreground
    + line "term_background" terminal.background
    + line "term_foreground_bright" terminal.brightForeground
    + line "term_background_bright" terminal.brightBackground
    + line "term_margin" terminal.margin
    + line "term_margin_gradient" terminal.marginGradient;
}
