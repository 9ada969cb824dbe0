# Findings of `doctor`: collects them, and prints them as text or JSON where there is no orchestrator. The rules' texts are in
# orchestrator/shared/rules.toml.
# shellcheck shell=sh

# finding RULE STATE FOUND [REMEDY]: adds a finding to $state/findings; STATE is ok, warns, fails or unknown
finding() {
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$(printf %s "$3" | one_line)" "$(printf %s "${4:-}" | one_line)" >> "$state/findings"
}

# one_line: makes one line without tabs of stdin
one_line() { tr '\t\n' '  ' | plain; }

# remedy RULE: prints what the rule says to do
remedy() {
  awk -v rule="[$1]" '
    /^\[/ { inside = $0 == rule }
    inside && /^remedy = "/ { print substr($0, 11, length($0) - 11); exit }' "$root/orchestrator/shared/rules.toml"
}

# show_findings FORMAT: prints $state/findings in the order of the rules, as `text` or `json`, in the form of orchestrator/verbs/doctor.py
show_findings() {
  awk -v format="$1" -v version="$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")" '
    function quoted(text) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); return "\"" text "\"" }
    function member(name, text, more) { return "      " quoted(name) ": " quoted(text) more "\n" }
    function is_worse(state) { return state == "fails" || state == "warns" && worst == "ok" }
    BEGIN { worst = "ok"; FS = "\t" }
    FNR == 1 { file++ }
    file == 1 && /^\[/ { rule = substr($0, 2, length($0) - 2); order[++rules] = rule; next }
    file == 1 && /^[a-z]+ = "/ {
      name = $0; sub(/ = .*/, "", name)
      text[rule, name] = substr($0, length(name) + 5, length($0) - length(name) - 5)
      next
    }
    file == 1 { next }
    {
      number[$1]++; at = $1 SUBSEP number[$1]
      state[at] = $2; found[at] = $3; remedy[at] = $4 == "" ? text[$1, "remedy"] : $4
      count[$2]++
      if (is_worse($2)) worst = $2
    }
    END {
      if (format == "json") {
        printf "{\n  \"type\": \"urn:nixos-image:doctor:v1\",\n  \"schema\": 1,\n  \"version\": %s,\n", quoted(version)
        printf "  \"state\": %s,\n  \"findings\": [", quoted(worst)
      }
      for (r = 1; r <= rules; r++) for (n = 1; n <= number[order[r]]; n++) {
        rule = order[r]; at = rule SUBSEP n
        if (format == "json") {
          printf "%s\n    {\n", between
          printf "%s%s%s", member("rule", rule, ","), member("subject", text[rule, "subject"], ","), member("state", state[at], ",")
          printf "%s%s%s", member("found", found[at], ","), member("needed", text[rule, "needed"], ","), member("why", text[rule, "why"], ",")
          printf "%s%s    }", member("remedy", remedy[at], ","), member("page", "docs/doctor.md#" rule, "")
          between = ","
          continue
        }
        printf "%-8s %-26s %s\n", state[at], text[rule, "subject"], found[at]
        if (state[at] == "ok") continue
        printf "           needed  %s\n           why     %s\n           try     %s\n", text[rule, "needed"], text[rule, "why"], remedy[at]
      }
      if (format == "json") {
        print "\n  ],\n  \"used\": [],\n  \"host\": null,\n  \"nix\": \"\",\n  \"plan\": null,\n  \"privileges\": []\n}"
        exit
      }
      fails = count["fails"] + 0; warns = count["warns"] + 0
      line = fails ? fails " will make runs fail" : "nothing will make runs fail"
      if (warns) line = line ", " warns (warns == 1 ? " is a warning" : " are warnings")
      print fails + warns ? line : "no problem was found"
    }' "$root/orchestrator/shared/rules.toml" "$state/findings"
}
