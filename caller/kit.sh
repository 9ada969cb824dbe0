# Reads a kit (`kit import FILE`): checks everything in it before the engine gets anything. A kit is a tar archive of plain files
# (orchestrator/deliver/kit.py). It may be anybody's, so run.sh reads its headers itself and unpacks no member under a name of the
# kit's choice.
# shellcheck shell=sh

# check_kit ARGUMENTS...: sets $kit, the kit that `kit import ARGUMENTS` names, and checks it; ends run.sh if anything is wrong
check_kit() {
  shift 2
  signer='' asked=''
  while [ $# -gt 0 ]; do
    case $1 in
      --public-key=*) asked=1 signer=${1#*=} ;;
      --public-key) asked=1 signer=${2-}; [ $# = 1 ] || shift ;;
      --progress | --log-format) [ $# = 1 ] || shift ;;
      -q | --quiet | -v | --verbose | --progress=* | --log-format=*) ;;
      -*) die 2 "kit import: unrecognized option $1" "./run.sh kit --help" ;;
      *) [ -z "$kit" ] || die 2 "kit import takes one file" "./run.sh kit --help"; kit=$1 ;;
    esac
    shift
  done
  [ -n "$kit" ] || die 2 "kit import: which file?" "./run.sh kit import FILE"
  absolute "$kit"; kit=$absolute
  [ -f "$kit" ] && [ -r "$kit" ] || die 2 "$kit: no such file, or it cannot be read" "mend the path; ls -l shows who may read it"
  list_members
  read_manifest
  [ -z "$asked" ] || check_signer
  check_lines
  with_life 7200 "checking $kit" check_sums || { end_if_stopped "the check of $kit"; bad_kit "$(tail -n 1 "$state/log")"; }
}

# bad_kit REASON: ends run.sh because the kit is refused; nothing of it has been used
bad_kit() { die 14 "$kit is refused: $1" "copy it again, or have it made again: ./run.sh kit export FILE"; }

# awk program that reads a header of tar as numbers of bytes, and prints: name, size in bytes; or `end` for zeros alone; or nothing if
# it is not that of a plain file with a simple name, as `kit export` writes it. All but name, size and checksum is the same in each
# header, to the byte: Docker reads headers, too, and a header that it reads differently would hide members from run.sh.
# shellcheck disable=SC2016  # awk's own variables
header='
  { for (i = 1; i <= NF; i++) byte[n++] = $i }
  END {
    if (n != 512) exit
    for (i = 0; i < 512; i++) { all += byte[i]; sum += i >= 148 && i < 156 ? 32 : byte[i] }
    if (!all) { print "end"; exit }
    for (i = 148; i < 154; i++) { if (byte[i] < 48 || byte[i] > 55) exit; said = said * 8 + byte[i] - 48 }
    if (said != sum) exit
    # Mode, owner and group in seven digits, time in eleven, a plain file, "ustar"; zeros between them and after them.
    for (i = 100; i < 124; i++) same[i] = i % 8 == 3 ? 0 : 48
    same[104] = 54; same[105] = same[106] = 52
    for (i = 136; i < 147; i++) same[i] = 48
    same[155] = 32; same[156] = same[263] = same[264] = 48
    same[257] = 117; same[258] = 115; same[259] = 116; same[260] = 97; same[261] = 114
    for (i = 100; i < 512; i++) if ((i < 124 || i > 134) && (i < 148 || i > 153) && byte[i] + 0 != same[i] + 0) exit
    for (i = 0; i < 99 && byte[i]; i++) {
      one = sprintf("%c", byte[i])
      if (!index("abcdefghijklmnopqrstuvwxyz0123456789.", one)) exit
      name = name one
    }
    for (; i < 100; i++) if (byte[i]) exit
    for (i = 124; i < 135; i++) { if (byte[i] < 48 || byte[i] > 55) exit; size = size * 8 + byte[i] - 48 }
    if (name != "") printf "%s %.0f\n", name, size
  }'

# list_members: writes NAME SIZE for each member of $kit to $state/members, their headers to $state/headers, and sets $kit_blocks to what
# they take, in blocks of 512 bytes. After them must come zeros alone, two blocks.
list_members() {
  bytes=$(($(wc -c < "$kit")))
  [ "$((bytes % 512))" = 0 ] || bad_kit "it is cut off, or no kit"
  kit_blocks=0 count=0
  : > "$state/members"
  : > "$state/headers"
  while :; do
    dd if="$kit" bs=512 skip="$kit_blocks" count=1 2> /dev/null > "$state/header" || no_room
    od -An -v -tu1 < "$state/header" | LC_ALL=C awk "$header" > "$state/member"
    read -r name size < "$state/member" || bad_kit "member $((count + 1)) is no plain file with a simple name, or it is cut off"
    [ "$name" != end ] || break
    count=$((count + 1))
    [ "$count" -le 999 ] || bad_kit "it has too many members"
    printf '%s %s\n' "$name" "$size" >> "$state/members" && cat "$state/header" >> "$state/headers" || no_room
    kit_blocks=$((kit_blocks + 1 + (size + 511) / 512))
    [ "$((kit_blocks * 512))" -le "$bytes" ] || bad_kit "it is cut off in the middle of $name"
  done
  [ "$bytes" -ge "$((kit_blocks * 512 + 1024))" ] || bad_kit "it is cut off at its end"
  [ "$bytes" = "$((kit_blocks * 512 + 1024))" ] || bad_kit "there is more behind its end"
  [ -z "$(cut -d ' ' -f 1 "$state/members" | sort | uniq -d)" ] || bad_kit "two of its members have the same name"
}

# read_manifest: writes the manifest and its signature, if there is one, to $state/manifest and $state/manifest.sig
read_manifest() {
  at=0
  while read -r name size; do
    case $name in
      manifest | manifest.sig)
        [ "$size" -le 1048576 ] || bad_kit "its $name is too large"
        dd if="$kit" bs=512 skip=$((at + 1)) count=$(((size + 511) / 512)) 2> /dev/null | head -c "$size" > "$state/$name" || no_room
        ;;
    esac
    at=$((at + 1 + (size + 511) / 512))
  done < "$state/members"
  [ -s "$state/manifest" ] || bad_kit "it has no manifest"
  read -r kind < "$state/manifest"
  case $kind in
    'nixos-image-kit 1') ;;
    'nixos-image-kit '[0-9]*) bad_kit "this checkout does not know its version" ;;
    *) bad_kit "its manifest is none" ;;
  esac
  [ "$(LC_ALL=C tr -d '\n -~' < "$state/manifest" | wc -c)" -eq 0 ] && [ "$(tail -n 1 "$state/manifest")" = end ] \
    || bad_kit "its manifest is damaged"
}

# check_signer: ends run.sh unless the key in the file $signer has signed the manifest, which has the checksums of all else
check_signer() {
  [ -f "$signer" ] && [ -r "$signer" ] || die 2 "--public-key: $signer is not a file that can be read" "ls -l shows what it is, and who may read it"
  refuse_private --public-key "$signer"
  [ -s "$state/manifest.sig" ] || bad_kit "it is not signed, and --public-key asks for a signature"
  command -v ssh-keygen > /dev/null || die 4 "ssh-keygen, which checks signatures, was not found" "install OpenSSH's client"
  sed -n '/^[a-z]/ { s/^/kit namespaces="nixos-image-kit" /p; q; }' "$signer" > "$state/signers"
  ssh-keygen -Y verify -n nixos-image-kit -I kit -f "$state/signers" -s "$state/manifest.sig" < "$state/manifest" > "$state/log" 2>&1 \
    || bad_kit "the key in $signer has not signed it"
}

# check_sums: compares each member with its checksum; prints what is wrong. The kit is read once, from its beginning to its end.
check_sums() {
  while read -r name size; do
    sum=$(sed -n "s/^file \\([0-9a-f]*\\) $size $name\$/\\1/p" "$state/manifest")
    blocks 1 > /dev/null <&5
    case $name in
      manifest | manifest.sig) blocks $(((size + 511) / 512)) > /dev/null <&5 ;;
      *) [ "$(blocks $(((size + 511) / 512)) <&5 | head -c "$size" | put_sum)" = "$sum" ] || { echo "$name has changed: wrong checksum"; return 1; } ;;
    esac
  done < "$state/members" 5< "$kit"
}

# blocks NUMBER: copies that many blocks of 512 bytes of a file on stdin to stdout, and reads no further
blocks() {
  [ "$1" -lt 2048 ] || dd bs=1048576 count=$(($1 / 2048)) 2> /dev/null
  [ $(($1 % 2048)) = 0 ] || dd bs=512 count=$(($1 % 2048)) 2> /dev/null
}
