#!/bin/sh
# Tests which files of a git repository run.sh sends: those that git lists, for each kind of repository. Needs no engine.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"
export GIT_CONFIG_GLOBAL="$work/gitconfig" GIT_CONFIG_SYSTEM=/dev/null
printf '[user]\n\tname = me\n\temail = me@example.org\n[protocol "file"]\n\tallow = always\n' > "$GIT_CONFIG_GLOBAL"

# filled FOLDER GIT-INIT-OPTIONS...: makes a repository with two files, and one file ignored by each mechanism of git
filled() {
  folder=$1
  shift
  git init -q "$@" "$folder"
  mkdir "$folder/sub"
  echo '{ }' > "$folder/a.nix"
  echo '{ }' > "$folder/sub/b.nix"
  echo junk > "$folder/.gitignore"
  git -C "$folder" add .
  git -C "$folder" commit -qm one
  echo local > "$folder/.git/info/exclude"
  touch "$folder/new" "$folder/junk" "$folder/sub/junk" "$folder/local"
}

filled "$work/plain"
expect "a repository is sent" 0 "^sending $folder: 0.0 MiB" sends -c "$folder/a.nix"
check "with what is new, without what is ignored" sent .gitignore a.nix new sub/b.nix
expect "from a folder in it as a whole" 0 '' sends -c "$folder/sub/b.nix"
check "too" sent .gitignore a.nix new sub/b.nix
expect "but what is only looked into by itself" 0 '' sends --nixpkgs "$folder/sub"
folder=$folder/sub
check "without what is ignored" sent b.nix
folder=$work/plain
expect "a folder that is ignored is none of the repository's" 0 '' sends --nixpkgs "$folder/junk"
rm "$folder/junk"
mkdir "$folder/junk"
touch "$folder/junk/a.nix" "$folder/junk/junk"
expect "a folder that is ignored is sent as it is" 0 '' sends -c "$folder/junk/a.nix"
folder=$folder/junk
check "with all that lies in it" sent a.nix junk
folder=$work/plain
rm -r "$folder/junk"

printf '[core]\n\texcludesFile = %s\n' "$work/mine" >> "$GIT_CONFIG_GLOBAL"
echo new > "$work/mine"
expect "the caller's own patterns are in force" 0 '' sends -c "$folder/a.nix"
check "wherever they lie" sent .gitignore a.nix sub/b.nix
printf 'sub\ntheirs\n' > "$folder/theirs"
git -C "$folder" config core.excludesFile theirs
touch "$folder/sub/untracked"
expect "the repository's come first" 0 '' sends -c "$folder/a.nix"
check "as git has it" sent .gitignore a.nix new sub/b.nix
git config -f "$GIT_CONFIG_GLOBAL" --unset core.excludesFile
# What is missing in what is sent would tell what is in a file of the caller's.
echo new > "$work/private"
for private in "$work/private" ../private; do
  git -C "$folder" config core.excludesFile "$private"
  expect "but are no file outside of it, which is named" 0 "^not used: .*private, core.excludesFile of $folder, which is outside" sends -c "$folder/a.nix"
  check "and no pattern: $private" sh -c "tar -tf '$work/sent' | grep -q /new"
done
ln -s "$work/private" "$folder/linked"
git -C "$folder" config core.excludesFile linked
mv "$folder/.git/info/exclude" "$work/exclude"
ln -s "$work/private" "$folder/.git/info/exclude"
expect "a link in the git folder is refused" 2 'info/exclude is a link' sends -c "$folder/a.nix"
rm "$folder/.git/info/exclude"
expect "so is one in the repository" 2 '/linked is a link' sends -c "$folder/a.nix"
rm "$folder/linked"
mv "$work/exclude" "$folder/.git/info/exclude"
git -C "$folder" config core.excludesFile "$work/pipe"
mkfifo "$work/pipe"
expect "nor are they a pipe" 0 '' sends -c "$folder/a.nix"
rm "$folder/theirs"
git -C "$folder" config --unset core.excludesFile
git -C "$folder" config core.ignoreCase true
echo JUNK > "$folder/.gitignore"
touch "$folder/junk"
expect "where case does not count it does not" 0 '' sends -c "$folder/a.nix"
check "in patterns, either" sent .gitignore a.nix new sub/b.nix sub/untracked

git init -q "$folder/nested"
touch "$folder/nested/file"
expect "a repository inside" 0 '' sends -c "$folder/a.nix"
check "is none of its files" sent .gitignore a.nix new sub/b.nix sub/untracked

git -C "$folder" add -f junk
GIT_DIR=$work/nowhere GIT_WORK_TREE=$work GIT_INDEX_FILE=$work/none GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.bare GIT_CONFIG_VALUE_0=true
export GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0
expect "variables that are about another repository" 0 '' sends -c "$folder/a.nix"
check "do not count" sent .gitignore a.nix junk new sub/b.nix sub/untracked
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0

filled "$work/first"
git -C "$folder" worktree add -q "$work/second"
folder=$work/second
touch "$folder/junk" "$folder/local" "$folder/here"
expect "another worktree has files of its own" 0 '' sends -c "$folder/a.nix"
check "and shares what is ignored" sent .gitignore a.nix here sub/b.nix

filled "$work/above"
git -C "$work/above" submodule --quiet add "$work/first" module > /dev/null 2>&1
folder=$work/above
expect "a submodule" 0 '' sends -c "$folder/a.nix"
check "is none of its repository's files" sent .gitignore .gitmodules a.nix new sub/b.nix
folder=$work/above/module
echo local > "$work/above/.git/modules/module/info/exclude"
touch "$folder/local" "$folder/junk" "$folder/new"
expect "but sent as a repository" 0 "^sending $folder" sends -c "$folder/a.nix"
check "of its own" sent .gitignore a.nix new sub/b.nix

filled "$work/split"
git -C "$folder" update-index --split-index
touch "$folder/more"
git -C "$folder" add more
check "an index may be split" sh -c "ls '$folder/.git' | grep -q sharedindex"
expect "then both parts" 0 '' sends -c "$folder/a.nix"
check "count" sent .gitignore a.nix more new sub/b.nix

filled "$work/sparse"
mkdir "$folder/far"
printf 'hidden\n' > "$folder/far/.gitignore"
touch "$folder/far/file"
git -C "$folder" add far
git -C "$folder" commit -qm far
git -C "$folder" sparse-checkout set --sparse-index sub
check "an index may have folders in it" sh -c "git -C '$folder' ls-files --sparse | grep -qx far/"
expect "of which nothing is here" 0 '' sends -c "$folder/a.nix"
check "then nothing is sent" sent .gitignore a.nix new sub/b.nix
mkdir "$folder/far"
touch "$folder/far/hidden" "$folder/far/seen"
expect "what is ignored by a file that is in the index alone" 0 '' sends -c "$folder/a.nix"
check "is ignored" sent .gitignore a.nix far/seen new sub/b.nix

filled "$work/sha256" --object-format=sha256
expect "a repository of SHA-256" 0 '' sends -c "$folder/a.nix"
check "is one" sent .gitignore a.nix new sub/b.nix
git init -q "$work/fresh"
folder=$work/fresh
echo '{ }' > "$folder/a.nix"
expect "one to which nothing was added" 0 '' sends -c "$folder/a.nix"
check "has files" sent a.nix
git init -q --separate-git-dir "$work/elsewhere.git" "$work/apart"
folder=$work/apart
echo '{ }' > "$folder/a.nix"
expect "one whose git folder is elsewhere" 0 '' sends -c "$folder/a.nix"
check "is one" sent a.nix
echo x > "$work/fresh/.git/index"
# told COUNT CLEAN [WITH]: whether $folder was sent with its commit, the commit's time, COUNT commits, CLEAN, and WITH submodules (0)
told() {
  printf '%s ' "$folder" "$(git -C "$folder" rev-parse HEAD)" "$(git -C "$folder" log -1 --format=%ct)" "$1" "$2" "${3:-0}" > "$work/facts"
  tar -xOif "$work/sent" .commits | tr '\0' ' ' | diff "$work/facts" - >> "$work/err"
}

# untold: whether $folder was sent with no commit
untold() { tar -tif "$work/sent" | grep -qx .commits && [ "$(tar -xOif "$work/sent" .commits | wc -c)" = 0 ]; }

filled "$work/flake"
expect "a flake's repository is sent" 0 '' sends --flake "$folder"
check "with its commit, which a new file changes" told 1 0
rm "$folder/new"
expect "from a folder in it, too" 0 '' sends --flake "$folder/sub"
check "which has exactly the commit's files" told 1 1
git -C "$folder" commit -q --allow-empty -m two
git -C "$folder" pack-refs --all
expect "a branch may be packed" 0 '' sends --flake "$folder"
check "then it has a commit" told 2 1
echo '{  }' > "$folder/sub/b.nix"
expect "a file may be changed" 0 '' sends --flake "$folder"
check "then they are not the commit's" told 2 0
git -C "$folder" add sub
expect "and added" 0 '' sends --flake "$folder"
check "still" told 2 0
git -C "$folder" commit -qm three
git -C "$folder" update-index --skip-worktree a.nix
rm "$folder/a.nix"
expect "a file may be left out" 0 '' sends --flake "$folder"
check "as well" told 3 0
git -C "$folder" update-index --no-skip-worktree a.nix
git -C "$folder" checkout -q --detach
git -C "$folder" checkout -q a.nix
cat > "$work/spy" << 'EOF'
#!/bin/sh
touch "$0.ran"
EOF
chmod +x "$work/spy"
printf '*.nix filter=spy diff=spy\n' > "$folder/.git/info/attributes"
git -C "$folder" config filter.spy.clean "$work/spy"
git -C "$folder" config diff.spy.textconv "$work/spy"
git -C "$folder" config core.fsmonitor "$work/spy"
touch -d '1 hour' "$folder/a.nix"
rm -f "$work/spy.ran"
expect "nothing may be on a branch" 0 '' sends --flake "$folder"
check "the commit counts" told 3 1
check "and no program of the repository runs" test ! -e "$work/spy.ran"
git -C "$folder" config --unset core.fsmonitor
git -C "$folder" config --remove-section filter.spy
git -C "$folder" worktree add -q -b other "$work/flake2"
folder=$work/flake2
git -C "$folder" commit -q --allow-empty -m four
expect "a flake may be in another worktree" 0 '' sends --flake "$folder"
check "with a commit of its own" told 4 1
git clone -q --depth 1 "file://$work/flake" "$work/shallow"
folder=$work/shallow
expect "a clone may be shallow" 0 '' sends --flake "$folder"
check "then its commits are not counted" told 0 1
folder=$work/above
rm -f "$folder/new"
git -C "$folder" add . && git -C "$folder" commit -qm module
printf '*.nix filter=spy\n' > "$folder/.git/modules/module/info/attributes"
git -C "$folder/module" config filter.spy.clean "$work/spy"
touch -d '1 hour' "$folder/module/a.nix" # git looks into it again
echo changed > "$work/above/module/new"
expect "a submodule may be changed" 0 '' sends --flake "$folder"
check "its repository is not" told 2 1
check "and the submodule's programs do not run, either" test ! -e "$work/spy.ran"
expect "submodules may be asked for" 0 '' sends --modules "$folder"
check "then their files are sent" sent .gitignore .gitmodules a.nix sub/b.nix module/.gitignore module/a.nix module/new module/sub/b.nix
check "and what is new in them counts" told 2 0 1
check "without their programs" test ! -e "$work/spy.ran"
rm "$folder/module/new"
expect "submodules may be as their repository has them" 0 '' sends --modules "$folder"
check "then all files are the commit's" told 2 1 1
echo '{ inputs.self.submodules = true; outputs = _: { }; }' > "$folder/flake.nix"
expect "a flake may ask for them itself" 0 '' sends --flake "$folder"
check "with the same effect" sent .gitignore .gitmodules a.nix flake.nix sub/b.nix module/.gitignore module/a.nix module/sub/b.nix
rm "$folder/flake.nix"
git -C "$folder/module" -c protocol.file.allow=always submodule --quiet add "$work/flake" deep > /dev/null 2>&1
git -C "$folder/module" commit -qm deep
expect "a submodule may have submodules, and another commit" 0 '' sends --modules "$folder"
check "whose files are sent" sh -c "tar -tif '$work/sent' | grep -q 'module/deep/sub/b.nix$'"
check "but are not the commit's" told 2 0 1
git init -q "$work/newest"
folder=$work/newest
touch "$folder/flake.nix"
expect "where nothing was committed" 0 '' sends --flake "$folder"
check "there is no commit" untold
folder=$work/flake
printf 'ref: refs/heads/../../config\n' > "$folder/.git/HEAD"
expect "a branch that leads elsewhere" 0 '' sends --flake "$folder"
check "is none" untold
expect "an index that is none is told" 2 'git cannot list its files: .*index' sends -c "$work/fresh/a.nix"
mkdir -p "$work/empty/.git"
touch "$work/empty/a.nix"
expect "so is a git folder that is none" 2 'does not lead to a git repository' sends -c "$work/empty/a.nix"

# --- homes ------------------------------------------------------------------------------------------------------------------

mkdir -p "$work/homes/me" "$work/homes/meadow"
folder=$work/homes
echo '{ }' > "$folder/a.nix"
HOME=$folder/me expect "a folder with the home is not sent" 2 "all of $folder would be sent, with a home folder in it" sends -c "$folder/a.nix"
check "nor all homes" test ! -s "$work/sent"
# judged TREE: whether not_home lets TREE be sent, where $HOME is another folder
judged() {
  # shellcheck disable=SC2016,SC2086  # another shell's program; a command's words
  HOME=$work/homes/me state=$work stopped='' tree=$1 ${NIXOS_IMAGE_TEST_SHELL:-sh} -uc 'for part in say send homes; do . "$0/caller/$part.sh"; done
    not_home -c' "$project"
}
home=$(sh -c "echo ~$(id -un)")
SUDO_USER='' expect "nor the home of the user whom a folder belongs to" 2 "all of $home would be sent" judged "$home"
SUDO_USER=bin expect "nor that of the user who has called sudo" 2 "all of $(realpath ~bin) would be sent" judged "$(realpath ~bin)"
SUDO_USER='' expect "which is not everybody's" 0 '' judged "$(realpath ~bin)"
SUDO_USER="x; touch $work/evil" expect "whose name is no program" 0 '' judged "$(realpath ~bin)"
check "that runs" test ! -e "$work/evil"
echo '{ }' > "$folder/me/a.nix"
HOME=$folder/meadow expect "one whose name begins like that of the home" 0 '' sends -c "$folder/me/a.nix"
folder=$folder/me
check "is sent" sent a.nix
folder=$work/homes
git init -q "$folder"
printf 'me*\n' > "$folder/.gitignore"
HOME=$folder/me expect "a repository around the home" 0 '' sends -c "$folder/a.nix"
check "is sent without what git ignores" sent .gitignore a.nix

# --- the output folder is not sent ----------------------------------------------------------------------------------------

# builds_into FOLDER FILE: runs run.sh with the orders of a dry run of FILE, whose images go to FOLDER
builds_into() {
  : > "$work/orders"
  : > "$work/sent"
  order images --out "$1"
  order send_tree --configuration "$2"
  run_sh --dry-run -c "$2" -o "$1"
}

# images FOLDER: makes an output folder with two images
images() {
  mkdir -p "$1/.part"
  touch "$1/a.img" "$1/.part/b.img"
}

for below in out 'deep/.my [out]*'; do
  folder=$work/machines
  rm -rf "$folder"
  mkdir -p "$folder/deep/empty"
  touch "$folder/a.nix" "$folder/.hidden" "$folder/..odd" "$folder/deep/b.nix" "$folder/outer"
  images "$folder/$below"
  ln -s nowhere "$folder/dangling"
  expect "a folder with the images in $below is sent" 0 '^sending' builds_into "$folder/$below" "$folder/a.nix"
  check "without them" sent ..odd .hidden a.nix dangling deep/b.nix outer
  check "with its folders" sh -c "tar -tf '$work/sent' | grep -q 'deep/empty/$'"
  expect "where the images go elsewhere" 0 '^sending' builds_into "$work/elsewhere/out" "$folder/a.nix"
  check "all is sent" sent ..odd .hidden a.nix dangling deep/b.nix outer "$below/.part/b.img" "$below/a.img"

  rm -rf "$work/tracked"
  filled "$work/tracked"
  images "$folder/$below"
  touch "$folder/$below/mine"
  git -C "$folder" add -f "$folder/$below/mine"
  expect "a repository with the images in $below is sent" 0 '^sending' builds_into "$folder/$below" "$folder/sub/b.nix"
  check "without them, but with what git tracks there" sent .gitignore a.nix new sub/b.nix "$below/mine"
done

# made FOLDER: makes an image in FOLDER as a run leaves it, written to since, and the parts of one that a run is delivering
made() {
  mkdir -p "$1/.nixos-image-1.part/1"
  echo '"urn:nixos-image:build:v1"' > "$1/disk.img.provenance.json"
  echo '"urn:nixos-image:result:v1"' > "$1/result.json"
  touch "$1/.nixos-image-1.part/1/disk.img" "$1/disk.img.sha256" "$1/disk.img.log"
  touch -d 2099-01-01 "$1/disk.img"
}
for below in '' '/hosts [1]'; do
  folder=$work/mixed
  rm -rf "$folder"
  mkdir -p "$folder$below/sub"
  touch "$folder$below/a.nix" "$folder$below/sub/b.nix" "$folder/top" "$folder$below/mine.img" "$folder$below/.hidden"
  made "$folder$below"
  set -- "${below:+${below#/}/}"
  [ -z "$below" ] || git init -q "$folder"
  expect "a folder ${below:+in a repository }that the images go to, too, is sent" 0 '^sending' builds_into "$folder$below" "$folder$below/a.nix"
  check "with all but what runs have made" sent "$1.hidden" "$1a.nix" "$1mine.img" "$1sub/b.nix" top
done

# --- what cannot be read ------------------------------------------------------------------------------------------------

# sends_as_other FILE: runs run.sh with the orders of a dry run of FILE, as a user who owns nothing here
sends_as_other() {
  : > "$work/orders"
  order send_tree --configuration "$1"
  chmod -R a+rwX "$work"
  chmod "$mode" "$folder/hidden"
  # shellcheck disable=SC2086  # a command's words
  HOME=/nonexistent SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" setpriv --reuid 65534 --clear-groups \
    timeout 60 ${NIXOS_IMAGE_TEST_SHELL:-} "$project/run.sh" --dry-run -c "$1"
}
for below in '' .git; do
  folder=$work/read$below
  mkdir -p "$folder"
  echo '{ }' > "$folder/a.nix"
  mode=600
  echo secret > "$folder/hidden"
  [ -z "$below" ] || git init -q "$folder"
  expect "a file in a folder${below:+ with .git} that this user cannot read is told" 2 "^error: --configuration: $folder/hidden cannot be read" \
    sends_as_other "$folder/a.nix"
  mode=644
  expect "files of other users that it can read are sent" 0 '^sending' sends_as_other "$folder/a.nix"
done
mode=700
mkdir "$work/closed"
folder=$work/closed
echo '{ }' > "$folder/a.nix"
mkdir "$folder/hidden"
expect "a folder in it, too" 2 "^error: --configuration: $folder/hidden cannot be read" sends_as_other "$folder/a.nix"
finish
