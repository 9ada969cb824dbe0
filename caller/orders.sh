# Executes the orchestrator's orders (orchestrator/ask/orders.py): one order per line, words separated by tabs. Orders are
# untrusted data, because the engine may be anybody's: only the orders in this file are executed, and only with paths that
# run.sh's command line names, its appliance.toml, NIXOS_CONFIG or NIX_PATH.
# shellcheck shell=sh

# Number of files and folders that an appliance.toml may name. Of each run.sh asks other programs, which takes some milliseconds.
most_named=1000

# obey ARGUMENTS...: executes the orders in $state/orders, after checking all of them against run.sh's ARGUMENTS. A signal ends it.
obey() {
  [ "$(grep -c "$tab--appliance" "$state/orders")" -le $most_named ] \
    || die 2 "$appliance names more than $most_named files and folders" "put what belongs together into one file, or into one folder"
  while read_order; do
    [ -z "$stopped" ] || return
    may "$order" "$option" "$path" "$@" && [ -z "$more" ] && continue
    case $option in
      --appliance*) unseen="write the path in $appliance on one line, without escapes such as \\u00e9; or " ;;
      *) unseen= ;;
    esac
    die 70 "the orchestrator gave an order that run.sh refuses: $order $option $path $more" \
      "${unseen}run ./run.sh down --rmi all, then the command again: this rebuilds the orchestrator's image"
  done 4< "$state/orders"
  while read_order; do
    [ -z "$stopped" ] || return
    case $order in
      nothing) exit 0 ;;
      terminal) mode=terminal ;;
      question) question=$asks ;;
      ask) [ ! -t 0 ] || [ ! -t 1 ] || mode=asks ;;
      then_boot) then_boot=1 ;;
      debug_shell)
        debug_shell=1
        [ -t 0 ] && [ -t 1 ] || die 2 "--debug-shell needs a terminal" "leave it out, or call run.sh on a terminal, without pipes"
        ;;
      flash) mode=flash image=$path ;;
      kit) mode=kit ;;
      push_images) registry=$option pushes=1 ;;
      disk) disk_path=$path ;;
      yes) yes=1 ;;
      no_verify) no_verify=1 ;;
      force) force=1 ;;
      out_dir) out_dir "$path" && list_kept && note_earlier ;;
      out_file) out_dir "${path%/*}/" && list_kept ;;
      delivered) note_delivered ;;
      images) images=$path ;;
      out_locks) out_locks ;;
      send) tell_outside "$option" "$path"; send "$option" "$path" ;;
      send_checkout) send_checkout ;;
      send_bundle) send SSL_CERT_FILE "$ca_bundle" ;;
      send_keys) send_keys ;;
      send_result) send_result "$path" ;;
      send_tree) tell_outside "$option" "$path"; send_tree "$option" "$path" ;;
      send_modules) tell_outside "$option" "$path"; send_modules "$option" "$path" ;;
    esac
  done 4< "$state/orders"
  refuse_aliases
  # This is no order: an engine that leaves it out must not make a trial write a disk.
  [ $mode != flash ] || ! given --dry-run "$@" || dry_run=1
}

# read_order: reads the next order; a last line without a newline counts, too.
read_order() { IFS="$tab" read -r order option path more <&4 || [ -n "$order" ]; }

# may ORDER OPTION PATH ARGUMENTS...: whether run.sh, called with ARGUMENTS, executes this order
may() {
  asked=$1 about=$2 wanted=$3
  shift 3
  case ${1--} in -*) verb=build ;; *) verb=$1 ;; esac
  case $verb:$asked:$about in
    *:nothing: | *:terminal: | demo:send_keys: | init:send_keys: | worker:send_keys: | init:ask: | test:send_checkout:) ;;
    *:send_bundle:) [ -n "$ca_bundle" ] ;;
    build:then_boot:) given --run "$@" ;;
    demo:debug_shell: | build:debug_shell:) given --debug-shell "$@" ;;
    demo:question: | build:question:) ! given --yes "$@" ;;
    pins:out_locks:) given --update "$@" ;;
    init:out_dir:--out) if given --out "$@" || given -o "$@"; then named --out "$@" || named -o "$@"; else is_wanted ./; fi ;;
    eject:out_dir:--out)
      if given --out "$@" || given -o "$@"; then named --out "$@" || named -o "$@"; else is_wanted "${appliance%/*}/."; fi ;;
    demo:delivered: | build:delivered:) ;;
    demo:force: | build:force:) given --force "$@" ;;
    build:images:--out | demo:out_dir:--out | build:out_dir:--out)
      if given --out "$@" || given --out-link "$@" || given -o "$@"; then named --out "$@" || named --out-link "$@" || named -o "$@"
      else is_wanted out; fi ;;
    demo:send:--secure-boot-key | demo:send:--secure-boot-cert | build:send:--secure-boot-key | build:send:--secure-boot-cert)
      named "$about" "$@" ;;
    demo:send:--sign-key | demo:send:--push-credentials | build:send:--sign-key | build:send:--push-credentials) named "$about" "$@" ;;
    demo:send:--inject | demo:send:--stamp | demo:send:--identity-seed | demo:send:--wifi-password-file | demo:send:--sign | demo:send:--ssh-key)
      named "$about" "$@" ;;
    build:send:--inject | build:send:--stamp | build:send:--identity-seed | build:send:--wifi-password-file | build:send:--sign | build:send:--nix-conf)
      named "$about" "$@" ;;
    build:send:--builders | demo:send:--builders | kit:send:--builders) in_builders ;;
    worker:send:--authorized-key) named "$about" "$@" ;;
    build:send_tree:--configuration)
      if given -c "$@" || given --configuration "$@"; then named -c "$@" || named --configuration "$@"
      else ! given --flake "$@" && is_wanted "$root/config/sd-card.nix"; fi ;;
    build:send_tree:NIXOS_CONFIG) ! given -c "$@" && ! given --configuration "$@" && ! given --flake "$@" && is_wanted "${NIXOS_CONFIG:-}" ;;
    build:send_tree:"-I nixos-config" | build:send_tree:"-I nixpkgs" | kit:send_tree:"-I nixpkgs") named -I "$@" ;;
    build:send_tree:--nixpkgs) named --nixpkgs "$@" ;;
    build:send_tree:NIX_PATH | kit:send_tree:NIX_PATH) is_wanted "$nixpkgs" ;;
    build:send:--appliance | demo:send:--appliance | eject:send:--appliance | kit:send:--appliance) in_appliance ' keys source password-file auth-key-file token-file ' ;;
    build:send_tree:--appliance | kit:send_tree:--appliance) in_appliance ' modules ' ;;
    build:send_tree:"--appliance nixpkgs" | kit:send_tree:"--appliance nixpkgs") in_appliance ' nixpkgs ' ;;
    build:send_modules:--flake | build:send_tree:--flake | build:send_tree:--override-input | build:send_tree:-I | build:send_tree:--format-path) named "$about" "$@" ;;
    images:push_images:*) is_registry "$about" && shift && is_word "$about" "$@" ;;
    kit:kit:) [ -n "$kit" ] ;;
    kit:out_file:kit) shift; is_positional 2 "$@" ;;
    kit:force:) given --force "$@" ;;
    kit:send:--sign-key | kit:send:--nix-conf) named "$about" "$@" ;;
    kit:send_tree:--with | kit:send_modules:--with | kit:send_tree:--nixpkgs) named "$about" "$@" ;;
    kit:send_tree:--override-input | kit:send_tree:-I | kit:send_tree:--format-path) named "$about" "$@" ;;
    flash:flash:flash) shift; is_positional 1 "$@" ;;
    flash:disk:flash) shift; is_positional 2 "$@" ;;
    flash:yes:) given --yes "$@" ;;
    flash:no_verify:) given --no-verify "$@" ;;
    boot:send:--identity | boot:send:--seed | verify:send:--key | verify:send:--allowed-signers) named "$about" "$@" ;;
    boot:send:boot | verify:send:verify) shift; is_positional 1 "$@" ;;
    boot:send_result:boot) shift; is_beside .result.json "$@" ;;
    verify:send_result:verify) shift; is_beside "$beside" "$@" ;;
    *) false ;;
  esac
}
