# busybox' shell starts its own applets through /proc/self/exe and argv[0]. An emulator registered without the P flag
# (preserve argv[0]) loses that name, so every applet that a step uses is called by its path instead.
for applet in basename cat chmod cp cpio depmod dirname find grep gzip ln mkdir sed sort touch; do
  eval "$applet() { '$PATH/$applet' \"\$@\"; }"
done
