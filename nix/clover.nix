# Clover as the assembler wants it: its three boot stages, and its EFI folder with the drivers for virtio disks.
{ buildPkgs, url, hash }:
buildPkgs.runCommand "clover"
{
  archive = buildPkgs.fetchurl { inherit url hash; };
  nativeBuildInputs = [ buildPkgs.libarchive ];
} ''
  bsdtar -xf $archive
  mkdir iso $out
  bsdtar -xf "$(find . -iname 'Clover-*.iso' | head -n 1)" -C iso
  chmod -R u+w iso

  # Names on the ISO come in capitals or not, as the reader likes.
  only() { find iso -ipath "iso/$1" | head -n 1; }
  for stage in boot0ss boot1f32 x64/boot7; do
    cp "$(only "usr/standalone/i386/$stage")" $out/''${stage##*/}
  done
  cp -r "$(only efi/clover)" $out/CLOVER
  for driver in VirtioFsDxe VirtioBlkDxe; do
    for kind in bios uefi; do
      mkdir -p $out/CLOVER/drivers/$kind
      cp "$(only "efi/clover/drivers/off/$driver.efi")" $out/CLOVER/drivers/$kind/$driver.efi
    done
  done
''
