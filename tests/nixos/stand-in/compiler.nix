# C compiler for the security wrappers: a small compiler for the target, with GCC's attributes in nixpkgs.
{ lib, debian, system }:
let
  loader = { x86_64-linux = "ld-linux-x86-64.so.2"; aarch64-linux = "ld-linux-aarch64.so.1"; armv7l-linux = "ld-linux-armhf.so.3"; i686-linux = "ld-linux.so.2"; riscv64-linux = "ld-linux-riscv64-lp64d.so.1"; }.${system};
  libc = debian.libraries // { version = "2.41"; pname = "glibc"; bin = debian.libraries; dev = debian.libraries; };
  bintools = {
    isGNU = true;
    isLLVM = false;
    targetPrefix = "";
    dynamicLinker = "${debian.libraries}/lib/${loader}";
    inherit libc;
  };
in
derivation
  {
    name = "compiler";
    inherit system;
    builder = "${debian.tools}/bin/bash";
    args = [ "-e" (if debian.has "tcc" then ./compiler.sh else ./no-compiler.sh) ];
    inherit (debian) tools libraries machine;
    unpack = ./unpack.sh;
    debs = debian.debs [ "tcc" "libc6-dev" "linux-libc-dev" ];
  } // {
  inherit libc bintools;
  version = "14";
  isGNU = true;
  isClang = false;
  targetPrefix = "";
  cc = { isGNU = true; isClang = false; pname = "gcc"; version = "14"; lib = debian.libraries; };
}
