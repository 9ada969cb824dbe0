# Finds out what a flake's repository is to git: its commit, and its submodules. git runs as in repository.sh.
# shellcheck shell=sh

# find_head: sets $head to the commit that the repository of $git_folder and $common has checked out; empty if there is none
find_head() {
  head=$(first_line "$git_folder/HEAD")
  case $head in
    'ref: refs/'*..*) head= ;;
    'ref: refs/'*)
      name=${head#ref: }
      head=
      if is_file "$common/$name"; then
        head=$(first_line "$common/$name")
      elif is_file "$common/packed-refs"; then
        while read -r commit packed; do
          [ "$packed" != "$name" ] || head=$commit
        done < "$common/packed-refs"
      fi
      ;;
  esac
  case ${#head}:$head in *:*[!0-9a-f]*) head= ;; 40:* | 64:*) ;; *) head= ;; esac
}

# find_commit: sets $commit to the commit of $tree, empty if there is none, $seconds to its time, $count to the number of commits up to
# it (0 in a shallow clone), and $clean to 1 if $tree has exactly its files, else 0
find_commit() {
  find_head
  commit=$head count=0 clean=1
  [ -n "$commit" ] || return 0
  # git tells kind and size by an object's first bytes; the whole of it may unpack to any size.
  git_says kind cat-file -t "$commit" && [ "$(cat "$state/kind")" = commit ] && git_says size cat-file -s "$commit" \
    && [ "$(cat "$state/size")" -le 1048576 ] || { commit=; return 0; }
  git_says commit cat-file commit "$commit"
  seconds=$(awk '/^committer / { print $(NF - 1); exit } /^$/ { exit }' "$state/commit")
  case $seconds in '' | *[!0-9]*) commit= ;; esac
  [ -e "$common/shallow" ] || ! git_says count rev-list --count "$commit" || count=$(cat "$state/count")
  is_clean || clean=0
}

# is_clean: whether $tree has exactly the files of the commit $head. New files count, since they are sent; so do files that git is told
# to skip or to take for unchanged. Submodules are not looked into: their own settings may name programs. Of the caller's own
# configuration, git may run a filter (git-lfs) for a file that was touched.
is_clean() {
  git_says changed update-index -q --ignore-submodules --refresh # a file that was only touched is the same
  git_says changed diff-index --cached --quiet --ignore-submodules=all "$head" \
    && git_says changed diff-files --quiet --ignore-submodules=all \
    && git_says changed ls-files -z --others --exclude-standard && [ ! -s "$state/changed" ] \
    && git_says changed ls-files -v && ! grep -q '^[Sa-z]' "$state/changed"
}

# tell_commit WITH: appends to $state/commits what find_commit has found for $tree, and WITH, which is 1 if its submodules are sent,
# else 0: six words that end with a zero byte
tell_commit() { [ -z "$commit" ] || printf '%s\0' "$tree" "$commit" "$seconds" "$count" "$clean" "$1" >> "$state/commits" || no_room; }

# wants_modules: whether a flake in $state/found asks for its repository's submodules (`inputs.self.submodules = true`)
wants_modules() {
  tr '\0' '\n' < "$state/found" | grep '/flake\.nix$' | (
    cd / && while read -r file; do
      ! [ -f "$file" ] || ! grep -q 'submodules *= *true' "$file" 2> /dev/null || exit 0
    done
    exit 1
  )
}

# list_modules OPTION: adds to $state/found the files of all submodules below $tree, each listed as a repository of its own; an error
# names OPTION. Sets $clean to 0 if a submodule does not have exactly the files of the commit that its repository names.
# shellcheck disable=SC2094 # the loop adds the submodules of submodules to the list that it reads
list_modules() {
  top=$tree
  : > "$state/modules"
  find_modules ''
  while read -r linked module; do
    tree=$top/$module
    if [ -e "$tree/.git" ] && [ "$(physical "$tree")" = "$(physical "$top")/$module" ] && in_repository "$1" "$tree"; then
      list_files "$1"
      find_modules "$module/"
      find_head
      [ "$head" = "$linked" ] && is_clean || clean=0
    else # not checked out
      clean=0
    fi
  done < "$state/modules"
  tree=$top
}

# find_modules PREFIX: adds a line to $state/modules for each submodule of $tree's repository: its commit, and its path after PREFIX
find_modules() {
  git_says entries ls-files -s -z
  tr '\0' '\n' < "$state/entries" \
    | prefix=$1 awk '/^160000 / { commit = $2; sub(/^[^\t]*\t/, ""); print commit, ENVIRON["prefix"] $0 }' >> "$state/modules" || no_room
}

# names_flake OPTION PATH: whether OPTION names PATH as a flake's folder
names_flake() {
  case $1:$2 in --flake:*) ;; --with:*.nix | --with:*.toml) return 1 ;; --with:*) ;; *) return 1 ;; esac
}
