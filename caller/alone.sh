# `doctor` without an orchestrator: examines what that would have examined, as far as this computer shows it, and reports.
# shellcheck shell=sh

# report_alone RULE FOUND REMEDY: adds this finding, which keeps the orchestrator from examining, and reports
report_alone() {
  [ -e "$state/findings" ] || return 0
  case $(uname -s) in
    Linux) examine_linux; examine_entries false ;;
    Darwin) examine_memory "$(($(sysctl -n hw.memsize) / 1048576))" ;;
  esac
  finding "$1" fails "$2" "$3"
  { show_findings text; printf '\f\n'; show_findings json; } > "$state/report"
  [ -z "$bundle" ] || make_bundle
  show_report
}

# show_report: prints the part of $state/report that was asked for. It has text, then a line with a form feed, then JSON, or only one of
# them.
show_report() {
  if ! grep -q "$(printf '^\f')" "$state/report"; then cat "$state/report"; return; fi
  if [ "$examining" = json ]; then part_of_report 2; else part_of_report 1; fi
}

# part_of_report NUMBER: prints a part of $state/report
part_of_report() { awk -v wanted="$1" 'BEGIN { part = 1 } /^\f/ { part++; next } part == wanted' "$state/report"; }

examine_linux() {
  case $(printf '%s\n' "$release" | awk -F '[.-]' '{ print ($1 * 1000 + $2 < 4008) ? "fails" : ($1 * 1000 + $2 < 6007) ? "warns" : "ok" }') in
    ok) finding kernel ok "Linux $release, on this computer" ;;
    warns) finding kernel warns "Linux $release, on this computer: no private emulation" ;;
    fails) finding kernel fails "Linux $release, on this computer" ;;
  esac
  if [ -e /dev/kvm ]; then finding kvm ok "/dev/kvm, on this computer"; else finding kvm warns "this computer has no /dev/kvm"; fi
  examine_memory "$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "$proc/meminfo")"
  [ ! -d /var/lib/docker ] || examine_space disk-engine /var/lib/docker 2048 2048
}

# examine_memory MIB: examines this computer's memory
examine_memory() {
  if [ "$1" -lt 1024 ]; then finding memory fails "$1 MiB, on this computer"
  elif [ "$1" -lt 2048 ]; then finding memory warns "$1 MiB, on this computer"
  else finding memory ok "$1 MiB, on this computer"; fi
}
