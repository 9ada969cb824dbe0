#!/bin/sh
# Tests that a hostile engine, orchestrator or checkout cannot harm the caller: run.sh with a fake Docker. Needs no engine.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"

# --- run.sh, and a hostile stream of the orchestrator -----------------------------------------------------------

mkdir "$work/streams" "$work/elsewhere"
cat > "$work/streams.py" << 'EOF'
import hashlib, io, sys, tarfile

def stream(*members, listed=(), data=b"x", rights={}):
    """A tar of `members` (name, link) and a list of files that says that `listed` are in it.

    Each member has the pax headers `rights`. A link that begins with = is a hard link. A member `.` is the folder into which the tar is unpacked.
    """
    buffer = io.BytesIO()
    lines = "".join(f"{hashlib.sha256(data).hexdigest()} image {name}\n" for name in listed)
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            if link.startswith("="):
                info.type, info.linkname = tarfile.LNKTYPE, link[1:]
            if name == ".":
                info.type = tarfile.DIRTYPE
            info.mode, info.pax_headers = 0o6777, rights
            content = f"{lines}end\n".encode() if name == ".complete" else b"x"
            info.size = len(content) if info.type == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()

complete, work = (".complete", ""), sys.argv[1]
hosts = open("/etc/hostname", "rb").read()
streams = {
    "good": stream(("a \u00e4.img", ""), complete, listed=["a \u00e4.img"]),
    "climbs": stream(("evil", ""), complete, listed=["../evil"]),
    "folder": stream(("d", f"{work}/elsewhere"), complete, listed=["d/evil"]),
    "option": stream(("-rf", ""), complete, listed=["-rf"]),
    "steers": stream(("a\x1b[2J", ""), complete, listed=["a\x1b[2J"]),
    "steers-8": stream(("a\u009b2J", ""), complete, listed=["a\u009b2J"]),
    "turns": stream(("a\u202egmi.b", ""), complete, listed=["a\u202egmi.b"]),
    "link": stream(("a.img", f"{work}/secret"), complete, listed=["a.img"]),
    "hard": stream(("a.img", f"={work}/secret"), complete, listed=["a.img"]),
    "hard-up": stream(("a.img", "=../../../secret"), complete, listed=["a.img"]),
    "hard-pair": stream(("b.img", ""), ("a.img", "=b.img"), complete, listed=["a.img"]),
    "open": stream((".", ""), ("a.img", ""), complete, listed=["a.img"]),
    "list": stream((".complete", f"{work}/list")),
    "rights": stream(("a.img", ""), complete, listed=["a.img"], rights={
        "SCHILY.acl.access": "user::rw-,user:1000:rwx:1000,group::r--,mask::rwx,other::r--",
        "SCHILY.xattr.user.name": "value",
    }),
    "outside": stream(("../../evil", ""), ("../evil", ""), complete, listed=["evil"]),
    "below": stream(("d", f"{work}/elsewhere"), ("d/evil", ""), ("a.img", ""), complete, listed=["a.img"]),
    "replaces": stream(("a.img", ""), complete, listed=["a.img"]),
}
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
    for name, data in streams.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
EOF
python3 "$work/streams.py" "$work" | tar -xf - -C "$work/streams"
printf x > "$work/secret"
printf 'end\n' > "$work/list"

# hand_over STREAM: runs run.sh, which receives the stream
hand_over() {
  rm -rf "$work/images" && mkdir "$work/images"
  [ "$1" != replaces ] || ln -s "$work/elsewhere" "$work/images/a.img"
  : > "$work/orders"
  order out_dir --out "$work/images"
  cp "$work/streams/$1" "$work/stream"
  run_sh demo -o "$work/images"
}

untouched() { [ -z "$(ls -A "$work/elsewhere")" ] && [ ! -e "$work/evil" ] && [ ! -e "${work%/*}/evil" ] && no_partial_file; }
empty() { [ -z "$(ls -A "$work/images")" ] && untouched; }

expect "what is as it should be arrives" 0 '' hand_over good
check "under its name" test "$(cat "$work/images/a ä.img")" = x
expect "a name that climbs out is refused" 8 'a name that is not allowed' hand_over climbs
check "and nothing is written" empty
expect "so is one below a link" 8 'a name that is not allowed' hand_over folder
check "and nothing is written there" empty
expect "one that begins like an option" 8 'a name that is not allowed' hand_over option
check "does nothing" empty
expect "one that steers the terminal" 8 'a name that is not allowed' hand_over steers
check "is not shown" sh -c "! grep -q '$(printf '\033')' '$work/err' '$work/out'"
for stream in steers-8 turns; do
  expect "so is one with U+0080 to U+009F, or with a mark that turns text" 8 'a name that is not allowed' hand_over $stream
  check "and it does nothing" empty
done
expect "a link in an image's place is refused" 8 'a.img is not a file' hand_over link
check "and does not arrive" empty
for stream in hard hard-up hard-pair; do
  expect "so is a hard link in its place" 8 'a.img is not a file' hand_over $stream
  check "which does not arrive, either" empty
done
# Shows who may enter the folder of received files while they are checked.
printf '#!/bin/sh\nls -ld "%s"/images/.nixos-image-*.part >> "%s/modes"\n' "$work" "$work" > "$work/bin/sync"
chmod +x "$work/bin/sync"
hand_over_freely() (umask 0 && hand_over "$@")
expect "a stream wants its folder open to all users, and so does the caller's umask" 0 '' hand_over_freely open
rm "$work/bin/sync"
check "and it stays closed to them" test -s "$work/modes" -a -z "$(grep -v '^drwx------' "$work/modes")"
check "nor may others write to a file, or run it as its owner" test -z "$(find "$work/images" -type f \( -perm -4000 -o -perm -2000 -o -perm -0020 -o -perm -0002 \))"
expect "a stream may give other users rights to a file" 0 '' hand_over rights
check "but they do not arrive" python3 -c 'import os, sys; sys.exit(bool(os.listxattr(sys.argv[1])))' "$work/images/a.img"
expect "a link in the list's place is no list" 8 'could not be written' hand_over list
case ${NIXOS_IMAGE_TEST_TAR:-} in
  busybox*)
    expect "members that climb out do not" 0 '' hand_over outside # busybox tar removes leading .. from names
    check "anywhere" untouched
    ;;
  *)
    expect "members that climb out are not written" 8 'could not be written' hand_over outside
    check "anywhere" empty
    ;;
esac
expect "nor those below a link" 0 '' hand_over below
check "that leads out" untouched
expect "a folder in an image's place gets no file" 8 'images/a.img is a folder' hand_over replaces
check "not even by a link" untouched

# --- the orchestrator's limit of memory --------------------------------------------------------------------------------

# limited FACTS OPTIONS: whether the orchestrator of an engine with these facts gets OPTIONS, or none where they are empty
limited() {
  echo "$1" > "$work/info"
  hand_over good > "$work/out" 2> "$work/err" < /dev/null || return 1
  : > "$work/info"
  if [ -n "$2" ]; then grep -q -- " $2 --name" "$work/started"; else ! grep -q -- --memory "$work/started"; fi
}
check "the orchestrator has half of the engine's memory" limited "true true 8589934592 Debian []" "--memory 4294967296"
check "but 1 GiB at least, and no limit of swap where an engine would warn" limited "true false 1073741824 Debian []" "--memory 1073741824 --memory-swap -1"
for facts in "false true 8589934592" "true true" "true true 08" "true true 1+x[\$(touch $work/evil)]" "true true 99999999999999999999999999"; do
  check "an engine that cannot limit it, or says odd things, is not asked to: $facts" limited "$facts" ""
done
check "and what it says is no program" untouched

# --- run.sh, and another user who may write to the output folder -----------------------------------------------------

echo precious > "$work/precious"
# tar, and mkdir: the other user acts while they run.
cat > "$work/swap" << EOF
part=\$(echo "$work"/images/.nixos-image-*.part)
mv "\$part" "$work/images/away"
mkdir "\$part" "\$part/files"
for name in end holder files/a.img; do ln -s "$work/precious" "\$part/\$name"; done
EOF
there=$(PATH="$work/bin:$PATH" command -v tar)
[ ! -e "$work/bin/tar" ] || { mv "$work/bin/tar" "$work/bin/tar.kept" && there=$work/bin/tar.kept; }
printf '#!/bin/sh\ncase "$*" in *-xomf*) . "%s" ;; esac\nexec "%s" "$@"\n' "$work/swap" "$there" > "$work/bin/tar"
chmod +x "$work/bin/tar"
expect "another user who replaces the folder of received files has nothing else written to" 0 '' hand_over good
check "by links in it" test "$(cat "$work/precious")" = precious -a -s "$work/images/a ä.img"
rm "$work/bin/tar"
[ ! -e "$work/bin/tar.kept" ] || mv "$work/bin/tar.kept" "$work/bin/tar"
# shellcheck disable=SC2016  # another shell's program
printf '#!/bin/sh\n"%s" "$@" || exit\nfor made; do case $made in *.part) chown 12345 "$made" ;; esac; done\n' "$(command -v mkdir)" > "$work/bin/mkdir"
chmod +x "$work/bin/mkdir"
expect "a folder of another user in its place is refused" 8 'another user has replaced' hand_over good
rm "$work/bin/mkdir"
# mkdir: the other user puts a folder of his own in the place of the lock that has just been made.
mkfifo "$work/control"
for trap in pipe control; do
  cat > "$work/bin/mkdir" << EOF
#!/bin/sh
"$(PATH=${PATH#"$work/bin:"} command -v mkdir)" "\$@" || exit
case "\$*" in *.nixos-image.lock)
  case $trap in pipe) mkfifo "\$1/holder" ;; *) ln -s "$work/control" "\$1/holder" ;; esac
esac
EOF
  chmod +x "$work/bin/mkdir"
  expect "a lock in which another user has put a pipe, or a link to one of the caller's, is not written to: $trap" 8 'lock cannot be written to' hand_over good
  rm "$work/bin/mkdir"
done
# head: a file becomes a pipe after run.sh has looked at it.
real_head=$(command -v head)
printf '#!/bin/sh\ncase "$*" in *result.json) rm -f "%s"; mkfifo "%s" ;; esac\nexec "%s" "$@"\n' "$work/images/result.json" "$work/images/result.json" "$real_head" > "$work/bin/head"
chmod +x "$work/bin/head"
rm -rf "$work/images" && mkdir "$work/images" && echo mine > "$work/images/result.json"
: > "$work/orders"
order out_dir --out "$work/images"
impatient() { NIXOS_IMAGE_PATIENCE=2 run_sh demo -o "$work/images"; }
expect "a file that becomes a pipe when run.sh reads it is not waited for" 0 '' impatient
rm "$work/bin/head"
# The holder of the lock may say anything.
rm -rf "$work/images" && mkdir -p "$work/images/.nixos-image.lock" "$work/posing"
mkfifo "$work/posing/stat"
# shellcheck disable=SC2016  # another shell's program
here=$(sh -c 'for part in say sums lock; do . "$0/caller/$part.sh"; done; find_hasher; computer' "$project")
echo "..$work/posing $here 1" > "$work/images/.nixos-image.lock/holder"
expect "a holder that is a path is read nowhere" 0 '' impatient
check "and is nobody's" test -s "$work/images/a ä.img"

# mv and ln: the other user acts a moment before they move an image to its name.
for old in '' old; do
  rm -rf "$work/images"
  mkdir "$work/images"
  [ -z "$old" ] || hand_over good > /dev/null 2>&1
  for tool in mv ln; do
    printf '#!/bin/sh\ncase "$*" in *"a ä.img %s"*) rm -f "%s"; "%s" -s "%s" "%s" ;; esac\nexec "%s" "$@"\n' "$work/images/" "$work/images/a ä.img" \
      "$(PATH=${PATH#"$work/bin:"} command -v ln)" "$work/elsewhere" "$work/images/a ä.img" "$(PATH=${PATH#"$work/bin:"} command -v $tool)" > "$work/bin/$tool"
    chmod +x "$work/bin/$tool"
  done
  run_sh demo -o "$work/images" > "$work/out" 2> "$work/err" < /dev/null
  rm "$work/bin/mv" "$work/bin/ln"
  check "a link to a folder, made in the place of a${old:+n old} file, gets nothing" untouched
done
rm -rf "$work/images"
mkdir -p "$work/own/files" "$work/images/.nixos-image-a-4194305.part/mine"
ln -s "$work/own" "$work/images/.nixos-image-b-4194305.part"
touch -h -d '1 hour ago' "$work/images"/.nixos-image-*.part "$work/own"
cp "$work/streams/good" "$work/stream"
expect "what another user calls a dead run's delivery is not removed" 0 '' run_sh demo -o "$work/images"
check "whether it is a link or a folder" test -d "$work/own/files" -a -d "$work/images/.nixos-image-a-4194305.part/mine"

# --- run.sh, and orders with paths that the command line does not name ------------------------------------------------

# refused NAME LINE ARGUMENTS...: checks that run.sh, called with ARGUMENTS in $work/elsewhere, refuses the order LINE and
# executes no other
refused() {
  what=$1
  case $3 in demo | -*) order_first=1 ;; *) order_first= ;; esac # 1: give a valid order out_dir before LINE
  : > "$work/orders"
  [ -z "$order_first" ] || order out_dir --out "$work/images"
  printf '%b\n' "$2" >> "$work/orders"
  shift 2
  [ -z "$order_first" ] || set -- "$@" -o "$work/images"
  rm -rf "$work/images" "$work/started"
  expect "refused: $what" 70 '^error: the orchestrator gave an order that run.sh refuses: ' in_elsewhere "$@"
  check "and nothing is done" test ! -e "$work/images" -a ! -e "$work/started" -a -z "$(ls -A "$work/elsewhere")"
}
# taken LINE ARGUMENTS...: checks that run.sh, called with ARGUMENTS in $work/elsewhere, executes the order LINE
taken() {
  printf '%b\n' "$1" > "$work/orders"
  shift
  : > "$work/sent"
  expect "done: $*" 0 '' in_elsewhere "$@"
  check "and $file is sent" sh -c "tar -tf '$work/sent' | grep -qxF '.$file'"
}
in_elsewhere() (cd "$work/elsewhere" && run_sh "$@")

printf 'key\n' > "$work/key"
printf 'key\n' > "$work/a:b"
refused "a command" "touch evil" demo
refused "one behind an order" "send_keys; touch evil" demo
refused "one in a path" "send\t--ssh-key\t\$(touch evil)" demo --ssh-key "$work/key"
refused "an order that there is not" "send_everything\t--ssh-key\t$work/key" demo --ssh-key "$work/key"
refused "a function of run.sh" "die" demo
refused "a line that steers the terminal" "\033[2J" demo
check "is not shown" sh -c "! grep -q '$(printf '\033')' '$work/err'"
refused "a file that nobody has named" "send\t--ssh-key\t/etc/shadow" demo
refused "another one than was named" "send\t--inject\t/etc/shadow" demo --inject "$work/key:/etc/key"
refused "the place where a file goes" "send\t--inject\t/etc/shadow" demo --inject "$work/key:/etc/shadow"
refused "one that is named for something else" "send\t--ssh-key\t$work/key" demo --sign "$work/key"
refused "a file with all that lies beside it" "send_tree\t--inject\t$work/key" demo --inject "$work/key:/etc/key"
refused "a relative path" "send\t--ssh-key\tkey" demo --ssh-key key
refused "a path with steps up" "send\t--ssh-key\t$work/elsewhere/../key" demo --ssh-key ../key
refused "a path that begins as one that was named" "send\t--ssh-key\t$work/key2" demo --ssh-key "$work/key"
refused "a folder that nobody has named" "out_dir\t--out\t$work/elsewhere" demo
refused "the default where another one was named" "out_dir\t--out\t$work/elsewhere/out" demo
refused "a folder for a verb that has none" "out_dir\t--out\t$work/images" ps -o "$work/images"
mkdir "$work/target" && ln -s ../target "$work/elsewhere/out"
printf 'out_dir\t--out\t%s\n' "$work/elsewhere/out" > "$work/orders"
expect "a link in the output folder's place is named" 0 "^delivering to $work/target, to which $work/elsewhere/out leads" in_elsewhere demo
rm "$work/elsewhere/out"
ln -s ../target "$work/elsewhere/above"
printf 'out_dir\t--out\t%s\n' "$work/elsewhere/above/out" > "$work/orders"
expect "so is one in its path" 0 "^delivering to $work/target/out, to which $work/elsewhere/above/out leads" in_elsewhere demo -o above/out
rm "$work/elsewhere/above"
refused "the checkout's locks" "out_locks" demo
refused "keys for a verb that takes none" "send_keys" -c "$work/key"
refused "a value in an argument's place" "send\tboot\t$work/key" boot --identity "$work/key" image
refused "what lies beside no image" "send_result\tverify\t$work/key.sig" verify "$work/key"
refused "another folder's result" "send_result\tboot\t/etc/result.json" boot "$work/key"
ln -s /etc/hostname "$work/key.sha256"
printf 'send\tverify\t%s\nsend_result\tverify\t%s\n' "$work/key" "$work/key.sha256" > "$work/orders"
: > "$work/sent"
expect "a link beside an image is not followed" 2 "^error: $work/key.sha256 is a link" in_elsewhere verify "$work/key"
check "nothing is sent then" test ! -s "$work/sent"
rm "$work/key.sha256"
refused "a boot that nobody wants" "then_boot" -c "$work/key"
refused "one word too many" "send\t--ssh-key\t$work/key\t/etc/shadow" demo --ssh-key "$work/key"
refused "the checkout's own configuration where another one was named" "send_tree\t--configuration\t$project/config/sd-card.nix" -c "$work/key"
file=$work/key
taken "send\t--ssh-key\t$file" demo --ssh-key ../key
taken "send\t--ssh-key\t$file" demo --ssh-key="$work//./key"
taken "send\t--inject\t$file" demo --inject "$file:/etc/key:600"
taken "send\t--nix-conf\t$file" --nix-conf "$file"
taken "send\tboot\t$file" boot --test --run ls "$file"
taken "send\tboot\t$file" boot -- "$file"
check "by the image that was looked at, whatever has its name now" grep -q "sha256:0*2 orchestrator boot" "$work/started"
file=$work/a:b
taken "send\t--inject\t$file" demo --inject "$work/a::b:/etc/a::b"
rm -rf "$work/images"
mkdir "$work/toml"
# A name that ends with a line end: the shell drops that where it reads a link.
end='
'
mkdir "$work/ends" "$work/ends/lib" "$work/ends/up$end"
echo inside > "$work/ends/real.pub"
ln -s "real.pub$end" "$work/ends/key.pub"
ln -s "$work/key" "$work/ends/real.pub$end"
ln -s "loop$end" "$work/ends/loop"
ln -s "$work/key" "$work/ends/loop$end"
ln -s "lib$end" "$work/ends/sub"
ln -s "$work/private" "$work/ends/lib$end"
echo other > "$work/ends/up$end/c.nix"
ln -s "up$end/c.nix" "$work/ends/c.nix"
ln -s "d${end}error: another/c.nix" "$work/ends/lines.nix"
mkdir "$work/ends/d${end}error: another" && echo > "$work/ends/d${end}error: another/c.nix"
ln -s round "$work/ends/round"
ends() { printf 'send\t--ssh-key\t%s\n' "$work/ends/$1" > "$work/orders" && in_elsewhere demo --ssh-key "$work/ends/$1"; }
mkdir "$work/private" && touch "$work/private/key"
for name in key.pub loop c.nix lines.nix; do
  expect "a link to a name with a line end is refused: $name" 2 "^error: .*/$name leads to a name with control characters" ends $name
  check "and nothing is sent" test -z "$(grep '^sending ' "$work/err")"
done
expect "one that the kernel follows is named by its end" 0 "^sending $work/private/key, to which $work/ends/sub/key leads" ends sub/key
expect "a link to itself ends" 2 "round does not exist" ends round
says() { (stopped='' && ci=${1-} && . "$project/caller/say.sh" && say "a name with${end}error: lines, 100%" && say "$(printf 'x\302\240')" && printf '\302\240::warning::x\n' | plain); }
check "a message is one line, whatever names are in it" test "$(says 2>&1 | head -n 1)" = "a name with?error: lines, 100%"
# shellcheck disable=SC2016 # another shell's program
check "and no blank of Unicode's hides a command of GitHub's runner" sh -c 'printf %s "$1" | grep -qx " : :warning::x"' sh "$(says github 2>&1)"
printf '[[users]]\nname = "me"\nkeys = ["../key", "inside"]\n' > "$work/toml/appliance.toml"
echo key > "$work/toml/inside"
printf 'send\t--appliance\t%s\n' "$work/key" "$work/toml/inside" > "$work/orders"
expect "a file outside of an appliance.toml's folder is named" 0 "^sending $work/key, which " in_elsewhere --appliance "$work/toml/appliance.toml"
check "one inside is not" test "$(grep -c '^sending ' "$work/err")" = 1
printf 'keys = ["##[set-output name=a]b"]\n' > "$work/toml/appliance.toml"
printf 'send\t--appliance\t%s\n' "$work/toml/##[set-output name=a]b" > "$work/orders"
in_github() (export GITHUB_ACTIONS=true && in_elsewhere --appliance "$work/toml/appliance.toml")
expect "a name is no command of GitHub's runner" 2 'toml/## \[set-output name=a\]b does not exist' in_github
check "anywhere" sh -c "! grep -qF '##[' '$work/err'"
check "only run.sh's own is" test "$(grep -c '^ *::' "$work/err"):$(grep -c "^::error::$work/toml/appliance.toml: " "$work/err")" = 1:1
echo key > "$work/private/key"
ln -s ../private/key "$work/toml/link" && ln -s ../private "$work/toml/folder" && ln -s inside "$work/toml/near" && ln -s loop "$work/toml/loop"
printf 'keys = ["link", "folder/key", "near", "loop"]\nmodules = ["folder/key"]\n' > "$work/toml/appliance.toml"
for name in link folder/key; do
  printf 'send\t--appliance\t%s\n' "$work/toml/$name" > "$work/orders"
  expect "so is one to which $name leads" 0 "^sending $work/private/key, which $work/toml/appliance.toml names as $work/toml/$name" \
    in_elsewhere --appliance "$work/toml/appliance.toml"
done
printf 'send_tree\t--appliance\t%s\n' "$work/toml/folder/key" > "$work/orders"
expect "and a module" 0 "^sending $work/private/key, which .* as $work/toml/folder/key" in_elsewhere --appliance "$work/toml/appliance.toml"
printf 'send\t--appliance\t%s\n' "$work/toml/near" > "$work/orders"
expect "but not one inside" 0 '' in_elsewhere --appliance "$work/toml/appliance.toml"
check "by whatever name" test "$(grep -c '^sending ' "$work/err")" = 0
printf 'send\t--appliance\t%s\n' "$work/toml/loop" > "$work/orders"
expect "a link that leads nowhere ends" 2 'toml/loop does not exist' in_elsewhere --appliance "$work/toml/appliance.toml"
: > "$work/orders"
# names_files NUMBER: writes an appliance.toml that names so many keys on one line, and orders to send all of them
names_files() {
  mkdir -p "$work/toml/many"
  seq -f "$work/toml/many/%g" "$1" | tr '\n' '\0' | xargs -0 touch
  printf '[[users]]\nkeys = [%s]\n' "$(seq -f '"many/%g"' "$1" | tr '\n' ,)" > "$work/toml/many.toml"
  seq -f "send	--appliance	$work/toml/many/%g" "$1" > "$work/orders"
}
names_files 5000
expect "no more files than run.sh can look through soon are taken from an appliance.toml" 2 'names more than 1000 files' \
  in_elsewhere --appliance "$work/toml/many.toml"
names_files 999
echo "send_tree	--appliance nixpkgs	$work/toml/many" >> "$work/orders"
echo 'nixpkgs = "many"' >> "$work/toml/many.toml"
: > "$work/sent"
expect "but as many are, secrets in a folder that is sent too, in less than a minute" 0 '' in_elsewhere --appliance "$work/toml/many.toml"
check "and each arrives" test "$(tar -tf "$work/sent" | grep -cx "./.*/toml/many/[0-9]*")" -ge 999
# A signal comes while run.sh looks at the second of three files: once before anything is sent, once later.
names_files 3
for word in -qxF 'PRIVATE KEY'; do
  : > "$work/called"
  # shellcheck disable=SC2016  # another shell's program
  printf '#!/bin/sh\ncase "$*" in *%s*) echo >> "%s/called"; kill -TERM $PPID ;; esac\nexec "%s" "$@"\n' "'$word'" "$work" "$(command -v grep)" > "$work/bin/grep"
  chmod +x "$work/bin/grep"
  expect "a signal ends run.sh while it looks at what an appliance.toml names" 143 '^error: terminated' in_elsewhere --appliance "$work/toml/many.toml"
  rm "$work/bin/grep"
  check "at once" test "$(wc -l < "$work/called")" = 1
done
# long_lines: prints the keys of a TOML whose line is as long as an appliance.toml, in a few seconds
# shellcheck disable=SC2016,SC2086  # another shell's program; a command's words
long_lines() {
  { printf 'keys = [0.%095000d, "after a number", ' 1; seq -f '"%g"' 9000 | tr '\n' ,; echo ']'; } \
    | timeout 20 ${NIXOS_IMAGE_TEST_SHELL:-sh} -c '. "$0/caller/appliance.sh"; named_paths " keys "' "$project"
}
check "the words of a long line are found as fast as those of a short one" test "$(long_lines | wc -l)" = 9001
: > "$work/orders"
ln -sf ../private/key "$work/toml/appliance.toml"
expect "an appliance.toml that is another file is named" 0 "^reading $work/private/key, to which $work/toml/appliance.toml leads" \
  in_elsewhere --appliance "$work/toml/appliance.toml"
mkdir "$work/nowhere" && ln -s none "$work/nowhere/appliance.toml"
in_nowhere() { (cd "$work/nowhere" && run_sh "$@"); }
expect "one that leads nowhere is not passed over" 2 'appliance.toml does not exist' in_nowhere
printf 'a = "\000"' > "$work/nul.toml"
expect "nor is a character that the shell would leave out" 2 'nul.toml has the character NUL' in_elsewhere --appliance "$work/nul.toml"
printf 'keys = ["\\u0061"]' > "$work/escape.toml"
printf 'send\t--appliance\t%s\n' "$work/a" > "$work/orders"
expect "a path that run.sh cannot find in it is refused" 70 "send --appliance $work/a" in_elsewhere --appliance "$work/escape.toml"
check "with the way to write it" grep -q "^try: write the path in $work/escape.toml on one line, without escapes such as .u00e9" "$work/err"
printf 'old' > "$work/disk"
printf 'flash\tflash\t%s\ndisk\tflash\t%s\nyes\n' "$work/key" "$work/disk" > "$work/orders"
truncate -s 1M "$work/disk"
expect "an engine says nothing of --dry-run" 0 'nothing was written' in_elsewhere flash --yes --dry-run "$work/key" "$work/disk"
check "and no disk is written" test "$(head -c 3 "$work/disk")" = old
# shellcheck disable=SC2016  # what an engine could say
printf '%s\n' 0123abc -H=tcp://nobody.invalid '*' '$(touch evil)' 'a b' '--rm' > "$work/listed"
echo terminal > "$work/orders"
expect "what Docker lists is told from what it may say beside it" 3 'not everything could be removed' in_elsewhere down -v --rmi all
check "and alone used" test "$(grep -v "^volume rm nixos-image-work-" "$work/removed" | sort -u)" = "$(printf '%s\n' 'network rm 0123abc' 'rm -f 0123abc' 'rmi -f 0123abc' 'rmi 0123abc' 'volume rm 0123abc')"
: > "$work/listed"

# --- run.sh, and a checkout that names programs ---------------------------------------------------------------------------

export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
cat > "$work/evil.sh" << EOF
#!/bin/sh
echo "\$0 \$*" >> "$work/odd"
exec cat
EOF
chmod +x "$work/evil.sh"

# checkout NAME: makes a git repository in the new folder $folder, $work/NAME
checkout() {
  folder=$work/$1
  git init -q "$folder"
  echo '{ }' > "$folder/a.nix"
  git -C "$folder" add a.nix
}

# set_config NAME VALUE...: sets options in the checkout's own git configuration
set_config() {
  while [ $# -gt 1 ]; do
    git config -f "$folder/.git/config" "$1" "$2"
    shift 2
  done
}

# on_terminal COMMAND...: runs the command on a pseudo-terminal
on_terminal() {
  for word; do printf "'%s' " "$word"; done > "$work/command"
  script -qefc "$(cat "$work/command")" /dev/null
}

no_program_ran() { [ ! -s "$work/evil" ] || { cat "$work/evil" >> "$work/err"; rm "$work/evil"; return 1; }; }

checkout pagers
set_config pager.check-ignore "$work/evil.sh" pager.ls-files "$work/evil.sh" pager.config "$work/evil.sh" core.pager "$work/evil.sh"
: > "$work/orders"
order send_tree --configuration "$folder/a.nix"
# shellcheck disable=SC2086  # a command's words
PATH="$work/bin:$PATH" SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' expect "a checkout is sent from a terminal" 0 '' \
  on_terminal ${NIXOS_IMAGE_TEST_SHELL:-} "$project/run.sh" -c "$folder/a.nix"
check "and its pager does not run" no_program_ran
check "but it is sent" sent a.nix

checkout partial
echo junk > "$folder/.gitignore"
git -C "$folder" add .
git -C "$folder" -c user.name=me -c user.email=me@example.org commit -qm one
git -C "$folder" update-index --skip-worktree .gitignore
object=$(git -C "$folder" rev-parse :.gitignore)
touch "$folder/new"
rm -f "$folder/.gitignore" "$folder/.git/objects/$(echo "$object" | cut -c 1-2)/$(echo "$object" | cut -c 3-)"
set_config core.repositoryFormatVersion 1 extensions.partialClone origin remote.origin.promisor true \
  remote.origin.url "$work/nowhere" remote.origin.uploadpack "$work/evil.sh"
expect "a checkout lacks what another program has to fetch" 0 '' sends -c "$folder/a.nix"
check "and that does not run" no_program_ran
set_config remote.origin.url "ext::$work/evil.sh %S" protocol.ext.allow always
expect "nor one of the address" 0 '' sends -c "$folder/a.nix"
check "runs" no_program_ran
set_config remote.origin.url "ssh://host/x" core.sshCommand "$work/evil.sh"
expect "nor one that is to log in" 0 '' sends -c "$folder/a.nix"
check "runs, either" no_program_ran

checkout programs
printf '* filter=evil diff=evil merge=evil\n' > "$folder/.gitattributes"
echo '{ }' > "$folder/flake.nix"
git -C "$folder" add .
git -C "$folder" -c user.name=me -c user.email=me@example.org commit -qm one
mkdir "$folder/.git/hooks" 2> /dev/null
for hook in post-index-change fsmonitor-watchman pre-auto-gc reference-transaction; do cp "$work/evil.sh" "$folder/.git/hooks/$hook"; done
cp "$work/evil.sh" "$folder/watch"
set_config core.fsmonitor "$work/evil.sh" core.hooksPath "$folder/.git/hooks" alias.ls-files "!$work/evil.sh" alias.check-ignore "!$work/evil.sh" \
  filter.evil.clean "$work/evil.sh" filter.evil.process "$work/evil.sh" diff.evil.textconv "$work/evil.sh" diff.evil.command "$work/evil.sh" \
  core.editor "$work/evil.sh" core.askPass "$work/evil.sh" core.alternateRefsCommand "$work/evil.sh" gpg.program "$work/evil.sh" \
  credential.helper "!$work/evil.sh" core.gitProxy "$work/evil.sh" include.path "$work/included" uploadpack.packObjectsHook "$work/evil.sh"
printf '[core]\n\tfsmonitor = %s\n' "$work/evil.sh" > "$work/included"
expect "programs that a checkout names in any other way" 0 '' sends -c "$folder/a.nix"
check "do not run" no_program_ran
touch -d yesterday "$folder/a.nix"
expect "nor those through which git would compare a file with its commit" 0 '' sends --flake "$folder"
check "run, such as filters" no_program_ran
printf '[core]\n\tfsmonitor = ./watch\n\thooksPath = .git/hooks\n' > "$work/gitconfig"
GIT_CONFIG_GLOBAL="$work/gitconfig" expect "nor those to which the caller's own configuration leads in a checkout" 0 '' sends -c "$folder/a.nix"
check "do" no_program_ran
git -C "$folder" config extensions.worktreeConfig true
printf '[core]\n\tfsmonitor = %s\n\tworktree = %s\n' "$work/evil.sh" "$work" > "$folder/.git/config.worktree"
expect "nor those of one of its worktrees" 0 '' sends -c "$folder/a.nix"
check "run" no_program_ran
mkdir "$work/bare"
git init -q --bare "$work/bare/inner"
git config -f "$work/bare/inner/config" core.fsmonitor "$work/evil.sh"
git config -f "$work/bare/inner/config" core.bare false
git config -f "$work/bare/inner/config" core.worktree .
expect "a bare repository among files is files" 0 "^sending $work/bare/inner" sends --nixpkgs "$work/bare/inner"
check "and its programs do not run" no_program_ran

# names OPTION [NAME] FOLDER: runs run.sh, which is to send the FOLDER of the OPTION
names() {
  : > "$work/orders"
  case $1 in --flake) order send_modules "$@" ;; *) for word; do :; done && order send_tree "$1" "$word" ;; esac
  case $1 in -I) set -- -I "name=$2" ;; esac
  run_sh "$@"
}
checkout claims
echo secret > "$work/elsewhere/secret"
set_config core.worktree "$work/elsewhere"
expect "a checkout that claims another folder" 0 "^sending $folder: " sends -c "$folder/a.nix"
check "gets only itself sent" sent a.nix
mkdir "$folder/formats"
touch "$folder/formats/a.nix"
ln -s "$work/elsewhere/secret" "$folder/lib.nix"
expect "a link where a format's library is" 2 "^error: --format-path: $folder/lib.nix, which .* is a link" sends --format-path "$folder/formats/a.nix"
check "is not followed" test ! -s "$work/sent"
rm "$folder/lib.nix"
rm -r "$folder/formats"
ln -s ../elsewhere "$folder/parts"
touch "$work/elsewhere/a.nix"
for option in --nixpkgs --override-input -I --flake; do
  # shellcheck disable=SC2046  # --override-input has a name before its value
  expect "a link in the place of a folder for $option is named" 0 "^sending $work/elsewhere, to which $folder/parts leads" \
    names $option $([ $option != --override-input ] || echo input) "$folder/parts"
done
expect "and one in the path of a file" 0 "^sending $work/elsewhere/a.nix, to which $folder/parts/a.nix leads" sends -c "$folder/parts/a.nix"
ln -s elsewhere/secret "$work/link"
: > "$work/orders"
order send --ssh-key "$work/link"
expect "and in that of a single file" 0 "^sending $work/elsewhere/secret, to which $work/link leads" run_sh demo --ssh-key "$work/link"
rm "$work/link" "$folder/parts" "$work/elsewhere/a.nix"
ln -s claims "$work/alias"
in_alias() (cd "$work/alias" && run_sh -c a.nix)
: > "$work/orders"
order send_tree --configuration "$work/alias/a.nix"
expect "a link that leads to where the caller works is not" 0 '' in_alias
check "named" sh -c "! grep -q 'to which' '$work/err'"
rm "$work/alias"
rm "$work/elsewhere/secret"
# sends_secret SECRET FILE: runs run.sh, which is to send the SECRET and the folder of the configuration FILE
sends_secret() {
  : > "$work/orders"
  order send --inject "$1"
  order send_tree --configuration "$2"
  : > "$work/sent"
  run_sh --inject "$1:/etc/secret" -c "$2"
}
checkout aliases
echo secret > "$folder/secret"
ln -s secret "$folder/link"
git -C "$folder" add .
expect "a secret may lie in a checkout" 0 '' sends_secret "$folder/secret" "$folder/a.nix"
expect "and be named by a link" 0 '' sends_secret "$folder/link" "$folder/a.nix"
ln -s aliases "$work/alias"
expect "but not have two names there" 2 "alias/secret, which an evaluation could read" sends_secret "$folder/secret" "$work/alias/a.nix"
mkdir "$work/bare/folder"
cp "$folder/a.nix" "$folder/secret" "$work/bare/folder"
ln -s bare "$work/above"
expect "nor in a folder without git" 2 "bare/folder/secret, which an evaluation could read" sends_secret "$work/above/folder/secret" "$work/bare/folder/a.nix"
ln "$folder/secret" "$folder/hard"
expect "a hard link is one" 2 "aliases/hard, which an evaluation could read" sends_secret "$folder/secret" "$folder/a.nix"
echo hard > "$folder/.gitignore"
expect "unless git ignores it" 0 '' sends_secret "$folder/secret" "$folder/a.nix"
ln "$folder/secret" "$folder/$(printf 'a\nb')"
expect "whatever its name is" 2 "aliases/a.b, which an evaluation could read" sends_secret "$folder/secret" "$folder/a.nix"
rm "$folder/$(printf 'a\nb')"
# The folder of temporary files is full as soon as there are orders: /dev/full takes the place of one file there.
mkdir "$work/tmp"
for list in send secrets found whole alike same; do
  # shellcheck disable=SC2016  # another shell's program
  printf 'for folder in "$TMPDIR"/nixos-image-*; do ln -sf /dev/full "$folder/%s"; done\n' "$list" > "$work/deed.sh"
  TMPDIR=$work/tmp expect "nothing is sent where the list \`$list' has no room" 4 'nothing more can be written' sends_secret "$folder/secret" "$folder/a.nix"
  check "nor is a part of it" test ! -s "$work/sent"
done
rm "$work/deed.sh"
checkout holes
rm -rf "$folder/.git"
dd if=/dev/null of="$folder/holes" bs=1 seek=3221225472 2> /dev/null # 3 GiB, which take no space
expect "a folder counts by the length of its files, not by the space that they take" 2 "$folder has 3 GiB, which would all be sent" sends -c "$folder/a.nix"
rm "$folder/holes"
: > "$folder/$(printf 'n\n-99999999')"
sends -c "$folder/a.nix" 2> "$work/err"
check "and no name is taken for a length" grep -q "^sending $folder: 0" "$work/err"
checkout unpacks
echo '{ }' > "$folder/flake.nix"
git -C "$folder" add .
git -C "$folder" -c user.name=me -c user.email=me@example.org commit -qm one
# shellcheck disable=SC2016  # another shell's program
printf '#!/bin/sh\nulimit -v >> "%s/limits"\nexec "%s" "$@"\n' "$work" "$(command -v git)" > "$work/bin/git"
chmod +x "$work/bin/git"
commits() { tar -ixOf "$work/sent" .commits | tr '\0' ' '; }
expect "a flake's repository is sent" 0 '' sends --flake "$folder"
check "with its commit" test -n "$(commits)"
check "and git has a limit of memory" test -s "$work/limits" -a "$(sort -u "$work/limits")" = 4194304
rm "$work/bin/git"
head -c 2000000 /dev/zero | tr '\0' a | git -C "$folder" -c user.name=me -c user.email=me@example.org commit -q --amend -F -
expect "so is one whose commit unpacks to much" 0 '' sends --flake "$folder"
check "but that commit is not read" test -z "$(commits)"
checkout waits
mkfifo "$folder/.gitignore"
NIXOS_IMAGE_PATIENCE=1 expect "git does not wait for a pipe for ever" 2 "git has not ended after 10 s in $folder" sends -c "$folder/a.nix"
rm "$folder/.gitignore"
mkdir -p "$folder/inner/.git/objects" "$folder/inner/.git/refs"
mkfifo "$folder/inner/.git/HEAD"
# terminated: runs run.sh, to which alone SIGTERM is sent after some seconds
# shellcheck disable=SC2086  # a command's words
terminated() {
  SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" timeout --foreground --preserve-status --kill-after 20 5 ${NIXOS_IMAGE_TEST_SHELL:-sh} \
    "$project/run.sh" -c "$folder/a.nix"
}
expect "and while it waits, a signal ends run.sh" 143 "terminated during git's work in $folder" terminated
checkout linked
mv "$folder/.git/index" "$work/index"
ln -s "$work/index" "$folder/.git/index"
expect "a checkout's index is no link" 2 'index is not a file' sends -c "$folder/a.nix"
rm "$folder/.git/index"
mkfifo "$folder/.git/index"

expect "nor a pipe" 2 'index is not a file' sends -c "$folder/a.nix"
rm "$folder/.git/index" "$folder/.git/HEAD"
mkfifo "$folder/.git/HEAD"
expect "nor is its HEAD a pipe" 2 'does not lead to a git repository' sends --flake "$folder"
rm "$folder/.git/HEAD"
expect "half a git folder is none" 2 'does not lead to a git repository' sends -c "$folder/a.nix"
rm -r "$folder/.git"
ln -s /etc/passwd "$folder/.git"
expect "nor is a link to a file" 2 'does not lead to a git repository' sends -c "$folder/a.nix"
check "of which nothing is told" sh -c "! grep -q root: '$work/err'"
rm "$folder/.git"
evil=$(printf 'a\033[2J\302\2332J')
mkdir "$folder/$evil" "$folder/objects"
echo .. > "$folder/$evil/commondir"
echo 'ref: refs/heads/none' > "$folder/$evil/HEAD"
ln -s nowhere "$folder/$evil/index"
echo "gitdir: $evil" > "$folder/.git"
expect "nor is a folder whose name steers the terminal" 2 'index is not a file' sends -c "$folder/a.nix"
check "which is shown without that" sh -c "! LC_ALL=C grep -q '$(printf '\033\\|\302\233')' '$work/err'"
rm -r "$folder/.git" "${folder:?}/$evil" "$folder/objects"
mkfifo "$folder/.git"
expect "nor is a pipe" 2 'does not lead to a git repository' sends -c "$folder/a.nix"

finish
