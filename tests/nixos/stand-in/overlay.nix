# What is not one package with a source.
final: prev:
let
  package = pname: version: attributes: final.stdenv.mkDerivation ({ inherit pname version; src = null; } // attributes);
in
{
  # nixpkgs' Nix is twenty components.
  nix = package "nix" "2.26.3" { outputs = [ "out" "man" ]; };
  # Written in Haskell, whose packages are not in every tree.
  shellcheck = package "shellcheck" "0" { passthru.compiler.bootstrapAvailable = false; };
  shellcheck-minimal = final.shellcheck;
  perl = prev.perl // { withPackages = _: final.perl; };

  # The security wrappers are linked statically against musl; and there is one compiler.
  pkgsStatic = final;
  wrapCCWith = _: final.stdenv.cc;
  wrapBintoolsWith = _: final.stdenv.cc.bintools;
  makeBinaryWrapper = final.makeShellWrapper;

  # Asked for one header of glibc's sources.
  srcOnly = _: final.runCommand "unsecvars" { } ''
    mkdir $out
    printf '#define UNSECURE_ENVVARS "LD_LIBRARY_PATH\\0" "LD_PRELOAD\\0" "LD_AUDIT\\0" "GCONV_PATH\\0"\n' > $out/unsecvars.h
  '';
}
