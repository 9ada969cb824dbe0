#!/bin/sh
# Tests what is in the output folder if power fails during a delivery. run.sh runs with a fake docker. Needs root, for a loop device.
# shellcheck disable=SC2119  # builds may have arguments
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/stub.sh"
. "$(dirname -- "$0")/out.sh"

# A disk that is copied after each step of the delivery, as if power failed then: data that nobody has synced is not there,
# but the step may be, because the sync of another file writes it, too.
disk=$work/disk
mkdir "$work/found" "$work/mounted"
truncate -s 40M "$disk"
if mkfs.ext4 -q "$disk" 2> /dev/null && mount -o loop "$disk" "$work/mounted" 2> /dev/null; then
  recorded_tools
  printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v sync)" > "$work/bin/sync"
  cat > "$work/deed" << EOF
#!/bin/sh
echo >> "$work/mounted/unrelated"
sync "$work/mounted/unrelated"
cp "$disk" "$work/found/\$(ls "$work/found" | wc -l)"
EOF
  chmod +x "$work/deed"
  mkdir "$work/mounted/images"
  ln -s mounted/images "$work/images"
  out=$work/images
  whole first
  builds > /dev/null 2>&1
  rm -f "$work/found"/*
  whole second
  expect "an image is put on a disk that may fail" 0 '' builds
  umount "$work/mounted"
  cp "$disk" "$work/found/end"
  # sound DISK: whether the copy DISK has an image, and checksums that are its own or none
  sound() {
    mount -o loop "$1" "$work/mounted" || return
    (cd "$out" && [ -s a.img ] && { [ ! -e a.img.sha256 ] || sha256sum -c --quiet a.img.sha256; })
    good=$?
    umount "$work/mounted"
    return $good
  }
  times=0 good_ones=0
  for one in "$work/found"/*; do
    times=$((times + 1))
    if sound "$one" >> "$work/err" 2>&1; then good_ones=$((good_ones + 1)); else echo "found after deed ${one##*/}" >> "$work/err"; fi
  done
  check "power may fail at any of many moments" test "$times" -gt 15
  check "and what is found is an image, with its own checksums or none" test "$times" = "$good_ones"
  mount -o loop "$work/found/end" "$work/mounted"
  check "at the end it is the new one" is_of second
  umount "$work/mounted"
  rm "$work/images"
else
  echo "skipped: no loop device can be mounted here, so power fails in no test"
fi
finish
