# Which files a git repository has: git says it, but of the repository's own folder only data is believed.
# shellcheck shell=sh

# in_repository OPTION FOLDER: whether git tells what belongs to it. Where it should, but cannot, nothing is guessed. Sets
# $above, the repository's top by its real path.
in_repository() {
  above=$(physical "$2")
  while [ ! -e "$above/.git" ] && [ ! -L "$above/.git" ]; do
    [ "$above" != / ] || return 1
    above=$(dirname -- "$above")
  done
  command -v git > /dev/null \
    || die 2 "$1: $2 is in a git repository, but there is no git to say what belongs to it" "install git"
  git_folders "$1"
  own_repository "$1"
  git_says check-ignore -q . > /dev/null
  case $? in
    0) return 1 ;;
    1) ;;
    *) git_fails "$1" ;;
  esac
}

# git_folders OPTION: where the repository at $above keeps its index and, as $common, what all of its worktrees share.
git_folders() {
  git_folder=$above/.git
  if [ -f "$git_folder" ]; then # a submodule's, or another worktree's
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
  [ -d "$git_folder" ] && [ -e "$git_folder/HEAD" ] && [ -d "$common/objects" ] \
    || die 2 "$1: $above/.git leads to no git repository" "remove it, or clone the repository again"
  common=$(physical "$common")
  case $common in *[[:cntrl:]]*) die 2 "$1: the name of $above's git folder has control characters" "rename it" ;; esac
}

first_line() { dd if="$1" bs=4096 count=1 2> /dev/null | head -n 1; }

# own_repository OPTION: a git folder of our own, $state/git, for the files at $above. Somebody else's may name programs that
# git runs (pagers, remotes to fetch what is missing from, monitors), so of that only data is taken: the index, the patterns of
# files to ignore, three settings' values. Its objects, from which a sparse index is read, stay where they are.
own_repository() {
  rm -rf "$state/git"
  mkdir -p "$state/git/objects/info" "$state/git/refs" "$state/git/info"
  echo 'ref: refs/heads/none' > "$state/git/HEAD"
  printf '[core]\n\tbare = false\n\trepositoryformatversion = 1\n' > "$state/git/config"
  printf '%s\n' "$common/objects" > "$state/git/objects/info/alternates"
  [ ! -f "$common/info/exclude" ] || cp "$common/info/exclude" "$state/git/info/exclude"
  for index in "$git_folder/index" "$git_folder"/sharedindex.*; do
    [ -e "$index" ] || [ -L "$index" ] || continue # nothing was ever added, or the index is one file
    is_file "$index" || die 2 "$1: $index is not a file" "put the file itself there"
    cp "$index" "$state/git/" || die 2 "$1: $index cannot be read"
  done
  for config in "$common/config" "$git_folder/config.worktree"; do
    [ -f "$config" ] || continue
    copy_setting "$1" extensions.objectformat
    copy_setting "$1" core.ignorecase --bool
    copy_setting "$1" core.excludesfile --path
  done
}

# copy_setting OPTION NAME [TYPE]: from $config
copy_setting() {
  value=$(git_alone config --file "$config" --no-includes ${3:+"$3"} --get "$2" 2> "$state/words")
  case $? in
    0) ;;
    1) return 0 ;; # it is not there
    *) git_fails "$1" ;;
  esac
  case $2:$value in # the patterns may be no pipe, which would never end
    core.excludesfile:/*) [ -f "$value" ] || return 0 ;;
    core.excludesfile:*) [ -f "$above/$value" ] || return 0 ;;
  esac
  git_alone config --file "$state/git/config" "$2" "$value" > /dev/null 2> "$state/words" || git_fails "$1"
}

# git_says COMMAND...: of the files below $tree, by $state/git; its own words are in $state/words
git_says() { git_alone --work-tree "$above" -C "$(physical "$tree")" "$@" 2> "$state/words"; }

git_fails() {
  die 2 "$1: $tree is in a git repository, but git cannot say what belongs to it: $(tail -n 1 "$state/words")" \
    "see what git status says there"
}

# git by the caller's own configuration and that of $state/git alone. What is relative in the caller's would be looked for in
# the checkout: monitors and hooks. The variables say the same to a git that knows them.
git_alone() (
  cd "$state" || exit
  for variable in $(env | sed -n 's/^\(GIT_[A-Z0-9_]*\)=.*/\1/p'); do
    case $variable in
      GIT_CONFIG_GLOBAL | GIT_CONFIG_SYSTEM | GIT_CONFIG_NOSYSTEM | GIT_EXEC_PATH) ;;
      *) unset "$variable" ;;
    esac
  done
  export GIT_NO_LAZY_FETCH=1 GIT_ALLOW_PROTOCOL=none GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0
  git --no-pager --git-dir "$state/git" -c core.fsmonitor=false -c core.hooksPath=/dev/null "$@" < /dev/null
)
