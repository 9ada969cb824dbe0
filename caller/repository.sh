# Lists the files of a git repository with git, without executing anything from the repository's own git folder.
# shellcheck shell=sh

# in_repository OPTION FOLDER: whether FOLDER is in a git repository that does not ignore it. Sets $above to the real path of the
# repository's top. If git cannot tell, it dies with an error that names OPTION.
in_repository() {
  above=$(physical "$2")
  while [ ! -e "$above/.git" ] && [ ! -L "$above/.git" ]; do
    [ "$above" != / ] || return 1
    above=$(dirname -- "$above")
  done
  command -v git > /dev/null \
    || die 2 "$1: $2 is in a git repository, but git is not installed to list its files" "install git"
  git_folders "$1"
  own_repository "$1"
  git_says ignored check-ignore -q .
  case $? in
    0) return 1 ;;
    1) ;;
    *) git_fails "$1" ;;
  esac
}

# git_folders OPTION: sets $git_folder, the folder with the index of the repository at $above, and $common, which all its
# worktrees share; an error names OPTION.
git_folders() {
  git_folder=$above/.git
  if [ -f "$git_folder" ]; then # .git is a file in a submodule or a worktree
    pointer=$(first_line "$git_folder")
    case $pointer in
      'gitdir: /'*) git_folder=${pointer#gitdir: } ;;
      'gitdir: '*) git_folder=$above/${pointer#gitdir: } ;;
    esac
  fi
  common=$git_folder
  if [ -f "$git_folder/commondir" ]; then
    pointer=$(first_line "$git_folder/commondir")
    case $pointer in /*) common=$pointer ;; *) common=$git_folder/$pointer ;; esac
  fi
  [ -d "$git_folder" ] && [ -f "$git_folder/HEAD" ] && [ -d "$common/objects" ] \
    || die 2 "$1: $above/.git does not lead to a git repository" "remove it, or clone the repository again"
  common=$(physical "$common")
  case $common in *[[:cntrl:]]*) die 2 "$1: the name of $above's git folder has control characters" "rename the folder" ;; esac
}

first_line() { dd if="$1" bs=4096 count=1 2> /dev/null | head -n 1; }

# own_repository OPTION: makes a git folder of run.sh's own, $state/git, for the repository at $above; an error names OPTION. The
# repository's own folder may name programs that git would run (pagers, remotes for missing objects, monitors), so only data is
# copied from it: the index, ignore patterns, a few settings. Its objects, which a sparse index needs, are only referred to.
own_repository() {
  rm -rf "$state/git"
  mkdir -p "$state/git/objects/info" "$state/git/refs" "$state/git/info"
  echo 'ref: refs/heads/none' > "$state/git/HEAD"
  printf '[core]\n\tbare = false\n\trepositoryformatversion = 1\n' > "$state/git/config"
  printf '%s\n' "$common/objects" > "$state/git/objects/info/alternates" || no_room
  refuse_link "$common/info/exclude"
  [ ! -f "$common/info/exclude" ] || cp "$common/info/exclude" "$state/git/info/exclude" || die 2 "$1: $common/info/exclude cannot be copied" "ls -l shows what it is, and who may read it"
  for index in "$git_folder/index" "$git_folder"/sharedindex.*; do
    [ -e "$index" ] || [ -L "$index" ] || continue # no index yet, or no shared index
    is_file "$index" || die 2 "$1: $index is not a file" "replace it by the file itself"
    cp "$index" "$state/git/" || die 2 "$1: $index cannot be read" "ls -l shows what it is, and who may read it"
  done
  for config in "$common/config" "$git_folder/config.worktree"; do
    [ -f "$config" ] || continue
    copy_setting "$1" extensions.objectformat
    for setting in ignorecase filemode symlinks trustctime; do copy_setting "$1" core.$setting --bool; done
    copy_setting "$1" core.autocrlf
    copy_setting "$1" core.checkstat
    copy_setting "$1" core.excludesfile --path
  done
}

# copy_setting OPTION NAME [TYPE]: copies git's setting NAME from $config to $state/git, checked with git's TYPE; an error names
# OPTION
copy_setting() {
  value=$(git_alone config --file "$config" --no-includes ${3:+"$3"} --get "$2" 2> "$state/log")
  case $? in
    0) ;;
    1) return 0 ;; # the setting does not exist
    *) git_fails "$1" ;;
  esac
  [ "$2" != core.excludesfile ] || is_own_pattern || return 0
  git_alone config --file "$state/git/config" "$2" "$value" > /dev/null 2> "$state/log" || git_fails "$1"
}

# refuse_link FILE: ends run.sh if the FILE of git's patterns is a link, which may lead to any file of the caller's
refuse_link() { [ ! -L "$1" ] || die 2 "$1 is a link: patterns of git's behind it are not read" "put the file itself there"; }

# is_own_pattern: whether $value is a file of the repository at $above. A repository from elsewhere may name any file of the caller's, whose
# lines would then be patterns: the files that are missing in what is sent would tell an evaluation what the lines are.
is_own_pattern() {
  case $value in /*) ;; *) value=$above/$value ;; esac
  refuse_link "$value"
  [ -f "$value" ] || return
  case $(physical "${value%/*}/")/ in "${above%/}"/*) ;; *) say "not used: $value, core.excludesFile of $above, which is outside of it"; return 1 ;; esac
}

# git_says FILE COMMAND...: runs git's COMMAND in $tree with the git folder $state/git; its stdout is in $state/FILE, its stderr in
# $state/log. A checkout may have pipes where git expects files, and git would wait for them: it has a limit of time, and signals end it.
git_says() {
  git_file=$1
  shift
  asking=1
  with_life $((10 * patience)) "waiting for git in $tree" git_in_tree "$@"
  git_code=$?
  asking=
  end_if_stopped "git's work in $tree"
  [ ! -e "$state/late" ] || die 2 "git has not ended after $((10 * patience)) s in $tree" \
    "look there for pipes in place of files, and at git status; or set NIXOS_IMAGE_PATIENCE above $patience"
  return $git_code
}

git_in_tree() { git_alone --work-tree "$above" -C "$(physical "$tree")" "$@" > "$state/$git_file"; }

git_fails() {
  die 2 "$1: $tree is in a git repository, but git cannot list its files: $(tail -n 1 "$state/log")" \
    "run git status there"
}

# git_alone ARGUMENTS...: runs git with only the caller's configuration and that of $state/git. Monitors and hooks are disabled,
# because relative paths in the caller's configuration would be resolved in the checkout. The exported variables forbid network
# access in newer versions of git. It has 4 GiB of memory, where the system can limit that: an object may unpack to any size. Of packs it
# sees little at a time, so that large ones fit.
git_alone() (
  cd "$state" || exit
  for variable in $(env | sed -n 's/^\(GIT_[A-Z0-9_]*\)=.*/\1/p'); do
    case $variable in
      GIT_CONFIG_GLOBAL | GIT_CONFIG_SYSTEM | GIT_CONFIG_NOSYSTEM | GIT_EXEC_PATH) ;;
      *) unset "$variable" ;;
    esac
  done
  export GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL=none GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0
  # shellcheck disable=SC3045  # a shell that does not know it goes on without
  ulimit -v 4194304 2> /dev/null
  git --no-pager --git-dir "$state/git" -c core.fsmonitor=false -c core.hooksPath=/dev/null -c core.packedGitWindowSize=32m \
    -c core.packedGitLimit=256m "$@" < /dev/null
)
