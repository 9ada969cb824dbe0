#!/bin/sh
# Tests that a builder that a build has taken over cannot harm the orchestrator or the caller; and paths with odd names, in a whole
# run.
. "$(dirname -- "$0")/lib.sh"

# --- the orchestrator, and a builder that a build has taken over -----------------------------------------------------------

# A root-owned file in a separate volume of the orchestrator represents any file that root can write, such as programs in its
# container. Only a copy of run.sh mounts that volume.
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
for name in ("nix.log", "build.log", "serial.log", ".complete", "result.json", "builder.log", "evil.img.serial.log", "evil.img.log", "evil.img.result.json", "evil.img.rpi-imager.json", "evil.img.report.html", "nix.conf"):
    for folder in folders:
        attempt(os.symlink, victim, folder / name)

(image / "evil.img").write_bytes(b"x")
fields = dict.fromkeys("system format disk_format compression host toplevel ready_text".split(), "x")
fields |= {"host": "", "name": "evil", "size": 1, "virtual_size": 1, "firmware": ["uefi"], "extras": [], "path": "image/evil.img"}
fields["sbom"] = "image/evil.sbom"
(image / "evil.sbom").write_text("{}")
fields["sha256"] = fields["unpacked_sha256"] = hashlib.sha256(b"x").hexdigest()
match key.split()[2]:
    case "obeys":
        tell("image", image=fields, position=0, message="\x1b]0;evil\x07")
        tell("results", results=[], materials=[], message="\x1b]0;evil\x07")
        tell("images", message="\x1b]0;evil\x07")
    case "shouts":
        print('{"event": ' + 10**5 * "[", '{"event": []}', '{"event": "nix", "done": "\\ud800"}', sep="\n", flush=True)
        tell("steers", level="warning", message="\x1b[2Jwarned\u202e")
        tell("failed", message="no\x1b[31m \x9b1mgood", detail="\x1bP+q544e\x1b\\detail\r\x08", hint="\x1b[2Jhint")
time.sleep(3)
EOF
# in_volume COMMAND: runs the command as root in the victim's volume
in_volume() {
  docker run --rm --network none --volume hostile-victim:/w --entrypoint sh nixos-image-orchestrator -c "$1"
}

key=ssh-ed25519\ AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA

# taken_over HOW: runs a build with a hostile builder, which attacks as HOW says; HOW is the comment of the run's SSH key
taken_over() {
  rm -rf "$work/images"
  in_volume 'echo original > /w/file'
  echo "$key $1" > "$work/key.pub"
  "$project/run-victim.sh" demo --system "$(uname -m)-linux" --emulation native --no-boot --ssh-key "$work/key.pub" -o "$work/images"
}

changed_run run-victim.sh 's/ --network none / --network none --volume hostile-victim:\/victim /'
taken_over nobody > /dev/null 2>&1 # the first run also builds the container images
before=$(table)
images=$(docker images -aq --no-trunc | sort)
docker tag nixos-image-builder nixos-image-builder:kept
printf 'FROM nixos-image-builder:kept\nCOPY builder.py orchestrator/agents/builder/__main__.py\n' > "$work/Dockerfile"
hostile=$(tar -cf - -C "$work" Dockerfile builder.py | DOCKER_BUILDKIT=0 docker build --quiet --tag nixos-image-builder - 2> /dev/null)
restore() { rm -f "$project/run-victim.sh"; docker tag nixos-image-builder:kept nixos-image-builder && docker rmi nixos-image-builder:kept "$hostile" > /dev/null; }
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
check "images are as they were" test "$(docker images -aq --no-trunc | sort)" = "$images"
docker volume rm hostile-victim > /dev/null

# --- what people's files are called ---------------------------------------------------------------------------------------

odd="$work/-it's a \\x41 \"path\" \$HOME ; *"
mkdir "$odd"
echo "$key me" > "$odd/-k\\t.pub"
printf 'host\npi-1\n' > "$odd/@stamp"
cp "$odd/@stamp" "$odd/--checkpoint-action=exec=touch evil"
in_folder() { (cd "$odd" && "$project/run.sh" demo --no-boot "$@"); }
expect "names may look like options, quotes and escapes" 0 '' in_folder "--ssh-key=-k\\t.pub" --stamp @stamp \
  --inject "--checkpoint-action=exec=touch evil:/etc/odd" --out=-out
check "and are kept" test -s "$(cat "$work/out")" -a "$(ls -A "$odd")" = "$(printf '%s\n' '--checkpoint-action=exec=touch evil' '-k\t.pub' -out @stamp)"
expect "two slashes at the start are one" 2 "^error: --ssh-key: $work/none does not exist" "$project/run.sh" demo --ssh-key "//$work/none"
expect "a path that is not in UTF-8 is refused" 2 'is not UTF-8' "$project/run.sh" demo -o "$(printf '%s/\377' "$work")"
expect "so is one with a line's end" 2 'control characters' "$project/run.sh" demo --ssh-key "$work/a
b"
expect "nor is a pipe a configuration" 2 'neither a file nor a folder' "$project/run.sh" --dry-run -c /dev/null

check "nothing is left" nothing_left
finish
