#!/bin/sh
# Tests run.sh with a fake Docker: the checkout's checksum, sent files, verification of received files. Needs no engine.
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"

# --- the checkout -------------------------------------------------------------------------------------------------------------

if [ -e "$project/.git" ]; then
  git -C "$project" -c safe.directory="$project" ls-files | cut -d / -f 1 | sort -u | grep -vx -e config -e .gitignore | sed 's|^|./|' > "$work/tracked"
  check "the project's parts are what git has of it" test "$( (in_parts parts; in_parts other_parts) | tr ' ' '\n' | sort)" = "$(sort "$work/tracked")"
fi
mkdir "$work/links" "$work/checkout"
ln -s "$project/run.sh" "$work/links/first"
ln -s ../links/first "$work/checkout/second"
expect "a link to run.sh is as good" 0 '' env SSL_CERT_FILE= NIX_SSL_CERT_FILE= PATH="$work/bin:$PATH" "$work/checkout/second" help

# Make a checkout twice, with files in different order of creation, which a tmpfs keeps.
copies=$(mktemp -d /dev/shm/nixos-image.XXXXXX 2> /dev/null) || copies=$work
trap '[ "$copies" = "$work" ] || rm -rf "$copies"' EXIT
for one in a b; do mkdir -p "$copies/$one/orchestrator" "$copies/$one/locks" "$copies/$one/caller"; done
for file in orchestrator/x.py orchestrator/y.py locks/base; do printf '1\n2\n' > "$copies/a/$file"; done
for file in locks/base orchestrator/y.py orchestrator/x.py; do printf '1\n2\n' > "$copies/b/$file"; done
for part in say sums images; do
  cp "$project/caller/$part.sh" "$copies/a/caller"
  cp "$project/caller/$part.sh" "$copies/b/caller"
done
state_of() { root=$copies/$1 in_parts source_state; }
first=$(state_of a)
check "a checkout's state is a sum" test "${#first}" = 64
check "the same wherever it lies" test "$first" = "$(state_of b)"
printf '1\n' > "$copies/b/orchestrator/x.py"
printf '1\n2\n2\n' > "$copies/b/orchestrator/y.py"
check "another one where a line is in another file" test "$first" != "$(state_of b)"
cp "$copies/a/orchestrator/"* "$copies/b/orchestrator"
mkdir "$copies/b/orchestrator/__pycache__" "$copies/b/out" "$copies/b/docs" "$copies/b/tests" "$copies/b/benchmarks"
touch "$copies/b/orchestrator/__pycache__/x.pyc" "$copies/b/out/image" "$copies/b/docs/x.md" "$copies/b/tests/x.py" \
  "$copies/b/benchmarks/x.sh" "$copies/b/run.sh" "$copies/b/README.md"
ln -s /etc/passwd "$copies/b/orchestrator/link"
mkfifo "$copies/b/orchestrator/pipe"
check "whatever else lies there: documents, tests, benchmarks, links, pipes" test "$first" = "$(state_of b)"
mv "$copies/b/orchestrator/x.py" "$copies/b/orchestrator/z.py"
check "another one where a file has another name" test "$first" != "$(state_of b)"
mv "$copies/b/orchestrator/z.py" "$copies/b/orchestrator/x.py"
chmod +x "$copies/b/orchestrator/x.py"
check "another one where a file has become a program" test "$first" != "$(state_of b)"
chmod -x "$copies/b/orchestrator/x.py"
echo certificate > "$work/bundle"
check "another one with other certificates" test "$first" != "$(bundle="$work/bundle" state_of b)"
chmod +x "$copies/b/orchestrator/y.py"
chmod a-w "$copies/b/orchestrator"
root=$copies/b in_parts context > "$work/context.tar"
check "the context is what images are made of, and the certificates" \
  test "$(tar -tf "$work/context.tar" | grep -v '/$' | sed 's|^\(\./\)*||' | sort | tr '\n' ' ')" = \
  "ca-bundle.crt locks/base orchestrator/x.py orchestrator/y.py "
for_all() { ! tar -tvf "$1" | grep -v -e '^-rw[x-]r-[x-]r-[x-] ' -e '^drwxr-xr-x ' >> "$work/err"; }
check "which every user may read" for_all "$work/context.tar"
chmod -R u+w,go= "$copies/b"
(umask 077 && root=$copies/b bundle=$work/bundle in_parts context > "$work/context.tar")
check "also where the checkout is its owner's alone" for_all "$work/context.tar"
mkdir "$copies/b/orchestrator/shared"
for file in Dockerfile.runtime orchestrator/shared/dpkg.cfg orchestrator/shared/packages orchestrator/shared/runtime.sh locks/agents.txt \
  locks/orchestrator.txt; do
  (umask 077 && echo x > "$copies/b/$file")
done
(umask 077 && root=$copies/b bundle=$work/bundle in_parts runtime_files && tar -cf "$work/runtime.tar" -C "$work/state/runtime" .)
check "and of what is below all images" for_all "$work/runtime.tar"
check "with the certificates" sh -c "tar -xOf '$work/runtime.tar' ./ca-bundle.crt | cmp - '$work/bundle'"
check "with their rights" sh -c "tar -tvf '$work/context.tar' | grep -q '^-rwx.*y.py'"

# A step of a build may cost seconds: the container that becomes the image is committed once.
mkdir "$work/built"
parent=sha256:$(printf %064d 1)
printf %s "$parent" > "$work/built/id"
root=$copies/b state=$work/built ca_bundle='' orchestrator=nixos-image-orchestrator source=0123 label=org.nixos-image=true maker=make sh -uc '
  for part in sums docker images; do . "$0/caller/$part.sh"; done
  client() { printf "%s\n" "$@" >> "$state/words"; case $1 in run) cat > "$state/stdin" ;; commit) echo "sha256:new" ;; esac; }
  build_orchestrator' "$project"
check "the orchestrator's image has one label: its checksum, its parent's id" \
  test "$(grep '^LABEL' "$work/built/words")" = "LABEL org.nixos-image.source=\"0123 $parent\""
check "it is made of the image below it, by id" grep -qxF "$parent" "$work/built/words"
check "of the checkout's files" sh -c "tar -tf '$work/built/stdin' | grep -q orchestrator/shared/packages"
for name in HTTP_PROXY http_proxy HTTPS_PROXY https_proxy FTP_PROXY ftp_proxy NO_PROXY no_proxy ALL_PROXY all_proxy; do
  check "without $name of Docker's client" grep -qxF "$name=" "$work/built/words"
done
check "in one step" test "$(grep -c '^commit$' "$work/built/words"):$(cat "$work/built/id")" = 1:sha256:new

# The test suite gets the checkout without the user's own files.
: > "$work/orders"
order terminal
order send_checkout
touch "$project/not-ours"
expect "tests are sent the checkout" 0 '' run_sh test tests/unit
rm "$project/not-ours"
tar -tf "$work/sent" | sed "s|^\(\./\)*||" > "$work/names"
check "documents and tests among it" grep -qx "${project#/}/tests/caller/test_caller.sh" "$work/names"
check "and modules" grep -qx "${project#/}/orchestrator/__main__.py" "$work/names"
check "nothing that Python or the user has put there" sh -c "! grep -E '__pycache__|/config/|not-ours' '$work/names'"
: > "$work/orders"
order send_checkout
expect "no other verb is" 70 'the orchestrator gave an order that run.sh refuses: send_checkout' run_sh doctor
: > "$work/orders"

# A shell in a failed build needs a terminal, and is opened only where the command line asks for it.
order debug_shell
expect "a debug shell without a terminal is refused before anything starts" 2 '^error: --debug-shell needs a terminal' run_sh demo --debug-shell
expect "the page of an error is named" 2 '^see: docs/errors.md#usage$' run_sh demo --debug-shell
expect "no debug shell is opened unasked" 70 'an order that run.sh refuses: debug_shell' run_sh demo
: > "$work/orders"
cp "$work/bin/docker" "$work/docker"
for code in 4 6 13 14 16 113; do
  sed "s|cat \"\$here/stream\" ;;|case \"\$*\" in *debug-shell*) : > \"\$here/opened\" ;; esac; exit $code ;;|" "$work/docker" > "$work/bin/docker"
  expect "a run that ends with exit code $code" "$code" '' run_sh demo
  check "opens no debug shell unasked (exit code $code)" [ ! -e "$work/opened" ]
done
cp "$work/docker" "$work/bin/docker"

mkdir "$work/shell"
for name in send whole kept mounted; do echo x > "$work/shell/$name"; done
# shellcheck disable=SC2016  # another shell's program
shown=$(state=$work/shell sh -uc '. "$0"; run_terminal() { cat "$state"/* && echo "$1"; }; code=6; open_shell' "$project/caller/work.sh")
check "a debug shell is sent nothing: its run has all" test "$shown" = debug-shell

# --- the caller's environment -------------------------------------------------------------------------------------------------

# names NIX_PATH FOLDER: whether run.sh takes FOLDER as the nixpkgs that NIX_PATH names
names() {
  (cd "$work/channels" && NIX_PATH=$1 run_sh -f raw-efi) 2> "$work/err"
  grep -qF -e "--env NIXOS_IMAGE_NIXPKGS=$2 --env " "$work/started"
}
mkdir -p "$work/channels/nixpkgs/nixos/lib" "$work/my tree/nixos/lib"
touch "$work/channels/nixpkgs/nixos/lib/eval-config.nix" "$work/my tree/nixos/lib/eval-config.nix"
check "NIX_PATH may name no nixpkgs" names "" ""

# with_bundle VARIABLE FILE: run.sh with a CA bundle
# shellcheck disable=SC2086  # a command's words
with_bundle() { env SSL_CERT_FILE= NIX_SSL_CERT_FILE= "$1=$2" PATH="$work/bin:$PATH" timeout 60 ${NIXOS_IMAGE_TEST_SHELL:-} "$project/run.sh" -f raw-efi; }
echo none > "$work/no.pem"
for kind in '' 'TRUSTED ' 'X509 '; do
  echo "-----BEGIN ${kind}CERTIFICATE-----" > "$work/one.pem"
  in_parts source_state > "$work/source.none"
  bundle=$work/one.pem in_parts source_state > "$work/source"
  expect "SSL_CERT_FILE: a file with a ${kind}CERTIFICATE is taken" 0 '' with_bundle SSL_CERT_FILE "$work/one.pem"
  check "and run.sh goes on" grep -qF -e "--env NIXOS_IMAGE_CA_BUNDLE=$work/one.pem " "$work/started"
done
mv "$work/source.none" "$work/source"
for variable in SSL_CERT_FILE NIX_SSL_CERT_FILE; do
  expect "$variable: a file without a certificate is told" 2 "^error: $variable: $work/no.pem has no certificate in PEM format" \
    with_bundle $variable "$work/no.pem"
  expect "$variable: a file that is not there is told" 0 "^warning: $variable: $work/gone.pem is no file that can be read" \
    with_bundle $variable "$work/gone.pem"
done
check "or one" names "a=/b:nixpkgs=$work/my tree:nixos-config=/etc/nixos/configuration.nix" "$work/my tree"
check "or folders of trees" names "$work/my tree:$work/channels" "$work/channels/nixpkgs"
check "or one that is not there, which does not count" names "nixpkgs=/nowhere:nixpkgs=../my tree" "$work/my tree"
check "an address is Nix' own business, whatever follows" names "nixpkgs=https://x.org/n.tar.gz:$work/channels" ""
check "as in the registry" names "nixpkgs=flake:nixpkgs:$work/channels" ""
check "the computer's name is told" grep -qF -e "--env NIXOS_IMAGE_COMPUTER=$(uname -n) --env " "$work/started"

# --- appliance.toml -----------------------------------------------------------------------------------------------------------

in_folder() (cd "$work/appliance" && run_sh "$@")
# told PATH: whether the orchestrator was told that the appliance.toml is PATH
told() { grep -qF -e "--env NIXOS_IMAGE_APPLIANCE=$1 --env " "$work/prepared"; }
mkdir -p "$work/appliance/other"
printf '# \303\251\n[[users]]\nkeys = ["./my key.pub"]\n"name" = "other/secret"\n\n\n' > "$work/appliance/appliance.toml"
cp "$work/appliance/appliance.toml" "$work/appliance/other/second.toml"
for file in "my key.pub" other/secret "other/my key.pub"; do echo "$file" > "$work/appliance/$file"; done
echo terminal > "$work/orders"
expect "an appliance.toml of the working directory" 0 '' in_folder
check "is told to the orchestrator" told "$work/appliance/appliance.toml"
check "with all of its bytes" cmp "$work/text" "$work/appliance/appliance.toml"
expect "another one is taken where it is named" 0 '' in_folder demo --appliance other/second.toml
check "that one" told "$work/appliance/other/second.toml"
for words in "-c x.nix" "--flake=." "ps" "kit export a.kit --with .#nixosConfigurations.toml"; do
  # shellcheck disable=SC2086  # words
  expect "none is taken with $words" 0 '' in_folder $words
  check "nor told" told ""
done
in_below() (mkdir -p "$work/appliance/below" && cd "$work/appliance/below" && run_sh "$@")
expect "the one of a folder above is not taken, but named" 0 "to build $work/appliance/appliance.toml, call run.sh there" in_below
check "nor told" told ""
expect "where something else is built it is not named" 0 '' in_below -c x.nix
check "not a word" test -z "$(grep appliance.toml "$work/err")"
expect "one that is missing is told" 2 'appliance: x.toml does not exist' in_folder --appliance=x.toml
expect "a folder is none" 2 'other is not a file' in_folder --appliance other
head -c 100001 /dev/zero > "$work/appliance/large.toml"
expect "nor is a large file" 2 'larger than 100 kB' in_folder --appliance large.toml
: > "$work/orders"
order send --appliance "$work/appliance/my key.pub"
mv "$work/appliance/my key.pub" "$work/appliance/away"
expect "a key that it names and that is missing is told with the file" 2 'appliance.toml: .*/my key.pub does not exist' in_folder
check "and where keys come from" grep -q '^try: .*ssh-keygen' "$work/err"
mv "$work/appliance/away" "$work/appliance/my key.pub"
printf '%s\n' '-----BEGIN OPENSSH PRIVATE KEY-----' b3Bl > "$work/appliance/my key.pub"
order nothing # the key's order is not the last one
expect "a private key is not sent as a public one" 2 'appliance.toml: .*/my key.pub is a private key' in_folder
check "and what to do" grep -q '^try: ssh-keygen -y ' "$work/err"
echo "my key.pub" > "$work/appliance/my key.pub"
: > "$work/orders"
order send --appliance "$work/appliance/my key.pub"
echo 'echo "docker: mkdir /var/lib/docker/x: No space left on device." >&2; exit 125' > "$work/deed.sh"
expect "a full disk of Docker is told, and how to free it without a container" 4 '^try: free space .*docker volume ls -q --filter label=org.nixos-image=true[)]$' run_sh down -v
echo 'echo "docker: no such image" >&2; exit 125' > "$work/deed.sh"
expect "another reason is Docker's" 3 'could not start the orchestrator' run_sh demo
echo 'sleep 4; echo a message >&2' > "$work/deed.sh"
expect "a slow start shows that it lives" 0 '^starting \(3 s\)$' in_folder
check "before what the orchestrator says" test "$(tail -n 1 "$work/err")" = "a message"
rm "$work/deed.sh"
expect "a file that it names is sent" 0 '' in_folder
check "as it is" test "$(tar -xOf "$work/sent" "./${work#/}/appliance/my key.pub" 2> /dev/null || tar -xOf "$work/sent" "${work#/}/appliance/my key.pub")" = "my key.pub"
expect "not one of the working directory, where another one is taken" 70 'run.sh refuses' in_folder --appliance other/second.toml
: > "$work/orders"
order send --appliance "$work/appliance/other/secret"
expect "no other file is sent" 70 'run.sh refuses: send --appliance' in_folder
: > "$work/orders"

# --- sums ---------------------------------------------------------------------------------------------------------------------

# only TOOL...: fills the folder $work/some, a PATH, with every program but of checksum tools only these; its `openssl` fails
mkdir "$work/some"
only() {
  rm -f "$work/some"/*
  ln -s /bin/* /usr/bin/* "$work/some" 2> /dev/null # /bin may be a link to /usr/bin
  ln -sf /usr/local/bin/* "$work/some" 2> /dev/null
  for tool in openssl sha256sum shasum docker tar; do rm -f "$work/some/$tool"; done
  for tool; do ln -s "$(command -v "$tool")" "$work/some/$tool"; done
  ln -s "$(PATH="$work/bin:$PATH" command -v tar)" "$work/some/tar"
  printf '#!/bin/sh\nexit 1\n' > "$work/some/openssl"
  chmod +x "$work/some/openssl"
}
# with_some ARGUMENTS...: runs run.sh with $work/some, the folder of `only`, as PATH
# shellcheck disable=SC2086  # a command's words
with_some() { SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$work/some" timeout 60 ${NIXOS_IMAGE_TEST_SHELL:-} "$project/run.sh" "$@"; }
only
expect "without a tool for sums nothing is done" 4 '^error: no program for SHA-256 checksums was found' with_some doctor
only sha256sum
expect "one that works is taken" 0 '' with_some doctor

# --- what comes ---------------------------------------------------------------------------------------------------------------

# hands_over SUM NAME: makes a stream of the orchestrator with the image NAME, whose content is `x` and whose checksum is said
# to be SUM
hands_over() {
  rm -rf "$work/stream.d" "$work/images"
  mkdir "$work/stream.d"
  printf x > "$work/stream.d/$2"
  printf '%s image %s\nend\n' "$1" "$2" > "$work/stream.d/.complete"
  PATH="$work/bin:$PATH" tar -cf "$work/stream" -C "$work/stream.d" "$2" .complete
  : > "$work/orders"
  order out_dir --out "$work/images"
}
sum=$(printf x | sha256sum | cut -d ' ' -f 1)
hands_over "$sum" a.img
expect "an image arrives" 0 '' run_sh demo -o "$work/images"
check "as it is" test "$(cat "$work/images/a.img")" = x
for wrong in "$(printf y | sha256sum | cut -d ' ' -f 1)" '' - "$(echo "$sum" | cut -c 1-63)"; do
  hands_over "$wrong" a.img
  expect "one with the sum '$wrong' does not" 8 'error: (a.img was damaged in transit|the image could not)' run_sh demo -o "$work/images"
  check "and has no name" test -z "$(ls -A "$work/images")"
done
hands_over "$sum" a.img
cat > "$work/some/sha256sum.new" << 'EOF'
#!/bin/sh
# This sha256sum works only until the image has its name.
here=$(dirname -- "$(dirname -- "$0")")
[ -z "$(find "$here/images" -name a.img)" ] && exec "$(cat "$here/sha256sum")" "$@"
EOF
command -v sha256sum > "$work/sha256sum"
chmod +x "$work/some/sha256sum.new"
mv "$work/some/sha256sum.new" "$work/some/sha256sum"
expect "nor one whose sum cannot be made" 8 ': a.img was damaged in transit' with_some demo -o "$work/images"
check "has it a name" test -z "$(ls -A "$work/images")"

if [ -w "$project/locks" ]; then
  hands_over "$sum" new.lock
  echo out_locks > "$work/orders"
  expect "what is no lock is not put among the checkout's" 8 'new.lock is not a lock' run_sh pins --update
  check "locks" test ! -e "$project/locks/new.lock"
fi
# --- temporary folders ------------------------------------------------------------------------------------------------------

in_tmp() (cd "$work" && TMPDIR=tmp run_sh "$@")
mkdir "$work/tmp"
mkdir -m 700 "$work/tmp/nixos-image-4194305.dead" "$work/tmp/nixos-image-4194309.open" "$work/tmp/nixos-image-4194306.young" "$work/tmp/nixos-image-$$.alive" "$work/tmp/nixos-image-x.other" "$work/tmp/nixos-image-24.05"
for folder in "$work/tmp"/*.*[a-z]; do : > "$folder/mark"; done
: > "$work/tmp/nixos-image-24.05/of-the-user"
if [ "$(id -u)" = 0 ]; then # another user's
  mv "$work/tmp/nixos-image-x.other" "$work/tmp/nixos-image-4194307.other"
  chown 1 "$work/tmp/nixos-image-4194307.other"
fi
chmod 755 "$work/tmp/nixos-image-4194309.open" # a folder of the user's, which another user has given such a name, with a mark in it
touch -d '2 days ago' "$work/tmp"/*.open "$work/tmp"/*.dead "$work/tmp"/*.alive "$work/tmp"/*.other "$work/tmp/nixos-image-24.05"
for name in /nonexistent -dash; do
  TMPDIR=$name expect "a TMPDIR that is none is told: $name" 2 "^error: no folder can be made in $name" run_sh ps
done
TMPDIR=$work/tmp expect "a killed run.sh's folder is removed" 0 '' run_sh help
check "and no other one, nor another user's" test "$(find "$work/tmp" -mindepth 1 | wc -l)" = 10 -a ! -e "$work/tmp/nixos-image-4194305.dead"
check "nor a folder of the user's with such a name" test -e "$work/tmp/nixos-image-24.05/of-the-user" -a -e "$work/tmp/nixos-image-4194309.open/mark"
echo terminal > "$work/orders"
expect "a relative place for temporary files" 0 '' in_tmp ps
check "is left as it was" test "$(find "$work/tmp" -mindepth 1 | wc -l)" = 10

# --- passwords --------------------------------------------------------------------------------------------------------------

for variable in PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
  export "$variable=https://index.invalid/a https://me:secret@index.invalid/b"
  rm -f "$work/started"
  expect "a password in $variable is refused, also if no image is built" 2 'a password would stay' run_sh ps
  check "and no container gets it" test ! -e "$work/started"
  unset "$variable"
done

# --- a CI job that has a terminal ----------------------------------------------------------------------------------------
on_terminal() {
  : > "$work/orders"
  # shellcheck disable=SC2086  # a command's words
  SSL_CERT_FILE='' NIX_SSL_CERT_FILE='' PATH="$work/bin:$PATH" TERM=xterm CI=$1 script -qefc \
    "timeout 60 ${NIXOS_IMAGE_TEST_SHELL:-sh} '$project/run.sh' demo" /dev/null > /dev/null < /dev/null
  grep -o -e 'NIXOS_IMAGE_COLUMNS=[0-9]*' -e 'NIXOS_IMAGE_ASKS=[0-9]*' "$work/started" | sort | tr '\n' ' '
}
check "on a terminal there is a live view" test "$(on_terminal '')" != "$(on_terminal true)"
check "in a CI job there is none, and no question" test "$(on_terminal true)" = 'NIXOS_IMAGE_ASKS= NIXOS_IMAGE_COLUMNS=0 '
# --- the caller's home ----------------------------------------------------------------------------------------------------------

: > "$work/orders"
echo nothing > "$work/orders"
relative_home() { (cd "$work" && HOME=some/home run_sh demo --dry-run); }
expect "a home may be told by a relative path" 0 '' relative_home
check "and is passed on as an absolute one" grep -q "NIXOS_IMAGE_HOME=$work/some/home " "$work/prepared"
finish
