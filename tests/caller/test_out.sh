#!/bin/sh
# Tests the output folder: whose files are replaced, and in which order. run.sh runs with a fake docker. Needs no engine.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"
. "$(dirname -- "$0")/out.sh"

# --- whose files are replaced ---------------------------------------------------------------------------------------------

fresh
whole first
expect "an image and all that lies beside it arrive" 0 '' builds
check "under their names" test "$(find "$out" -type f | wc -l)" = 10
check "and nothing else" no_lock
check "with their checksums" is_of first
# Sending a configuration and receiving images are the same process' work.
mkdir "$work/machines"
echo '{ }' > "$work/machines/pi.nix"
builds_configuration() {
  : > "$work/orders"
  order out_dir --out "$out"
  order send_tree --configuration "$work/machines/pi.nix"
  run_sh -c "$work/machines/pi.nix" -o "$out"
}
fresh
expect "the image of a configuration that is sent arrives" 0 '' builds_configuration
fresh
git -c init.defaultBranch=main init -q "$work/machines"
expect "and that of one in a repository" 0 '' builds_configuration
fresh
builds > /dev/null 2>&1
whole second
expect "what a run has made, the next one replaces" 0 '' builds
check "all of it" is_of second
hands_over third a.img a.img.provenance.json a.img.sha256
touch "$out/a.img.txt"
expect "a run that makes less of an image" 0 '' builds
check "leaves nothing of the one before beside it, but what is the user's" \
  test "$(cd "$out" && echo *)" = 'a.img a.img.provenance.json a.img.sha256 a.img.txt result.json'

for own in a.img a.img.sha256 a.img.sha256.sig a.img.provenance.json a.img.cdx.json a.img.bmap a.img.result.json a.img.serial.log a.img.log; do
  fresh
  echo mine > "$out/$own"
  whole first
  expect "a $own that no run has made stays" 8 "^error: the image could not be written to $out: $out/$own exists" builds
  check "with the way out" grep -q '^try: use --force' "$work/err"
  check "and nothing else is there" test "$(ls -A "$out")" = "$own" -a "$(cat "$out/$own")" = mine
  expect "with --force it goes" 0 '' builds --force
  check "as all that is handed over comes" is_of first
done

fresh
echo mine > "$out/elsewhere"
ln -s "$out/elsewhere" "$out/a.img"
expect "nor is a link replaced" 8 'a.img exists' builds
check "nor what it leads to" holds elsewhere mine
rm "$out/a.img"
mkdir "$out/a.img.log"
expect "nor a folder, even with --force" 8 'a.img.log is a folder' builds --force
check "which is still there" test -d "$out/a.img.log"

fresh
whole first
builds > /dev/null 2>&1
echo data >> "$out/a.img"
whole second
expect "an image that a machine has written to is its user's" 8 'a.img exists' builds
check "and stays" holds a.img data
check "with what lies beside it" holds a.img.log first
expect "until it is given up" 0 '' builds --force

# pack_stream_of_tomorrow: as pack_stream, on an engine whose clock is a day ahead
pack_stream_of_tomorrow() {
  find "$work/stream.d" -type f -exec touch -d tomorrow {} +
  # shellcheck disable=SC2086  # names
  pack_stream $all a.img.bmap
}

fresh
whole first
pack_stream_of_tomorrow
builds > /dev/null 2>&1
sleep 0.01
echo data >> "$out/a.img"
whole second
expect "it is, whatever the time is where the engine runs" 8 'a.img exists' builds
check "and stays there" holds a.img data
fresh
whole first
pack_stream_of_tomorrow
builds > /dev/null 2>&1
whole second
expect "and one that none has written to is not" 0 '' builds
check "but replaced" is_of second
check "for another one" is_of second
rm "$out/a.img.provenance.json"
expect "one without its provenance is nobody's of ours" 8 'exists and was not made' builds
fresh
echo mine > "$out/disk.img"
echo mine > "$out/result.json"
hands_over first disk.img.provenance.json
expect "a provenance does not come without its image" 8 'disk.img.provenance.json came without its image' builds
check "so the next run does not take the user's file for an image of ours" test "$(ls "$out")" = "$(printf '%s\n' disk.img result.json)"
hands_over first result.json result.json.provenance.json
builds > "$work/err" 2>&1
expect "nor does one beside a list make it ours" 0 'result.json was not made by this project' builds
check "which stays" holds result.json mine

# --- lists and logs of a run ------------------------------------------------------------------------------------------------

fresh
echo '{"mine": 1}' > "$out/result.json"
whole first
expect "a result.json that is the user's" 0 "^$out/result.json was not made by this project: it is left unchanged" builds
check "stays" holds result.json mine
check "and the image's own is there" holds a.img.result.json first
whole second
expect "with --force it does not" 0 '' builds --force
check "stay" holds result.json second
fresh
echo 'github.com ssh-ed25519 AAAA' > "$out/known_hosts"
hands_over first known_hosts
expect "a known_hosts that is the user's" 0 'known_hosts was not made by this project: it is left unchanged' builds
check "stays" holds known_hosts 'github.com ssh-ed25519 AAAA'
fresh
hands_over first known_hosts
builds > /dev/null 2>&1
hands_over second known_hosts
expect "and one of ours" 0 '' builds
check "is replaced" grep -q second "$out/known_hosts"
fresh
echo mine > "$out/build.log"
hands_over first build.log
expect "a build.log that is the user's" 0 'build.log was not made by this project' builds
check "stays, too" holds build.log mine
rm "$out/build.log"
builds > /dev/null 2>&1
check "where there is none it comes" holds build.log first
hands_over second build.log
expect "the next run's" 0 '' builds
check "takes its place" holds build.log second
whole first
builds > /dev/null 2>&1
hands_over second build.log
builds > /dev/null 2>&1
check "a run that fails leaves the image of the one before, and all beside it" is_of first
check "and the list of images" holds result.json first

# --- what the orchestrator is told --------------------------------------------------------------------------------------------

# told: prints the names of files that the orchestrator is told not to replace, one a line
told() { tar -xOf "$work/sent" ./.kept .kept 2> /dev/null | tr '\0' '\n' | sort; }
fresh
whole first
builds > /dev/null 2>&1
touch "$out/mine" "$out/b.img" "$out/c d.img"
: > "$work/sent"
expect "the orchestrator is told" 0 '' builds
check "what is in the folder and nobody's to replace" test "$(told)" = "$(printf '%s\n' b.img 'c d.img' mine)"
: > "$work/sent"
builds --force > /dev/null 2>&1
check "but not with --force" test -z "$(told)"

# bills: prints the names of the earlier images' bills of materials that the orchestrator gets, one a line
bills() { tar -tf "$work/sent" 2> /dev/null | sed -n 's|^\(\./\)*\.earlier/\(..*\)|\2|p' | sort; }
fresh
whole first
builds > /dev/null 2>&1
echo mine > "$out/b.img.cdx.json"
ln -s a.img.cdx.json "$out/c.img.cdx.json"
: > "$work/sent"
expect "for the report it gets" 0 '' builds
check "the bill of materials of an image that a run has made" test "$(bills)" = a.img.cdx.json
: > "$work/sent"
fresh
expect "and in an empty folder" 0 '' builds
check "none" test -z "$(bills)"

echo force > "$work/orders"
expect "an orchestrator does not force what its user does not" 70 'gave an order that run.sh refuses: force' run_sh demo -o "$out"

# --- order --------------------------------------------------------------------------------------------------------------

recorded_tools
cat > "$work/deed" << EOF
#!/bin/sh
for word; do case \$word in -*) ;; *) printf '%s ' "\$word" ;; esac; done \\
  | sed 's|[.]/files|PART|g; s|$work/images|OUT|g' >> "$work/deeds"
echo >> "$work/deeds"
EOF
chmod +x "$work/deed"

# in_order PATTERN...: whether the first recorded lines that match the patterns come in this order
in_order() {
  before=0
  for pattern; do
    now=$(grep -nE -- "$pattern" "$work/deeds" | sed 's/:.*//;q')
    if [ -z "$now" ] || [ "$now" -le "$before" ]; then
      { echo "not in order: $pattern"; cat "$work/deeds"; } >> "$work/err"
      return 1
    fi
    before=$now
  done
}
fresh
whole first
builds > /dev/null 2>&1
: > "$work/deeds"
whole second
expect "an image takes another one's place" 0 '' builds
check "when it is on the disk and what vouched for the other one is gone; what vouches for it comes last" \
  in_order '^sync .*PART/a.img ' '^rm OUT/a.img.sha256.sig $' '^rm OUT/a.img.sha256 $' '^rm OUT/a.img.provenance.json $' '^sync OUT $' \
  '^mv PART/a.img OUT/ $' '^ln PART/a.img.provenance.json ' '^ln PART/a.img.sha256 ' '^ln PART/a.img.sha256.sig '
check "with the folder on the disk before and after" test "$(awk '
  /holder/ { next } /^mv|^ln/ { kind = /sha256|PART.result.json/ ? "proof" : "file"; if (kind != last) printf "%s ", kind; last = kind }
  /^sync OUT $/ { printf "sync "; last = "" }' "$work/deeds")" = 'sync file sync proof sync '
printf '#!/bin/sh\nexit 1\n' > "$work/bin/sync"
whole third
expect "a disk that does not take it" 8 'could not be written' builds
check "still has the one before" is_of second
check "and no reason is made up" grep -qx "error: the image could not be written to $out" "$work/err"
# The kernel says of /dev/full what it says of a full disk.
mkdir "$work/temporary"
cat > "$work/bin/sync" << EOF
#!/bin/sh
for one in '$work/temporary'/*; do ln -sf /dev/full "\$one/room"; done
exit 1
EOF
builds_there() { (export TMPDIR="$work/temporary" && builds); }
# What is written to this suite's own files would have the limit, too.
with_limit() { (ulimit -f "$1"; TMPDIR=$work/temporary run_sh demo 2>&1; echo "exit code $?") | cat >&2; }
for blocks in 0 1 8; do
  expect "run.sh ends by itself where a file may have $blocks blocks" 0 '^exit code 4$' with_limit "$blocks"
  check "with an error" grep -q "^error: nothing more can be written to $work/temporary" "$work/err"
  check "and removes its folder" test -z "$(ls "$work/temporary")"
done
expect "a full TMPDIR is not the output folder's fault" 4 "^error: nothing more can be written to $work/temporary" builds_there
check "still has the one before, too" is_of second
for tool in mv ln rm sync; do rm "$work/bin/$tool"; done

# --- somebody else at the same moment -------------------------------------------------------------------------------------------

fresh
whole first
cat > "$work/bin/ln" << EOF
#!/bin/sh
# Another program makes the file a moment before.
case "\$*" in *"a.img $out/") echo mine > "$out/a.img" ;; esac
exec $(command -v ln) "\$@"
EOF
chmod +x "$work/bin/ln"
expect "a file that appears in the last moment" 8 'a.img has just been made by another program' builds
check "is not replaced" holds a.img mine
check "and nothing vouches for it" test ! -e "$out/a.img.sha256"
rm "$work/bin/ln"
# Another program makes a file while run.sh waits for the disk: it has looked at all names then, and placed none.
printf '#!/bin/sh\n[ ! -e "%s/.nixos-image.lock" ] || [ -e "%s/a.img" ] || echo mine > "%s/a.img"\n' "$out" "$out" "$out" > "$work/bin/sync"
chmod +x "$work/bin/sync"
fresh
expect "a file that appears after all names were looked at" 8 'a.img has just been made by another program' builds
check "is not replaced, either" holds a.img mine
rm "$work/bin/sync"
printf '#!/bin/sh\nexit 1\n' > "$work/bin/ln"
fresh
expect "a file system without links takes images, too" 0 '' builds
check "whole" is_of first
rm "$work/bin/ln"

# --- two runs -------------------------------------------------------------------------------------------------------------

fresh
cp "$work/bin/docker" "$work/docker"
for text in first second; do
  whole $text
  cp "$work/stream" "$work/$text"
done
# shellcheck disable=SC2016  # the stub's
sed 's|cat "$here/stream"|cat "$here/$RUN_TEXT"|' "$work/docker" > "$work/bin/docker"
: > "$work/orders"
order out_dir --out "$out"
bad=0
for _ in 1 2 3; do
  RUN_TEXT=first run_sh demo -o "$out" > /dev/null 2> "$work/err.first" &
  one=$!
  RUN_TEXT=second run_sh demo -o "$out" > /dev/null 2> "$work/err.second" &
  other=$!
  wait $one || bad=$((bad + 1))
  wait $other || bad=$((bad + 1))
  is_of first || is_of second || bad=$((bad + 1))
  cat "$work/err.first" "$work/err.second" >> "$work/err"
done
check "two runs into one folder: both succeed, and all of it is of one of them" test $bad = 0
check "and no lock stays" no_lock
cp "$work/docker" "$work/bin/docker"

# holder LINE: makes a lock of the output folder whose file `holder` has LINE
holder() {
  rm -rf "$out/.nixos-image.lock"
  mkdir "$out/.nixos-image.lock"
  [ -z "$1" ] || echo "$1" > "$out/.nixos-image.lock/holder"
}
# shellcheck disable=SC2016  # another shell's program
here=$(sh -c 'for part in say sums lock; do . "$0/caller/$part.sh"; done; find_hasher; computer' "$project")
born=$(sed 's/.*) //' "/proc/$$/stat" | cut -d ' ' -f 20)
sleep 300 &
gone=$!
kill $gone
wait $gone 2> /dev/null
whole third
holder "$gone $here 12345"
expect "a dead run's lock is no obstacle" 0 '' builds
check "and is gone" no_lock
holder "$$ $here ${born}1"
expect "nor where its number is another process' by now" 0 '' builds
holder ''
touch -d '2 minutes ago' "$out/.nixos-image.lock"
expect "nor one that nobody has signed" 0 '' builds
holder "$gone $here 12345"
mkdir "$out/.nixos-image.lock.broken"
touch -d '2 minutes ago' "$out/.nixos-image.lock.broken"
expect "nor where somebody died who was breaking it" 0 '' builds
check "and nothing is left" no_lock

# is_waited_for WHAT LINE: checks that run.sh waits for a lock whose holder is LINE, which goes after some seconds
is_waited_for() {
  holder "$2"
  (sleep 3; rm -rf "$out/.nixos-image.lock") &
  freed=$!
  expect "$1 is waited for" 0 '^waiting: another run is writing to' builds
  check "which one line says" test "$(grep -c '^waiting' "$work/err")" = 1
  wait $freed
}
is_waited_for "a living run's lock" "$$ $here $born"
is_waited_for "another machine's lock" "$gone elsewhere.example 12345"
# shellcheck disable=SC2016  # another shell's program
printf '#!/bin/sh\necho "pid:[1]"\n' > "$work/bin/readlink"
chmod +x "$work/bin/readlink"
is_waited_for "that of another container, or of a computer with the same name," "$gone $here 12345"
check "and not taken for a dead run's" grep -q '^waiting: another run' "$work/err"
rm "$work/bin/readlink"
is_waited_for "one that is just being made" ''
# Program `find` of a computer whose clock is ahead of the folder's
# shellcheck disable=SC2016  # another shell's program
printf '#!/bin/sh\ncase "$*" in *"-mmin -"*) ;; *"-mmin +"*) echo "$1" ;; *) exec %s "$@" ;; esac\n' "$(command -v find)" > "$work/bin/find"
chmod +x "$work/bin/find"
is_waited_for "one that is just being made, where this computer's clock is ahead," ''
check "and is not broken, whatever time it is here" grep -q '^waiting: another run' "$work/err"
rm "$work/bin/find"

# part RUN-PID LINE: makes a partial delivery that is an hour old, whose file `holder` has LINE
part() {
  mkdir -m 700 "$out/.nixos-image-$1.part"
  mkdir "$out/.nixos-image-$1.part/files"
  [ -z "$2" ] || echo "$2" > "$out/.nixos-image-$1.part/holder"
  touch -d '1 hour ago' "$out/.nixos-image-$1.part"
}
part "a-$gone" "$gone $here 12345"
part "b-$gone" "$gone elsewhere.example 12345"
part "c-$$" "$$ $here $born"
part "d-$gone" ''
# Folders of this user's, which another user has given such a name: one that others may enter, one of years, and one that others may write to.
for name in e f g; do part "$name-$gone" ''; mkdir "$out/.nixos-image-$name-$gone.part/2023"; done
echo "$gone $here 12345" > "$out/.nixos-image-e-$gone.part/holder"
chmod 755 "$out/.nixos-image-e-$gone.part"
: > "$out/.nixos-image-f-$gone.part/2023/a.jpg"
chmod 777 "$out/.nixos-image-g-$gone.part"
touch -d '1 hour ago' "$out"/.nixos-image-*.part
whole third
expect "partial deliveries of dead runs are no obstacle" 0 '' builds
check "and are gone" [ ! -e "$out/.nixos-image-a-$gone.part" ]
check "also one that nobody has signed" [ ! -e "$out/.nixos-image-d-$gone.part" ]
check "one of a run on another computer, with another engine, stays" [ -e "$out/.nixos-image-b-$gone.part" ]
check "so does a living run's" [ -e "$out/.nixos-image-c-$$.part/files" ]
for name in e f g; do
  check "a folder that another user has given the name of a delivery stays" [ -e "$out/.nixos-image-$name-$gone.part/2023" ]
  check "and is named" grep -q "^$out/.nixos-image-$name-$gone.part has the name of a partial delivery" "$work/err"
done
check "as no delivery is" [ "$(grep -c 'has the name of a partial' "$work/err")" = 3 ]
rm -rf "$out"/.nixos-image-*.part
holder "$$ $here $born"
whole fourth
: > "$work/err"
# SIGINT has its default action, as in a terminal; a shell would ignore it for a process in the background.
# shellcheck disable=SC2086  # a command's words
SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" env --default-signal=INT ${NIXOS_IMAGE_TEST_SHELL:-sh} "$project/run.sh" demo -o "$out" \
  > /dev/null 2> "$work/err" &
waits=$!
tries=100
until grep -q '^waiting: another' "$work/err" || [ $tries = 0 ]; do
  tries=$((tries - 1))
  sleep 0.2
done
kill -INT $waits
(sleep 30; kill -9 $waits) 2> /dev/null &
late=$!
wait $waits
check "a signal ends the wait" test $? = 130
kill $late 2> /dev/null
check "the lock is still its owner's" test -e "$out/.nixos-image.lock/holder"
check "and the image is the one before" is_of third

# --- on a terminal, whose cursor is at the end of the live view's line ----------------------------------------------------
fresh
whole one
: > "$work/orders"
order out_dir --out "$out"
echo 'printf "a live view" >&2' > "$work/deed.sh"
SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' CI='' TERM=xterm PATH="$work/bin:$PATH" script -qefc \
  "stty rows 24 columns 80; timeout 60 ${NIXOS_IMAGE_TEST_SHELL:-sh} '$project/run.sh' demo -o '$out'" "$work/typed" > /dev/null < /dev/null
check "a path has a line of its own" grep -qF "$(printf 'a live view\r\033[2K%s' "$out/a.img")" "$work/typed"
rm "$work/deed.sh"
finish
