#!/bin/sh
# What a hostile build or checkout can do to its caller: nothing. run.sh's side with a Docker of the test's own, the
# orchestrator's with a builder that does what a build could have it do.
. "$(dirname -- "$0")/lib.sh"
before=$(table)

# --- run.sh, and an orchestrator that hands over what none does -----------------------------------------------------------

# Answers as Docker does where run.sh asks, and plays the orchestrator: its orders are in `orders`, its stream in `stream`.
mkdir "$work/bin" "$work/streams" "$work/elsewhere"
cat > "$work/bin/docker" << 'EOF'
#!/bin/sh
here=$(dirname -- "$(dirname -- "$0")")
case "$*" in
  version*) echo linux ;;
  *' orchestrator prepare'*) cat "$here/orders" ;;
  *'nixos-image-orchestrator orchestrator '*) cat > "$here/sent"; cat "$here/stream" ;;
  *org.nixos-image.source*) cat "$here/source" ;;
esac
EOF
chmod +x "$work/bin/docker"
# What run.sh takes for the state of the checkout: nothing is to be built.
sed -n '/^source_state() {/,/^}/p; /^parts() {/,/^}/p' "$project/run.sh" > "$work/state.sh"
echo source_state >> "$work/state.sh"
root=$project ca_bundle='' base=nixos-image-base PATH="$work/bin:$PATH" sh "$work/state.sh" > "$work/source"

cat > "$work/streams.py" << 'EOF'
import hashlib, io, sys, tarfile

def stream(*members, listed=(), data=b"x"):
    """A tar of `members` (name, link) and a list of files that says that `listed` are in it."""
    buffer = io.BytesIO()
    lines = "".join(f"{hashlib.sha256(data).hexdigest()} image {name}\n" for name in listed)
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            content = f"{lines}end\n".encode() if name == ".complete" else b"x"
            info.size = 0 if link else len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()

complete, work = (".complete", ""), sys.argv[1]
hosts = open("/etc/hostname", "rb").read()
streams = {
    "good": stream(("a b.img", ""), complete, listed=["a b.img"]),
    "climbs": stream(("evil", ""), complete, listed=["../evil"]),
    "folder": stream(("d", f"{work}/elsewhere"), complete, listed=["d/evil"]),
    "option": stream(("-rf", ""), complete, listed=["-rf"]),
    "steers": stream(("a\x1b[2J", ""), complete, listed=["a\x1b[2J"]),
    "link": stream(("a.img", f"{work}/secret"), complete, listed=["a.img"]),
    "list": stream((".complete", f"{work}/list")),
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
docker run --rm -i --network none --entrypoint python3 nixos-image-orchestrator - "$work" < "$work/streams.py" | tar -xf - -C "$work/streams"
printf x > "$work/secret"
printf 'end\n' > "$work/list"

# hand_over STREAM: run.sh takes it
hand_over() {
  rm -rf "$work/images" && mkdir "$work/images"
  [ "$1" != replaces ] || ln -s "$work/elsewhere" "$work/images/a.img"
  echo "out_dir '$work/images'" > "$work/orders"
  cp "$work/streams/$1" "$work/stream"
  SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" "$project/run.sh" demo
}

untouched() { [ -z "$(ls -A "$work/elsewhere")" ] && [ ! -e "$work/evil" ] && [ ! -e "${work%/*}/evil" ] && no_partial_file; }
empty() { [ -z "$(ls -A "$work/images")" ] && untouched; }

expect "what is as it should be arrives" 0 '' hand_over good
check "under its name" test "$(cat "$work/images/a b.img")" = x
expect "a name that climbs out is refused" 8 'a name that none may have' hand_over climbs
check "and nothing is written" empty
expect "so is one below a link" 8 'a name that none may have' hand_over folder
check "and nothing is written there" empty
expect "one that begins like an option" 8 'a name that none may have' hand_over option
check "does nothing" empty
expect "one that steers the terminal" 8 'a name that none may have' hand_over steers
check "is not shown" sh -c "! grep -q '$(printf '\033')' '$work/err' '$work/out'"
expect "a link in an image's place is refused" 8 'a.img is no file' hand_over link
check "and does not arrive" empty
expect "a link in the list's place is no list" 8 'could not be written' hand_over list
expect "members that climb out are not written" 8 'could not be written' hand_over outside
check "anywhere" empty
expect "nor those below a link" 0 '' hand_over below
check "that leads out" untouched
expect "a folder in an image's place gets no file" 8 'images/a.img is a folder' hand_over replaces
check "not even by a link" untouched

# --- the orchestrator, and a builder that a build has taken over -----------------------------------------------------------

# Root's file in a volume of the orchestrator's alone stands for any that root can write: its container's own, the programs
# in it. That volume is there in a copy of run.sh only.
cat > "$work/builder.py" << 'EOF'
import hashlib, json, os, pathlib, time

run = pathlib.Path("/var/nixos-image", os.environ["NIXOS_IMAGE_RUN"])
victim = pathlib.Path("/victim/file")
task = json.loads((run / "task.json").read_text())
(key,) = task["work"]["authorized_keys"]

def tell(event, **fields):
    print(json.dumps({"event": event, "service": "builder", "level": "info", **fields}), flush=True)

def attempt(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        print(f"{call.__name__} {arguments}: {error}", flush=True)

image = run / "image"
image.mkdir()
folders = (run, image, run / "taken", run / "logs")
for name in ("logs", "compose.env", "task.json", "taken", "input", "late"):
    attempt(os.rename, run / name, run / f"old-{name}")
    attempt(os.symlink, victim.parent, run / name)
for name in ("nix.log", "build.log", "serial.log", ".complete", "result.json", "builder.log", "evil.serial.log", "nix.conf"):
    for folder in folders:
        attempt(os.symlink, victim, folder / name)

(image / "evil.img").write_bytes(b"x")
fields = dict.fromkeys("system format disk_format compression host toplevel ready_text".split(), "x")
fields |= {"name": "evil", "size": 1, "virtual_size": 1, "firmware": ["uefi"], "extras": [], "path": "image/evil.img"}
fields["sbom"] = "image/evil.sbom"
(image / "evil.sbom").write_text("{}")
fields["sha256"] = hashlib.sha256(b"x").hexdigest()
match key.split()[2]:
    case "obeys":
        tell("images", images=[fields], materials=[], message="\x1b]0;evil\x07")
    case "shouts":
        print('{"event": ' + 10**5 * "[", '{"event": []}', '{"event": "nix", "done": "\\ud800"}', sep="\n", flush=True)
        tell("steers", level="warning", message="\x1b[2Jwarned\u202e")
        tell("failed", message="no\x1b[31m \x9b1mgood", detail="\x1bP+q544e\x1b\\detail\r\x08", hint="\x1b[2Jhint")
time.sleep(3)
EOF
# in_volume COMMAND: by root, where the victim is
in_volume() {
  docker run --rm --network none --volume hostile-victim:/w --entrypoint sh nixos-image-orchestrator -c "$1"
}

# taken_over HOW: a run whose builder does what the comment of its key says
taken_over() {
  rm -rf "$work/images"
  in_volume 'echo original > /w/file'
  echo "ssh-ed25519 AAAA $1" > "$work/key.pub"
  "$project/run-victim.sh" demo --system "$(uname -m)-linux" --emulation native --no-boot --ssh-key "$work/key.pub" -o "$work/images"
}

sed 's/ --network none / --network none --volume hostile-victim:\/victim /' "$project/run.sh" > "$project/run-victim.sh"
chmod +x "$project/run-victim.sh"
taken_over nobody > /dev/null 2>&1 # so that all images are there
docker tag nixos-image-builder nixos-image-builder:kept
printf 'FROM nixos-image-builder:kept\nCOPY builder.py orchestrator/agents/builder/__main__.py\n' > "$work/Dockerfile"
tar -cf - -C "$work" Dockerfile builder.py | DOCKER_BUILDKIT=0 docker build --quiet --tag nixos-image-builder - > /dev/null 2>&1
restore() { rm -f "$project/run-victim.sh"; docker tag nixos-image-builder:kept nixos-image-builder && docker rmi nixos-image-builder:kept > /dev/null; }
trap restore EXIT

original() { [ "$(in_volume 'cd /w && ls -A && cat file')" = "$(printf 'file\noriginal')" ]; }
no_image() { [ -z "$(ls -A "$work/images")" ] && original; }
no_escapes() { ! LC_ALL=C grep -q "[$(printf '\001-\010\013-\037\177')]" "$work/err" "$work/out"; }

expect "links in place of root's files are not written to" 0 '' taken_over obeys
check "whatever they lead to" original
check "what is handed over is files" test "$(find "$work/images" ! -type f)" = "$work/images" -a -f "$work/images/evil.img"
check "and the terminal is not steered" no_escapes
expect "what the builder says is shown" 6 '^error: no good$' taken_over shouts
check "with its detail and hint" grep -qx -e detail -e 'try: hint' "$work/err"
check "but steers nothing" no_escapes
check "and its log is no link" no_image
restore
trap - EXIT
docker volume rm hostile-victim > /dev/null

# --- what people's files are called ---------------------------------------------------------------------------------------

odd="$work/-it's a \\x41 \"path\" \$HOME ; *"
mkdir "$odd"
echo "ssh-ed25519 AAAA me" > "$odd/-k\\t.pub"
printf 'host\npi-1\n' > "$odd/@stamp"
cp "$odd/@stamp" "$odd/--checkpoint-action=exec=touch evil"
in_folder() { (cd "$odd" && "$project/run.sh" demo --no-boot "$@"); }
expect "names may look like options, quotes and escapes" 0 '' in_folder "--ssh-key=-k\\t.pub" --stamp @stamp \
  --inject "--checkpoint-action=exec=touch evil:/etc/odd" --out=-out
check "and are kept" test -s "$(cat "$work/out")" -a "$(ls -A "$odd")" = "$(printf '%s\n' '--checkpoint-action=exec=touch evil' '-k\t.pub' -out @stamp)"
expect "two slashes at the start are one" 2 "^error: --ssh-key: $work/none does not exist" "$project/run.sh" demo --ssh-key "//$work/none"
expect "a path that is not in UTF-8 is refused" 2 'not in UTF-8' "$project/run.sh" demo -o "$(printf '%s/\377' "$work")"
expect "so is one with a line's end" 2 'control characters' "$project/run.sh" demo --ssh-key "$work/a
b"
expect "nor is a pipe a configuration" 2 'neither a file nor a folder' "$project/run.sh" --dry-run -c /dev/null

# Its folder's own configuration names a program that git runs, or other folders that are not its own.
checkout=$work/checkout
git init -q "$checkout"
echo '{ }' > "$checkout/a.nix"
git -C "$checkout" config core.fsmonitor "touch $work/evil; false"
mkdir "$work/bare"
git init -q --bare "$work/bare/inner"
git -C "$work/bare/inner" config core.fsmonitor "touch $work/evil; false"
git -C "$work/bare/inner" config core.bare false
git -C "$work/bare/inner" config core.worktree .
expect "a checkout runs no program" 2 "^sending $checkout" \
  "$project/run.sh" --dry-run -c "$checkout/a.nix" --nixpkgs "$work/elsewhere" -I "x=$work/bare/inner"
check "nor does a bare repository among files, which is files" grep -q "^sending $work/bare/inner" "$work/err"
check "none at all" untouched
git -C "$checkout" config core.worktree "$work"
expect "nor has it other folders sent" 2 "core.worktree" "$project/run.sh" --dry-run -c "$checkout/a.nix" --nixpkgs "$work/elsewhere"
check "nothing is left" nothing_left
finish
