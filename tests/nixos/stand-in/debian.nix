# Debian packages as store paths: libraries for a system, and tools for the build machine.
{ lib, system, buildSystem ? builtins.currentSystem }:
let
  table = import ./packages.nix;
  pins = (builtins.fromJSON (builtins.readFile ./debian.json)).packages;
  named = table.tools ++ lib.concatLists (lib.attrValues table.debian);

  archOf = system: { x86_64-linux = "amd64"; aarch64-linux = "arm64"; armv7l-linux = "armhf"; i686-linux = "i386"; riscv64-linux = "riscv64"; }.${system} or (throw "there are no stand-ins for ${system}");
  machineOf = system: {
    armv7l-linux = "arm-linux-gnueabihf";
    i686-linux = "i386-linux-gnu";
  }.${system} or "${system}-gnu";
  debOf = arch: role: ./debs + "/${arch}/${role}.deb";
  has = arch: role: pins ? ${role}.${arch};

  # These derivations come first, so the builder's image provides their bash.
  build = name: attributes: derivation ({
    inherit name;
    system = buildSystem;
    builder = "/bin/bash";
    unpack = ./unpack.sh;
  } // attributes);

  librariesOf = system:
    let
      arch = archOf system;
      isLibrary = role: has arch role && ! lib.elem role named;
    in
    build "debian-libraries-${arch}" {
      args = [ "-e" ./libraries.sh ];
      machine = machineOf system;
      debs = map (debOf arch) (lib.filter isLibrary (lib.attrNames pins));
    };
in
{
  libraries = librariesOf system;
  machine = machineOf system;
  tools = build "debian-tools" {
    args = [ "-e" ./tools.sh ];
    machine = machineOf buildSystem;
    libraries = librariesOf buildSystem;
    debs = map (debOf (archOf buildSystem)) table.tools;
  };
  has = has (archOf system);
  # Packages that Debian does not have for this architecture are skipped.
  debs = roles: map (debOf (archOf system)) (lib.filter (has (archOf system)) roles);
  kernelVersion =
    let package = pins.kernel.${archOf system}.package;
    in lib.removePrefix "linux-image-" package;
}
