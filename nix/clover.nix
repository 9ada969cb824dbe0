# Clover's files for the assembler: three boot stages, and the EFI folder with virtio drivers enabled.
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

  # Ignore case: the ISO's names are in upper or lower case, depending on the program that unpacks it.
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
