#!/bin/sh
# Evaluates typical configurations and flakes with the product's own command: effects of options, and error messages of common
# mistakes. Nothing is built.
#
#   NIXPKGS=FOLDER tests/nixos/test_inputs.sh
. "$(dirname -- "$0")/../caller/lib.sh"
if [ -z "${NIXPKGS:-}" ]; then
  echo "skipped: NIXPKGS names no tree to evaluate"
  exit 0
fi
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
folder="$work/my machines"
mkdir -p "$folder"
cp "$project/tests/nixos/configuration.nix" "$folder"

# with NAME MODULE: makes a configuration of the tests' configuration and a module
with() {
  printf '%s\n' "{ ... }: { imports = [ ./configuration.nix ($2) ]; }" > "$folder/$1.nix"
}

# dry OPTIONS..., told OPTIONS...: a dry run, with events or as a person sees it; NIXPKGS is sent each time
dry() { "$project/run.sh" --dry-run --nixpkgs "$NIXPKGS" --log-format json "$@"; }
told() { "$project/run.sh" --dry-run --nixpkgs "$NIXPKGS" --log-format plain "$@"; }

# find_drv: sets $drv to the image's derivation in the last dry run
find_drv() { drv=$(sed -n 's/.*"derivation": "\([^"]*\)".*/\1/p' "$work/err" | head -n 1); }

# spec_of: prints the image spec that the last dry run has evaluated
spec_of() {
  find_drv
  docker run --rm --network none --volume nixos-image-store:/nix --entrypoint nix nixos-image-builder \
    --extra-experimental-features nix-command derivation show "$drv" \
    | python3 -c 'import json, sys; [print(one["env"]["spec"]) for one in json.load(sys.stdin)["derivations"].values()]'
}

# in_system PATTERN: whether a derivation of the last evaluated image matches
in_system() {
  docker run --rm --network none --volume nixos-image-store:/nix --entrypoint sh nixos-image-builder -c \
    'nix-store --query --requisites "$0" | grep "\.drv$" | xargs grep -lE -e "$1"' "$drv" "$1" | grep -q .
}

with plain '{ }'
expect "a configuration is evaluated" 0 '"plan"' dry -c "$folder/plain.nix" -f qcow-efi --system aarch64-linux
spec_of > "$work/plain"
with cloud '{ nixosImage.cloud.enable = true; }'
expect "a cloud's" 0 '"plan"' dry -c "$folder/cloud.nix" -f qcow-efi --system aarch64-linux
spec_of > "$work/cloud"
check "cloud-init is in its system" in_system 'datasource_list.*NoCloud.*ConfigDrive'
expect "UEFI emulation is on for x86_64" 0 '"plan"' dry -c "$folder/plain.nix" -f raw-efi --system x86_64-linux
spec_of > "$work/emulated"
check "by GRUB, which reads systemd-boot's entries" grep -q '"partitionTable":"hybrid".*' "$work/emulated"
with uefi '{ nixosImage.emulatedUEFI.enable = false; }'
expect "and can be turned off" 0 '"plan"' dry -c "$folder/uefi.nix" -f raw-efi --system x86_64-linux
spec_of > "$work/uefi"
check "then there is no GRUB" sh -c "grep -q '\"partitionTable\":\"efi\"' '$work/uefi' && ! grep -q grub '$work/uefi'"
expect "options of the disk reach the spec" 0 '"plan"' dry -c "$folder/plain.nix" -f raw-efi --system aarch64-linux --disk-size 8G \
  --boot-size 256M --root-fs btrfs --compress xz --disk-format vdi
spec_of > "$work/disk"
check "each of them" sh -c "grep -q '\"diskSizeMiB\":8192' '$work/disk' && grep -q '\"sizeMiB\":256' '$work/disk' \
  && grep -q '\"fsType\":\"btrfs\"' '$work/disk' && grep -q '\"compression\":\"xz\"' '$work/disk' && grep -q '\"diskFormat\":\"vdi\"' '$work/disk'"
mkdir "$work/windows" # images are named after the file
cp "$folder/configuration.nix" "$work/windows"
sed 's/$/\r/' "$folder/plain.nix" > "$work/windows/plain.nix"
expect "lines may end as on Windows" 0 '"plan"' dry -c "$work/windows/plain.nix" -f qcow-efi --system aarch64-linux
spec_of > "$work/crlf"
check "and mean the same" sh -c "test -s '$work/plain' && cmp -s '$work/plain' '$work/crlf'"

# From here on: options that nixos-generators has, too.
cat > "$folder/special.nix" << 'NIX'
{ site, ... }: { imports = [ ./configuration.nix ]; nixosImage.baseName = site; }
NIX
expect "special arguments reach the modules" 0 '"plan"' dry -c "$folder/special.nix" -f qcow-efi --special-arg site 'the moon' --system aarch64-linux
spec_of > "$work/special"
check "as they are" grep -q '"name":"the moon"' "$work/special"
expect "options of Nix reach Nix" 6 'max-call-depth' told -c "$folder/plain.nix" -f qcow-efi --option max-call-depth 20
cat > "$folder/card.nix" << 'NIX'
{ config, pkgs, ... }:
{
  formatAttr = "card";
  fileExtension = ".txt";
  system.build.card = pkgs.writeText "greeting-card" "from ${config.networking.hostName}";
  fileSystems."/".device = "/dev/null";
  boot.loader.grub.enable = false;
}
NIX
with host '{ networking.hostName = "mars"; }'
expect "a format of one's own is evaluated" 0 'card.*greeting-card' dry -c "$folder/host.nix" --format-path "$folder/card.nix" --system aarch64-linux
find_drv
check "with the configuration in it" in_system 'from mars'
printf '{ lib, ... }: { formatAttr = "none"; fileSystems."/".device = "/dev/null"; boot.loader.grub.enable = false; }\n' > "$folder/wrong.nix"
expect "one that makes nothing is told" 6 "attribute 'none' missing" told -c "$folder/host.nix" --format-path "$folder/wrong.nix"

# As formats of nixos-generators: with a module beside it, and the library beside its folder.
mkdir -p "$work/generators/formats"
cat > "$work/generators/formats/named.nix" << 'NIX'
{ config, lib, options, pkgs, ... }: {
  imports = [ ./base.nix ];
  system.build.named = (import ../lib.nix { inherit lib options; }).maybe.mkForce (pkgs.writeText "forced-${config.system.nixos.distroId}" "");
}
NIX
printf '{ pkgs, ... }: { formatAttr = "named"; system.build.named = pkgs.hello; fileSystems."/".device = "none"; boot.loader.grub.enable = false; }\n' \
  > "$work/generators/formats/base.nix"
expect "a format that imports nixos-generators' library is evaluated" 0 'named.*forced-nixos' dry -c "$folder/host.nix" \
  --format-path "$work/generators/formats/named.nix"
printf '{ lib, options }: { maybe.mkForce = _: lib.mkForce (throw "the library beside the format"); }\n' > "$work/generators/lib.nix"
expect "by its own one, if it has one" 6 'the library beside the format' told -c "$folder/host.nix" \
  --format-path "$work/generators/formats/named.nix"

# nix/ as a library in a user's flake, evaluated in the builder with another nixpkgs than the pinned one.
mkdir "$work/own" "$work/checkout"
cp "$folder/configuration.nix" "$work/own"
cp -r "$project/flake.nix" "$project/flake.lock" "$project/nix" "$project/locks" "$project/config" "$work/checkout"
mkdir "$work/checkout/orchestrator" && cp -r "$project/orchestrator/shared" "$work/checkout/orchestrator"
cat > "$work/own/flake.nix" << 'NIX'
{
  inputs.nixos-image.url = "path:/tmp/checkout";
  outputs = { self, nixos-image }:
    let
      inherit (nixos-image) lib nixosModules templates;
      inherit (nixos-image.inputs) nixpkgs;
      system = "aarch64-linux";
      one = format: more: lib.nixosGenerate ({ inherit system format; buildSystem = "x86_64-linux"; modules = [ ./configuration.nix ]; } // more);
      server = modules: nixpkgs.lib.nixosSystem { modules = [ ./configuration.nix { nixpkgs.hostPlatform = system; } ] ++ modules; };
      derivation = drv: { inherit (drv) drvPath system; };
    in
    {
      seen = {
        card = derivation (one "sd-aarch64" { }) // { inherit ((one "sd-aarch64" { }).spec) partitionTable; };
        tarball = derivation (one "lxc" { });
        site = (one "raw-efi" { modules = [ ./configuration.nix ({ site, ... }: { nixosImage.label = site; }) ]; specialArgs.site = "moon"; }).spec.root.label;
        overlaid = (one "raw-efi" {
          pkgs = import nixpkgs { inherit system; overlays = [ (_: _: { mark = "overlaid"; }) ]; };
          modules = [ ./configuration.nix ({ pkgs, ... }: { nixosImage.label = pkgs.mark; }) ];
        }).spec.root.label;
        mine = (one "mine" {
          customFormats.mine = lib.formats.raw-efi // { modules = lib.formats.raw-efi.modules ++ [{ nixosImage.partitionTableType = "efixbootldr"; }]; };
        }).spec.partitionTable;
        several = builtins.mapAttrs (_: image: image.spec.diskFormat or "a file")
          (lib.imagesOf { evaluated = server [ ]; formats = [ "raw-efi" "qcow-efi" "docker" ]; buildSystem = "x86_64-linux"; });
        declared = (server [ nixosModules.default { nixosImage.label = "own"; } ]).config.nixosImage.label;
        root = (server [ nixosModules.default nixosModules.disk { nixosImage.label = "own"; } ]).config.fileSystems."/".device;
        template = builtins.pathExists (templates.default.path + "/sd-card.nix");
      };
    };
}
NIX
library=$(docker create --network none --volume nixos-image-store:/nix --entrypoint nix nixos-image-builder --offline \
  --extra-experimental-features 'nix-command flakes' eval --json --no-write-lock-file \
  --override-input nixos-image/nixpkgs path:/tmp/nixpkgs path:/tmp/own#seen)
docker cp -q "$work/own" "$library:/tmp/own" && docker cp -q "$work/checkout" "$library:/tmp/checkout" && docker cp -q "$NIXPKGS" "$library:/tmp/nixpkgs"
expect "the library is used by another flake" 0 '' docker start -a "$library"
docker rm "$library" > /dev/null
for fact in '"partitionTable":"sd-card","system":"x86_64-linux"' '"tarball":{"drvPath":"[^"]*","system":"x86_64-linux"' '"site":"moon"' \
  '"overlaid":"overlaid"' '"mine":"efixbootldr"' '"several":{"docker":"a file","qcow-efi":"qcow2","raw-efi":"raw"}' '"declared":"own"' \
  '"root":"/dev/disk/by-label/own"' '"template":true'; do
  check "the library: $fact" grep -q "$fact" "$work/out"
done

# A flake in a subfolder of a repository, which needs other files of the repository. Its nixpkgs is only in NIX_PATH, because
# there is no network.
git init -q "$folder"
mkdir "$folder/flake"
cat > "$folder/flake/flake.nix" << 'NIX'
{
  outputs = { self }: {
    nixosConfigurations.pi = import <mine/nixos/lib/eval-config.nix> {
      system = null;
      modules = [ ../configuration.nix { nixpkgs.hostPlatform = "aarch64-linux"; } ];
    };
  };
}
NIX
flake() { "$project/run.sh" --dry-run --log-format json --flake "$folder/flake#$1" -I "mine=$NIXPKGS" -f qcow-efi "$2" "$3"; }
# Images are named after the flake's attribute, or after the file.
plain() { sed -E 's,/nix/store/[^-]*-,,g; s/"name":"(pi|plain)-/"name":"/' "$1"; }
expect "a flake is evaluated with its own nixpkgs" 0 '"plan"' flake pi --system aarch64-linux
spec_of > "$work/flake"
check "and makes the same image as plain files" test "$(plain "$work/plain")" = "$(plain "$work/flake")" -a -s "$work/flake"
expect "a name that the flake does not have is told, with those it has" 6 'no nixosConfigurations.server, but: pi' flake server --system aarch64-linux
if [ "$(uname -m)" != aarch64 ]; then
  expect "a flake's system is not guessed" 6 'nixosConfigurations.pi is for aarch64-linux: use --system aarch64-linux' flake pi --emulation auto
fi
rm -rf "$folder/.git"

# Flakes whose inputs are on servers: each is replaced by a folder, and nobody is asked for any.
mkdir -p "$work/remote/sub" "$work/site"
cp "$folder/configuration.nix" "$work/remote"
cat > "$work/site/flake.nix" << 'NIX'
{ outputs = { self }: { name = "mars"; }; }
NIX
cat > "$work/remote/flake.nix" << 'NIX'
{
  inputs.nixpkgs.url = "github:nobody/nothing/main";
  inputs.site.url = "https://nobody.invalid/site.tar.gz";
  outputs = { self, nixpkgs, site }:
    let
      host = module: nixpkgs.lib.nixosSystem {
        modules = [ ./configuration.nix module {
          nixpkgs.hostPlatform = "aarch64-linux";
          environment.etc.commit.text = "made of ${self.rev or self.dirtyRev or "nothing"}, ${toString self.lastModified}";
        } ];
      };
    in
    {
      nixosConfigurations.only = host { networking.hostName = site.name; };
      packages.aarch64-linux.nixosConfigurations.packed = host ({ planet, ... }: { networking.hostName = planet; });
      packages.aarch64-linux.image = nixpkgs.legacyPackages.aarch64-linux.hello;
    };
}
NIX
git init -q "$work/remote"
commit() { git -C "$work/remote" add . && git -C "$work/remote" -c user.name=me -c user.email=me@example.org commit -qm one; }
commit
# remote FLAKE OPTIONS...: a dry run with all inputs replaced
remote() {
  flake=$1
  shift
  "$project/run.sh" --dry-run --log-format json --flake "$flake" --nixpkgs "$NIXPKGS" --override-input site "$work/site" -f qcow-efi \
    --system aarch64-linux "$@"
}
named() { find_drv; case $drv in *"-$1-qemu-efi-aarch64-linux-"*) ;; *) false ;; esac }
expect "a flake without lock and network has its inputs from folders" 0 '"plan"' remote "$work/remote"
check "and the only configuration is the one that is meant" named mars
check "which knows its commit" in_system "made of $(git -C "$work/remote" rev-parse HEAD), $(git -C "$work/remote" log -1 --format=%ct)"
touch "$work/remote/new"
expect "an attribute path may name it, too" 0 '"plan"' remote "git+file://$work/remote#packages.aarch64-linux.nixosConfigurations.packed" \
  --special-arg planet 'jupiter'
check "special arguments reach it" named jupiter
check "and a new file makes it dirty" in_system "made of $(git -C "$work/remote" rev-parse HEAD)-dirty"
expect "a derivation is refused in a sentence" 6 'image is a derivation; images are made of a NixOS configuration, which are: only' \
  remote "$work/remote#image"
expect "an input that the flake does not have is not replaced in silence" 2 'no input moon that could be replaced' \
  remote "$work/remote" --override-input moon "$work/site"
expect "one that cannot be fetched is named" 11 "the flake's input site cannot be fetched: https://nobody.invalid" \
  "$project/run.sh" --dry-run --flake "$work/remote#only" --nixpkgs "$NIXPKGS"

expect "the caller's environment says what is built, with which nixpkgs" 0 '"plan"' env NIXOS_CONFIG="$folder/host.nix" \
  NIX_PATH="none=/nowhere:nixpkgs=$NIXPKGS" "$project/run.sh" --dry-run --log-format json -f qcow-efi --system aarch64-linux
check "which is told" sh -c "grep -q 'host.nix, because of NIXOS_CONFIG' '$work/err' && grep -q 'because of NIX_PATH' '$work/err'"
check "and done" named mars
expect "so does -I nixos-config" 0 '"plan"' env NIXOS_CONFIG="$folder/plain.nix" "$project/run.sh" --dry-run --log-format json -f qcow-efi \
  --system aarch64-linux -I "nixpkgs=$NIXPKGS" -I "nixos-config=$folder/host.nix"
check "before the environment" named mars

# mistake NAME PATTERN MODULE: checks that the error is one line with the caller's path, without a trace
mistake() {
  with "$1" "$3"
  expect "$1 is told" 6 '^error: ' told -c "$folder/$1.nix" -f qcow-efi --system aarch64-linux
  check "$1: by what it is" grep -qE -- "^error: $2" "$work/err"
  check "$1: without Nix' trace" sh -c "! grep -qE '… (while|from)|/var/nixos-image' '$work/err'"
}
mistake missing-file "path '$folder/none.nix' does not exist" './none.nix'
mistake unknown-option "$folder/unknown-option.nix:1: there is no option services.sssh" '{ services.sssh.enable = true; }'
mistake assertion 'failed assertion: the moon is wrong' '{ assertions = [ { assertion = false; message = "the moon is wrong"; } ]; }'
mistake recursion "$folder/recursion.nix:1: infinite recursion" '{ config, ... }: { imports = if config.networking.hostName == "x" then [ ] else [ ]; }'
mistake undefined "$folder/undefined.nix:1: undefined variable 'foo'" '{ networking.hostName = foo; }'
mistake type "$folder/type.nix:1: the value of networking.hostName is not of type" '{ networking.hostName = 5; }'
mistake keyless "failed assertion: nobody could log in: there are SSH keys" '{ lib, ... }: { services.openssh.enable = lib.mkForce false; }'
printf '{ ... }: { x = ; }\n' > "$folder/syntax.nix"
expect "a syntax error is told" 6 "^error: $folder/syntax.nix:1: syntax error" told -c "$folder/syntax.nix" -f qcow-efi
finish
