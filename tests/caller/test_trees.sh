#!/bin/sh
# Tests what run.sh sends for a configuration, a flake and a nixpkgs: the files that git lists, nothing from outside of the
# folder; and that it prints the size first.
. "$(dirname -- "$0")/lib.sh"
before=$(table)

# git must not use the user's settings here.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
repository="$work/my machines"
mkdir -p "$repository/hosts" "$repository/junk" "$work/no nixpkgs"
git init -q "$repository"
echo '{ ... }: { }' > "$repository/hosts/pi.nix"
echo '{ ... }: { }' > "$repository/gone.nix"
printf 'junk\nsecret.nix\n' > "$repository/.gitignore"
echo '{ ... }: { }' > "$repository/secret.nix"
git -C "$repository" add .
head -c 100000000 /dev/zero > "$repository/junk/large"
rm "$repository/gone.nix"

# build CONFIGURATION OPTIONS...: runs a build, which fails because there is no nixpkgs
build() {
  configuration=$1
  shift
  "$project/run.sh" --dry-run -c "$configuration" --nixpkgs "$work/no nixpkgs" "$@"
}

expect "a folder that is no nixpkgs is refused" 2 "^error: --nixpkgs $work/no nixpkgs: this folder is not a nixpkgs tree" build "$repository/hosts/pi.nix"
check "the repository is sent, its size said" grep -qx "sending $repository: 0.0 MiB" "$work/err"
check "without what git ignores, and what is deleted is not missed" sh -c "! grep -q 'Cannot stat' '$work/err'"
expect "a configuration that git ignores is named" 2 "secret.nix was not sent" build "$repository/secret.nix"

ln -s ../../../../../../etc/passwd "$repository/hosts/escape.nix"
expect "a link that leads out is refused" 2 "^error: $repository/hosts/escape.nix: links to .*/etc/passwd" build "$repository/hosts/pi.nix"
expect "also as the configuration itself" 2 "hosts/escape.nix: links to" build "$repository/hosts/escape.nix"
rm "$repository/hosts/escape.nix"

# A repository whose folder has the same name as a link into it, within an unrelated repository.
git init -q "$work/etc"
echo secret > "$work/etc/shadow"
ln -s "$repository/hosts" "$work/etc/hosts"
expect "a link into a repository is not taken for another repository" 2 'leads into its repository through a link' build "$work/etc/hosts/pi.nix"
ln -s "$repository" "$work/linked"
expect "but a link to a whole one is" 2 "^sending $work/linked: 0.0 MiB" build "$work/linked/hosts/pi.nix"
check "and it arrives" grep -q 'this folder is not a nixpkgs tree' "$work/err"

# Untracked folders may be repositories themselves; file names may contain any characters.
git init -q "$repository/nested"
head -c 3145728 /dev/urandom > "$repository/nested/large"
printf '{ }\n' > "$repository/odd\\x2d \"name\".nix"
mkdir "$repository/moved"
echo x > "$repository/moved/file"
git -C "$repository" add moved
rm -r "$repository/moved"
mkdir "$work/outside"
echo secret > "$work/outside/file"
ln -s "$work/outside" "$repository/moved"
expect "a repository inside is none of its files" 2 "^sending $repository: 0.0 MiB" build "$repository/hosts/pi.nix"
check "a folder that a link has replaced is refused" grep -q "^error: $repository/moved: links to" "$work/err"
rm "$repository/moved"
expect "names may have quotes and backslashes" 2 'this folder is not a nixpkgs tree' build "$repository/hosts/pi.nix"
rm -rf "$repository/nested"
expect "a home that is a repository is not sent" 2 "all of $repository would be sent" \
  env HOME="$work/linked" "$project/run.sh" --dry-run -c "$repository/hosts/pi.nix"
mkdir "$work/foreign"
git init -q "$work/foreign"
echo '{ }' > "$work/foreign/a.nix"
chown -R 12345 "$work/foreign"
expect "somebody else's repository is asked as one's own: none of its programs runs" 2 "^sending $work/foreign: 0.0 MiB" build "$work/foreign/a.nix"
check "and it arrives" grep -q 'this folder is not a nixpkgs tree' "$work/err"

mkdir "$work/plain"
cp "$repository/hosts/pi.nix" "$work/plain"
head -c 3145728 /dev/zero > "$work/plain/beside"
expect "without git the folder is sent" 2 "^sending $work/plain: 3.0 MiB" build "$work/plain/pi.nix"
expect "but nobody's home" 2 "all of $work/plain would be sent" env HOME="$work/plain" "$project/run.sh" --dry-run -c "$work/plain/pi.nix"
mkdir "$repository/junk/plain"
cp "$work/plain/pi.nix" "$repository/junk/plain"
expect "a folder that git ignores is no repository" 2 "^sending $repository/junk/plain: 0.0 MiB" build "$repository/junk/plain/pi.nix"
expect "a path that does not exist is refused" 2 "^error: -I: $work/none does not exist" build "$repository/hosts/pi.nix" -I "x=$work/none"
expect "the configuration by what names it" 2 "^error: -I nixos-config: $work/none does not exist" "$project/run.sh" --dry-run -I "nixos-config=$work/none"
expect "nixpkgs, too" 2 "^error: -I nixpkgs: $work/none does not exist" "$project/run.sh" --dry-run -c "$work/plain/pi.nix" -I "nixpkgs=$work/none"
expect "and the variable" 2 "^error: NIXOS_CONFIG: $work/none does not exist" env NIXOS_CONFIG="$work/none" "$project/run.sh" --dry-run
expect "which names a whole repository" 2 "^sending $repository: 0.0 MiB" \
  env NIXOS_CONFIG="$repository/hosts/pi.nix" "$project/run.sh" --dry-run --nixpkgs "$work/no nixpkgs"
expect "as does the search path" 2 "^sending $repository: 0.0 MiB" \
  "$project/run.sh" --dry-run -I "nixos-config=$repository/hosts/pi.nix" --nixpkgs "$work/no nixpkgs"
cp "$project/config/sd-card.nix" "$work/plain"
expect "a placeholder for a key is refused with its line" 2 "^error: $work/plain/sd-card.nix:[0-9]+: the SSH key is a placeholder" \
  "$project/run.sh" -c "$work/plain/sd-card.nix" -o "$work/out folder"
expect "unless it shall be so" 2 'this folder is not a nixpkgs tree' build "$work/plain/sd-card.nix" --allow-no-login

began=$(date +%s)
expect "a nixpkgs that cannot be had ends the run" 11 'nobody.invalid/n.tar.gz cannot be reached' \
  "$project/run.sh" -c "$repository/hosts/pi.nix" --nixpkgs https://nobody.invalid/n.tar.gz --system "$(uname -m)-linux" -f raw-efi -o "$work/never"
check "in seconds, with ways out" sh -c "[ $(($(date +%s) - began)) -lt 60 ] && grep -q -e '^try: --nixpkgs PATH, --substituter URL' '$work/err'"
mkdir "$work/flake"
cat > "$work/flake/flake.nix" << 'NIX'
{
  inputs.far.url = "https://nobody.invalid/far.tar.gz";
  outputs = { self, far }: { nixosConfigurations.pi = far.pi; };
}
NIX
expect "a flake that needs a network it has not is told what is missing" 11 '^error: the flake.s input [a-z]* cannot be fetched: https://nobody.invalid/far.tar.gz' \
  "$project/run.sh" --dry-run --flake "$work/flake#pi" -f raw-efi
check "and nothing is left" nothing_left
check "no partial file" no_partial_file
finish
