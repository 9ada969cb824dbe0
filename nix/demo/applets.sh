# Defines a function for each busybox applet that calls it by its path. busybox' shell starts applets by /proc/self/exe and
# argv[0], and an emulator registered without flag P (preserve argv[0]) loses that name.
for applet in basename cat chmod cp cpio depmod dirname find grep gzip ln mkdir sed sort touch; do
  eval "$applet() { '$PATH/$applet' \"\$@\"; }"
done
