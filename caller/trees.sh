# Large folders that are sent stay with the engine, each in a volume of its own: of a folder that was sent before, only what has changed is
# sent again. orchestrator/run/kept_trees.py is the other side.
# shellcheck shell=sh

# Least size in KiB of a folder that is kept: a smaller one is sent faster than it is compared.
large=8192

# note_large: keeps for keep_trees the list $state/found of the files of $tree, which has $kib KiB
note_large() {
  larges=$((larges + 1))
  printf %s "$tree" > "$state/large.$larges.tree"
  printf %s "$kib" > "$state/large.$larges.kib"
  cp "$state/found" "$state/large.$larges.list" || no_room
}

# keep_trees: brings the engine's copies of the large folders up to date. A folder that cannot be kept is sent whole, with the other files.
keep_trees() {
  number=0
  while [ $number -lt "$larges" ]; do
    number=$((number + 1))
    tree=$(cat "$state/large.$number.tree") kib=$(cat "$state/large.$number.kib")
    if may_keep && list_facts && keep_tree; then
      printf '%s\0' "$tree" "$key" "$generation" >> "$state/mounted" || no_room
      # A field of comma-separated values may have any letters between quotes.
      printf 'type=volume,source=nixos-image-tree-%s,readonly,"target=/var/nixos-image/%s/input%s"\n' "$key" "$run" \
        "$(printf %s "$tree" | sed 's/"/""/g')" >> "$state/mounts" || no_room
    else
      say "sending $tree: $(mebibytes)"
      cat "$state/large.$number.list" >> "$state/whole" || no_room
    fi
  done
}

mebibytes() { printf '%s.%s MiB' $((kib / 1024)) $((kib % 1024 * 10 / 1024)); }

# may_keep: whether $tree may be kept. A folder with a secret may not: the secret must be taken out of what is sent, and an earlier copy of
# the folder, of a run that did not call it a secret, has to go. Nor may a folder in another one that is sent, because volumes cannot
# overlap the files of others.
may_keep() {
  key=$(printf '%s\0' "$(uname -n)" "$(id -u)" "$tree" > "$state/key"; checksum "$state/key")
  key=$(printf %.32s "$key")
  within=0
  while IFS="$tab" read -r _option secret; do
    find_moved "$secret"
    case $secret$tab$moved in "$tree"/* | *"$tab$tree"/*) within=1 ;; esac
  done < "$state/secrets"
  if [ $within = 1 ]; then
    regardless ask_within "$heavy" volume rm "nixos-image-tree-$key" || :
    return 1
  fi
  tr '\0' '\n' < "$state/trees" | (
    while IFS= read -r other; do
      case $other in "$tree") ;; "$tree"/*) exit 1 ;; *) case $tree in "${other%/}"/*) exit 1 ;; esac ;; esac
    done
  )
}

# keep_tree: has the engine's copy of $tree compared with $state/facts, and sends what has changed; sets $generation to the copy's name.
# The engine says numbers of lines: it can ask for no file that is not in the list.
keep_tree() {
  with_trees compare pack_facts || return
  IFS= read -r generation < "$state/answer"
  case $generation in
    same' '*) generation=${generation#same }; say "$tree: as it was, nothing is sent" ;;
    new | changed)
      awk 'FILENAME == ARGV[1] { if (FNR > 1) wanted[$1 + 0]; next }
           FNR in wanted { sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ /, ""); print }' "$state/answer" "$state/lines" > "$state/wanted" \
        && tr '\n' '\0' < "$state/wanted" > "$state/changed" || no_room
      count=$(tr -cd '\0' < "$state/changed" | wc -c)
      if [ "$generation" = new ]; then say "sending $tree: $(mebibytes)"; else say "sending $tree: $((count)) changed files"; fi
      with_trees update pack_changed "--mount type=volume,source=nixos-image-tree-$key,target=/tree,volume-label=$label" \
        "$(checksum "$state/facts")" || return
      IFS= read -r generation < "$state/answer"
      ;;
    *) return 1 ;;
  esac
  case $generation in '' | *[!0-9a-f]*) return 1 ;; esac
}

pack_facts() { cat "$state/facts"; }

# pack_changed: writes the files of $state/changed as a tar stream
pack_changed() {
  # shellcheck disable=SC2086 # flags, or none
  [ ! -s "$state/changed" ] || xargs -0 tar -cf - $tar_sends -C / < "$state/changed"
}

# with_trees ACTION FEEDER [OPTIONS [SUM]]: has the orchestrator do ACTION for the copy $key, with what FEEDER writes, docker's OPTIONS and
# the SHA-256 of what was compared; its answer is in $state/answer
with_trees() {
  container=nixos-image-$run-trees
  { trap '' HUP TERM; $2 | start -i "${3-}" -- trees "$1" "$key" ${4+"$4"} > "$state/answer" 2> "$state/log"; } &
  sender=$!
  case $1 in compare) show_life "comparing $tree with the engine's copy" $sender ;; *) show_life "sending $tree" $sender ;; esac
  await_client $sender
  trees_code=$?
  end_life
  container=
  end_if_stopped "the sending of files"
  heed_end
  [ $trees_code = 0 ]
}
