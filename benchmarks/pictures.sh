#!/bin/sh
# Makes the pictures of the documentation (docs/pictures): a recording of the demo, and screenshots of its report in both colour
# schemes. Needs Docker, Python 3.13 and a headless Chromium on PATH. Paths of this computer are replaced.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$root/docs/pictures"
ln -s "$root/run.sh" "$work/run.sh"
cd "$work"

python3 "$root/benchmarks/record.py" "$work/demo.cast" ./run.sh demo
sed "s|$work|/home/ada|g" demo.cast > "$root/docs/pictures/demo.cast"

sed "s|$work|/home/ada|g" out/*.report.html > report.html
for scheme in light:1 dark:0; do
  chromium-headless-shell --no-sandbox --hide-scrollbars --window-size=1100,1400 \
    --blink-settings="preferredColorScheme=${scheme#*:}" --screenshot="$root/docs/pictures/report-${scheme%:*}.png" "file://$work/report.html"
done
