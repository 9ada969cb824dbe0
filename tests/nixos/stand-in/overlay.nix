# Stand-ins for packages that nixpkgs does not make from a single source.
final: prev:
let
  inherit (final) lib;
  package = pname: version: attributes: final.stdenv.mkDerivation ({ inherit pname version; src = null; } // attributes);
in
{
  # nixpkgs splits Nix into twenty components.
  nix = package "nix" "2.26.3" { outputs = [ "out" "man" ]; };
  # shellcheck is a Haskell program: the packages that it needs are missing in some nixpkgs trees.
  shellcheck = package "shellcheck" "0" { passthru.compiler.bootstrapAvailable = false; };
  shellcheck-minimal = final.shellcheck;
  perl = prev.perl // { withPackages = _: final.perl; };

  # nixpkgs links the security wrappers statically with musl; here there is only one compiler.
  pkgsStatic = final;
  wrapCCWith = _: final.stdenv.cc;
  wrapBintoolsWith = _: final.stdenv.cc.bintools;
  makeBinaryWrapper = final.makeShellWrapper;

  # The virtual machine of builds: its first programs are busybox' alone, which cannot load compressed modules, and Debian's modprobe
  # does not read MODULE_DIR.
  vmTools =
    let
      modules = final.runCommand "modules" { } ''
        mkdir $out
        cp -r --no-preserve=mode ${lib.getOutput "modules" final.linux}/lib $out/
        find $out -name '*.ko.xz' -exec xz -d {} +
        ${final.kmod}/bin/depmod -b $out ${final.linux.modDirVersion}
      '';
    in
    prev.vmTools.override {
      busybox = final.runCommand "busybox-applets" { } ''
        mkdir -p $out/bin
        cp ${final.busybox}/bin/busybox $out/bin/
        for applet in $($out/bin/busybox --list); do
          [ "$applet" = busybox ] || [ "$applet" = modprobe ] || ln -s busybox $out/bin/$applet
        done
      '';
      kmod = final.writeShellScriptBin "modprobe" ''exec ${final.kmod}/bin/modprobe -d ${modules} "$@"'';
      kernelModules = modules;
    };

  # srcOnly is only used for one header of glibc's sources: make that.
  srcOnly = _: final.runCommand "unsecvars" { } ''
    mkdir $out
    printf '#define UNSECURE_ENVVARS "LD_LIBRARY_PATH\\0" "LD_PRELOAD\\0" "LD_AUDIT\\0" "GCONV_PATH\\0"\n' > $out/unsecvars.h
  '';
}
