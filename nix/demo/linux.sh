# Installs the kernel image and the modules that a virtual machine needs, indexed by depmod.
. "$applets"
for source in "$kernel"/usr/lib/modules/* "$kernel"/lib/modules/*; do [ ! -d "$source" ] || break; done
release=${source##*/}
target=$out/lib/modules/$release
mkdir -p "$target"
cp "$kernel"/boot/vmlinu[xz]-"$release" "$out/vmlinuz" # it is called vmlinux if it is not compressed
cp "$source/modules.builtin" "$source/modules.order" "$target/"
modules=
for module in $wanted; do
  grep -q "/$module\.ko\$" "$source/modules.builtin" && continue
  file=$(grep "/$module\.ko\$" "$source/modules.order") || { echo "the kernel has no module $module" >&2; exit 1; }
  modules="${modules:+$modules }$module"
  mkdir -p "$target/$(dirname "$file")"
  cp "$source/$file".* "$target/$(dirname "$file")/"
done
depmod -b "$out" "$release"
echo "$modules" > "$out/modules"
