printf '%s\n' "$spec" > "$out"
