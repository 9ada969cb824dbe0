# Finds the images in the output folder that an earlier run has delivered, and that are whole: a fleet's next run need not make them.
# shellcheck shell=sh

# note_delivered: has the results of whole images in $out sent, with their checksums and signatures
note_delivered() {
  show_life "checking the images in $out" $$
  for file in "$out"/*.sha256; do
    name=${file##*/}
    name=${name%.sha256}
    is_small "$file" && is_small "$out/$name.result.json" && is_ours "$name" && is_ours "$name.result.json" && is_whole "$name" || continue
    for behind in .result.json .sha256 .sha256.sig; do
      ! is_small "$out/$name$behind" || cp -p "$out/$name$behind" "$state/.delivered/" || no_room
    done
    [ -z "$stopped" ] || break
  done
  end_life
  end_if_stopped "the check of the images in $out"
}

# is_whole NAME: whether the image NAME in $out and the files beside it have their checksums
is_whole() {
  seen=
  while read -r sum each; do
    case $each in "$1" | "$1".*) is_file "$out/$each" && [ "$(checksum "$out/$each")" = "$sum" ] || return ;; *) return 1 ;; esac
    [ "$each" != "$1" ] || seen=$sum
  done < "$out/$1.sha256"
  is_sum "$seen" && grep -qF "\"sha256\": \"$seen\"" "$out/$1.result.json"
}
