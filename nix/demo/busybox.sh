# busybox under the names of its applets. The shell that runs this is busybox itself: there is nothing else yet.
self=$source/usr/bin/busybox
"$self" mkdir -p "$out/bin"
"$self" cp "$self" "$out/bin/busybox"
for applet in $("$self" --list); do
  [ "$applet" = busybox ] || "$self" ln -s busybox "$out/bin/$applet"
done
