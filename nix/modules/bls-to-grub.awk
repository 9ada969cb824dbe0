# Makes grub.cfg from systemd-boot's files: awk -f bls-to-grub.awk loader/loader.conf loader/entries/*.conf
# Newest generation first, in it the system before its specialisations. The default entry is loader.conf's, unless that is a
# pattern. A counter of boots (+3-1) is no part of an entry's name.
function quoted(text,    words, count, at, result) {
  count = split(text, words, /[ \t]+/)
  for (at = 1; at <= count; at++) {
    if (words[at] !~ /^[A-Za-z0-9_.\/:,=@%+-]*$/) {
      gsub(/'/, "'\\''", words[at])
      words[at] = "'" words[at] "'"
    }
    result = result (at > 1 ? " " : "") words[at]
  }
  return result
}
function before(one, other) {
  if (generation[one] != generation[other]) return generation[one] > generation[other]
  return field[one, "title"] < field[other, "title"]
}
FILENAME ~ /loader\.conf$/ {
  if ($1 == "timeout") timeout = $2
  if ($1 == "editor") locked = $2 ~ /^(0|n|no|f|false|off)$/
  if ($1 == "preferred" || $1 == "default" && default_entry == "") default_entry = $2
  next
}
FNR == 1 {
  id = FILENAME
  sub(/.*\//, "", id)
  sub(/(\+[0-9]+(-[0-9]+)?)?\.conf$/, "", id)
  ids[++total] = id
}
{
  key = $1
  value = $0
  sub(/^[ \t]*[^ \t]+[ \t]+/, "", value)
  if (key == "initrd") initrd[id] = initrd[id] " " value
  else field[id, key] = value
  if (key == "version" && match(value, /[0-9]+/)) generation[id] = substr(value, RSTART, RLENGTH) + 0
}
END {
  print "serial --unit=0 --speed=115200"
  print "terminal_input console serial"
  print "terminal_output console serial"
  print "set timeout=" (timeout ~ /^[0-9]+$/ ? timeout : -1)
  # Without superusers nobody edits an entry.
  if (locked) print "set superusers=\"\""
  sub(/\.conf$/, "", default_entry)
  if (default_entry != "" && default_entry !~ /[*?]/) print "set default=\"" default_entry "\""
  for (rank = 1; rank <= total; rank++) {
    id = ""
    for (at = 1; at <= total; at++) {
      if (!(ids[at] in done) && (id == "" || before(ids[at], id))) id = ids[at]
    }
    done[id]
    printf "menuentry \"%s - %s\" --id \"%s\"%s {\n", field[id, "title"], field[id, "version"], id, locked ? " --unrestricted" : ""
    printf "  linux %s %s\n", field[id, "linux"], quoted(field[id, "options"])
    if (initrd[id] != "") printf "  initrd%s\n", initrd[id]
    print "}"
  }
}
