# SHA-256 checksums, with a program of the caller's system.
# shellcheck shell=sh

# find_hasher: sets $hasher to a command that prints each file's SHA-256 at the start of a line. OpenSSL comes first: it uses the
# CPU's SHA instructions, which saves seconds for a large image. Each candidate is tested with the checksum of empty input.
find_hasher() {
  for hasher in 'openssl dgst -sha256 -r' sha256sum 'shasum -a 256'; do
    # shellcheck disable=SC2086  # a command's words
    [ "$($hasher < /dev/null 2> /dev/null | cut -d ' ' -f 1)" = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ] \
      && return
  done
  lack=programs
  die 4 "no program for SHA-256 checksums was found" "install openssl, sha256sum or shasum"
}

# checksum FILE: prints the file's SHA-256, or nothing
checksum() { put_sum < "$1"; }

# put_sum: prints the SHA-256 of stdin, or nothing
put_sum() {
  # shellcheck disable=SC2086  # a command's words
  sum_line=$($hasher) || return
  is_sum "${sum_line%% *}" && printf %s "${sum_line%% *}"
}

is_sum() {
  case $1 in *[!0123456789abcdef]*) return 1 ;; esac
  [ "${#1}" = 64 ]
}
