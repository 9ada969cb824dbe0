# Writes an image to a disk of this computer (`flash`). A container does it that has only that disk, or, where the engine does not
# see this computer's disks, dd (caller/dd.sh). The orders have set $image and $disk_path, $yes and $no_verify; $dry_run
# is from the command line.
# shellcheck shell=sh

flash() {
  [ -f "$image" ] && [ -r "$image" ] || die 2 "$image: no such image, or it cannot be read" "ls $(shell_word "${image%/*}") shows what is there"
  [ -s "$image" ] || die 2 "$image is empty" "copy or download it again"
  find_packer
  find_sizes
  anew="./run.sh flash IMAGE lists the disks"
  case $(uname -s) in Linux) ;; *) tell_elsewhere; return ;; esac
  if grep -qi microsoft "$proc/version" 2> /dev/null; then
    say "WSL has no card readers: use PowerShell, as administrator"
    tell_windows "$(wslpath -w "$image" 2> /dev/null || printf %s "$image")"
    return
  fi
  [ -n "$disk_path" ] || choose_disk
  find_disk
  checksums_right
  find_sudo
  way=$(why_dd)
  method="a container that has only this disk"
  [ -z "$way" ] || method="dd${sudo:+ and sudo}, because $way"
  say "image: $image$(if [ "$image_bytes" != 0 ]; then printf ', %s' "$(size_of "$image_bytes")"; fi)${packer:+, packed by $packer}"
  say "disk:  $disk_path, $(size_of "$disk_bytes"), $disk_kind${disk_model:+, $disk_model}"
  say "by:    $method${map:+; by the block map $map}"
  if [ -n "$dry_run" ]; then say "nothing was written: --dry-run"; return; fi
  confirm
  if [ -n "$way" ]; then write_with_dd; else write_in_container; fi
}

# choose_disk: lists the disks; asks for one on a terminal, else ends run.sh
choose_disk() {
  list_disks >&2
  [ -t 3 ] && [ -t 2 ] || die 2 "no disk was named: nothing was written" "./run.sh flash $(shell_word "$image") DEVICE"
  printf 'Write %s to which disk (empty: none)? ' "${image##*/}" >&2
  read -r disk_path <&3 || disk_path=
  [ -n "$disk_path" ] || die 2 "no disk was named: nothing was written" "./run.sh flash $(shell_word "$image") DEVICE"
}

# find_disk: checks $disk_path, and sets what is known of the disk, $disk_bytes and $disk_number; a file is used as a disk, too
find_disk() {
  if [ -f "$disk_path" ]; then
    disk_bytes=$(($(wc -c < "$disk_path"))) disk_number=0:0 disk_kind='a file' disk_model=
    [ -w "$disk_path" ] || die 2 "$disk_path cannot be written to" "chmod u+w $(shell_word "$disk_path")"
    [ "$disk_bytes" -ge "$image_bytes" ] || die 2 "$disk_path is too small: it has $disk_bytes bytes, the image $image_bytes" \
      "truncate -s $image_bytes $(shell_word "$disk_path")"
    return
  fi
  [ -e "$disk_path" ] || die 2 "$disk_path: no such device" "$anew"
  [ -b "$disk_path" ] || die 2 "$disk_path is not a disk" "$anew"
  # shellcheck disable=SC2012  # the numbers of a device file have no spaces
  number=$(ls -lL "$disk_path" | awk '{ sub(",", "", $5); print $5 ":" $6 }')
  name=$(readlink -f "$sys/dev/block/$number") && [ -d "$name" ] || die 2 "$disk_path: no such device" "$anew"
  check_disk "${name##*/}" "$disk_path" "$image_bytes"
  disk_path=$(readlink -f "$disk_path") # Docker takes no path with a colon, which links may have
}

# confirm: asks on a terminal whether the disk may be erased; ends run.sh if not, or if there is nobody to ask
confirm() {
  [ -z "$yes" ] || return 0
  [ -t 3 ] && [ -t 2 ] || die 2 "nobody can be asked whether $disk_path may be erased" "add --yes"
  printf 'All data on %s will be lost. Type yes to go on: ' "$disk_path" >&2
  read -r answer <&3 || answer=
  [ "$answer" = yes ] || die 2 "nothing was written"
}

# write_in_container: writes in a container that has only the disk; the image is its stdin, after a line of facts and the map. Its
# memory is for an unpacker with 1 GiB (orchestrator/deliver/flash.py) and a block map.
write_in_container() {
  container=nixos-image-$run
  set --
  [ -z "$no_verify" ] || set -- --no-verify
  map_bytes=0
  [ -z "$map" ] || map_bytes=$(($(wc -c < "$map")))
  # shellcheck disable=SC2086  # options are split on purpose
  {
    trap '' HUP TERM
    {
      echo "$map_bytes $image_bytes $disk_bytes $disk_number ${packer:-none}"
      cat ${map:+"$map"} "$image"
    } 2> /dev/null | client run --rm --interactive --log-driver none $userns --name "$container" --label $label \
      --label "org.nixos-image.run=$run" --network none --read-only --cap-drop ALL --security-opt no-new-privileges --pids-limit 64 --memory 1536m \
      --device "$disk_path:/dev/nixos-image-disk" --env NIXOS_IMAGE_COLUMNS="$columns" \
      "$orchestrator_id" orchestrator flash "$@" -- "$image" "$disk_path"
  } &
  await_client $!
  code=$?
  container=
  heed_end
  case $code in
    125) die 3 "Docker could not start the writer" "see Docker's message above; docs/flash.md says how to write by hand" ;;
    126 | 127) # its runtime could not start the program: so it is where the engine itself is in a user namespace
      say "the engine cannot give $disk_path to a container: dd${sudo:+ and sudo} writes"
      write_with_dd
      return
      ;;
    137) die 17 "the writer was killed: the content of $disk_path is incomplete" "repeat the command" ;;
  esac
  return $code
}

# why_dd: prints why dd must write; nothing if a container can
why_dd() {
  if [ -f "$disk_path" ]; then echo "it is a file"; return; fi
  case $endpoint:$engine in
    unix:*Desktop*) echo "Docker Desktop's virtual machine does not see the disks" ;;
    unix:*name=rootless*) echo "a rootless engine must not open disks" ;;
    unix:*) ;;
    *) echo "the engine is on another computer" ;;
  esac
}
