# What this computer's kernel tells of the files of a large folder, by which a later run sees what has changed.
# shellcheck shell=sh

# list_facts: writes to $state/facts the time, what tells one mount of the disk from another, and $tree; then a line for each file, folder
# and link below $tree: inode, size, times of change of content and of the file itself, mode in hexadecimal digits, path. This computer's
# kernel alone sets the second time. Fails if stat cannot tell, or a name has a line end.
list_facts() {
  tells_changes && find_stat && mount=$(tell_mount) || return
  printf '%s\n' "$(date +%s)" "$mount" "$tree" > "$state/facts"
  # What git lists are files; the list of another folder has that folder, or, without the output folder, all that lies beside that.
  if [ "$(head -c 5000 "$state/large.$number.list" | tr '\0' '\n')" = "./${tree#/}/." ]; then
    (cd / && find "./${tree#/}" -print0)
  else
    # shellcheck disable=SC2016 # another shell's program
    (cd / && xargs -0 sh -c 'find "$@" -print0' sh < "$state/large.$number.list")
  fi > "$state/names" 2> "$state/log" || return
  # shellcheck disable=SC2086 # a word and its value
  (cd / && xargs -0 stat $stat_option "$stat_format" < "$state/names") > "$state/lines" 2> "$state/log" || return
  [ "$(tr -cd '\0' < "$state/names" | wc -c)" -eq "$(wc -l < "$state/lines")" ] || return
  cat "$state/lines" >> "$state/facts" || no_room
}

# tells_changes: whether the file system of $tree has a time of change that this computer's kernel alone sets. FAT has none, and of a
# shared folder another computer may say anything: there a file can change and look as it was before. A mount below $tree may be such a
# one.
tells_changes() {
  ! mount | below=" on $(physical "$tree")/" awk 'index($0, ENVIRON["below"]) { found = 1 } END { exit !found }' || return 1
  kind=$(stat -f -c %T "$tree" 2> /dev/null) \
    || kind=$(mount | device=$(device_of "$tree") awk 'index($0, ENVIRON["device"] " on ") == 1 { sub(/.*\(/, ""); sub(/[,)].*/, ""); print; exit }')
  case $kind in ext2/ext3 | xfs | btrfs | f2fs | tmpfs | apfs | hfs) ;; *) return 1 ;; esac
}

device_of() { df -P "$1" 2> /dev/null | awk 'END { print $1 }'; }

# tell_mount: prints a word that is another one for another mount of $tree's disk, if another computer may have written to it meanwhile: since
# this computer's start, and since the disk was attached, which Linux counts. Fails on a Linux that does not (before 5.15).
tell_mount() {
  mount=$(stat "$stat_option" %d "$tree") || return
  start=$(cat /proc/sys/kernel/random/boot_id 2> /dev/null || sysctl -n kern.bootsessionuuid 2> /dev/null) || return
  disk=
  if [ "$kind" != tmpfs ] && [ -d /proc/self ]; then
    device=$(readlink -f "$(device_of "$tree")")
    disk=$(cat "/sys/class/block/${device##*/}/diskseq" 2> /dev/null || cat "/sys/class/block/${device##*/}/../diskseq" 2> /dev/null) || return
  fi
  printf %s "$mount/$start/$disk"
}

# find_stat: sets $stat_option and $stat_format for this computer's stat, with fractions of seconds where it has them
find_stat() {
  stat_option=-c
  for second in .9 ''; do
    stat_format="%i %s %${second}Y %${second}Z %f %n"
    case $(stat -c "$stat_format" / 2> /dev/null) in
      *[0-9]' '[0-9]*.[0-9]*' '[0-9]*.[0-9]*' '[0-9a-f]*' /') return ;;
      *.* | *%* | '') ;;
      *[0-9]' '[0-9]*' '[0-9]*' '[0-9a-f]*' /') return ;;
    esac
  done
  stat_option=-f stat_format='%i %z %Fm %Fc %Xp %N'
  case $(stat -f "$stat_format" / 2> /dev/null) in *[0-9]' '[0-9]*' /') ;; *) return 1 ;; esac
}
