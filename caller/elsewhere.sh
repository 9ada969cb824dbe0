# Tells how an image is written on a computer whose disks run.sh does not know: macOS, Windows.
# shellcheck shell=sh

tell_elsewhere() {
  case $(uname -s) in
    Darwin) tell_macos ;;
    MINGW* | MSYS* | CYGWIN*) tell_windows "$(cygpath -w "$image" 2> /dev/null || printf %s "$image")" ;;
    *) say "this system's disks are not known here: use its own dd" ;;
  esac
}

# unpacking FILE: prints the start of a pipe that unpacks FILE
unpacking() { if [ -n "$packer" ]; then printf '%s -dc %s' "$packer" "$1"; else printf 'cat %s' "$1"; fi; }

tell_macos() {
  name=${disk_path:-/dev/diskN}
  name=${name#/dev/}
  name=${name#r}
  path=$(in_quotes "$image")
  say "run.sh writes no disk on macOS. These commands do; diskN is the card's name in the list:"
  cat << EOF
diskutil list external physical
diskutil unmountDisk /dev/$name
$(unpacking "$path") | sudo dd of=/dev/r$name ibs=64k obs=4m
sync
diskutil eject /dev/$name
EOF
  [ "$packer" != zstd ] && [ "$packer" != xz ] || say "($packer: brew install $packer)"
  tell_imager "$path"
}

# tell_windows PATH: PATH is the image's Windows path
tell_windows() {
  # PowerShell takes typographic quotes for plain ones.
  path=$(printf '%s\n' "$1" | sed "s/'/&&/g; s/‘/&&/g; s/’/&&/g; s/‚/&&/g; s/‛/&&/g; s/.*/'&'/")
  say "run.sh writes no disk on Windows. In a PowerShell of an administrator; N is the card's number in the list:"
  [ -z "$packer" ] || say "(unpack the image first: $packer -d, or 7-Zip)"
  cat << EOF
Get-Disk | Where-Object BusType -In USB,SD,MMC | Format-Table Number,FriendlyName,Size
Clear-Disk -Number N -RemoveData -RemoveOEM -Confirm:\$false
\$in = [IO.File]::OpenRead($path)
\$out = [IO.File]::Open('\\\\.\\PhysicalDriveN', 'Open', 'ReadWrite', 'ReadWrite')
\$in.CopyTo(\$out, 4MB)
\$out.Flush(\$true); \$out.Close(); \$in.Close()
EOF
  tell_imager "$path"
}

# tell_imager PATH: tells how Raspberry Pi Imager writes the image, whose path is quoted for the system's shell
tell_imager() {
  say "Or with Raspberry Pi Imager, which writes, reads back and unpacks on every system:"
  if [ -r "$image.rpi-imager.json" ]; then
    case $1 in *\') set -- "${1%\'}.rpi-imager.json'" ;; esac
    echo "rpi-imager --repo $1"
  else
    say "choose \"Use custom\" and the image"
  fi
}
