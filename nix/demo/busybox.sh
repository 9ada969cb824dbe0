# Installs busybox with a link for each applet. The shell that runs this script is busybox, too.
self=$source/usr/bin/busybox
"$self" mkdir -p "$out/bin"
"$self" cp "$self" "$out/bin/busybox"
for applet in $("$self" --list); do
  [ "$applet" = busybox ] || "$self" ln -s busybox "$out/bin/$applet"
done
