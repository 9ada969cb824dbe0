# The kernel image, and the modules that a virtual machine needs, indexed for modprobe.
. "$applets"
for source in "$kernel"/usr/lib/modules/* "$kernel"/lib/modules/*; do [ ! -d "$source" ] || break; done
release=${source##*/}
target=$out/lib/modules/$release
mkdir -p "$target"
cp "$kernel/boot/vmlinuz-$release" "$out/vmlinuz"
cp "$source/modules.builtin" "$source/modules.order" "$target/"
for module in $modules; do
  file=$(grep "/$module\.ko\$" "$source/modules.order") || { echo "the kernel has no module $module" >&2; exit 1; }
  mkdir -p "$target/$(dirname "$file")"
  cp "$source/$file".* "$target/$(dirname "$file")/"
done
depmod -b "$out" "$release"
echo "$modules" > "$out/modules"
