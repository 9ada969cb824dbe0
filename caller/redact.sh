# Removes secrets, and names of people and computers, from text.
# shellcheck shell=sh

# known_secrets: prints secrets of this computer, one a line, longest first: values of variables, passwords of proxies, files that
# the appliance.toml names, ~/.netrc, tokens of Nix and Docker. Shorter ones than five letters would hit other words.
known_secrets() {
  {
    awk 'BEGIN {
      for (name in ENVIRON) {
        value = ENVIRON[name]
        if (toupper(name) ~ /TOKEN|PASSW|SECRET|CREDENTIAL|API_?KEY|PRIVATE|_KEY$|PSK/ && value !~ /^\//) print value
        while (match(value, /:\/\/[^\/ ]*@/)) {
          login = substr(value, RSTART + 3, RLENGTH - 4)
          value = substr(value, RSTART + RLENGTH)
          sub(/^[^:]*:/, "", login)
          print login
        }
      }
    }'
    if [ -n "$appliance" ]; then
      each_named ' password-file auth-key-file token-file ' | while IFS= read -r file; do
        [ ! -f "$file" ] || [ ! -r "$file" ] || head -c 10000 "$file"
        echo
      done
    fi
    awk '{ for (i = 1; i < NF; i++) if ($i == "password") print $(i + 1) }' "${HOME:-}/.netrc" 2> /dev/null
    sed -n 's/^ *\(extra-\)\{0,1\}access-tokens *= *//p' "${HOME:-}/.config/nix/nix.conf" /etc/nix/nix.conf 2> /dev/null \
      | tr ' ' '\n' | sed 's/^[^=]*=//'
    sed -n 's/.*"\(auth\|identitytoken\)"[ ]*:[ ]*"\([^"]*\)".*/\2/p' "${DOCKER_CONFIG:-${HOME:-}/.docker}/config.json" 2> /dev/null
  } | LC_ALL=C awk '{ gsub(/^[ \t\r]+|[ \t\r]+$/, "") } length($0) > 4 { print length($0) "\t" $0 }' | sort -u | sort -rn | cut -f 2-
}

# redact: copies stdin without the lines of $state/known, and without whatever looks like a secret
redact() {
  names="$(id -un 2> /dev/null) $(basename -- "${HOME:-/}") $(uname -n)" known=$state/known LC_ALL=C awk '
    function replaced(line, what, by, whole,   out, at, before, after) {
      out = ""
      while (at = index(line, what)) {
        before = at > 1 ? substr(line, at - 1, 1) : ""
        after = substr(line, at + length(what), 1)
        out = out substr(line, 1, at - 1) (whole && (before ~ /[A-Za-z0-9_]/ || after ~ /[A-Za-z0-9_]/) ? what : by)
        line = substr(line, at + length(what))
      }
      return out line
    }
    function indent(line) { return match(line, /[^ \t]/) ? RSTART - 1 : 0 }
    # hides what follows a name that means a secret: the quoted text, else all to the end of the line. A text of several lines sets
    # `close_mark`, or `depth`: the lines that are indented more deeply have it.
    function hidden(line,   out, end, mark, whole) {
      out = ""
      whole = line
      while (match(tolower(line), name)) {
        out = out substr(line, 1, RSTART + RLENGTH - 1)
        line = substr(line, RSTART + RLENGTH)
        if (line ~ /^\{[ \t]*$/) return out line
        if (line ~ /^\[?[ \t,;]*$/ || line ~ /^[|>][0-9+-]*[ \t]*$/) {
          depth = indent(whole)
          return out line
        }
        if (match(line, "^(\"\"\"|" quote quote quote "?|\\\\\"|[\"" quote "])")) mark = substr(line, 1, RLENGTH)
        else return out blank
        line = substr(line, length(mark) + 1)
        do {
          end = index(line, mark)
          escaped = end > 1 && substr(line, end - 1, 1) == "\\"
          line = end ? substr(line, end + length(mark)) : ""
        } while (escaped)
        if (!end && length(mark) == 3) close_mark = mark
        else if (!end && mark == quote quote) depth = indent(whole) # a string of Nix
        if (mark !~ /^\\/) sub(/^[^] \t,;:)}]+/, "", line) # a word of a shell goes on behind a quote
        out = out mark blank mark
      }
      return out line
    }
    # hides the word after an option that means a secret
    function optioned(line,   out, found) {
      out = ""
      while (match(tolower(line), option)) {
        found = substr(line, RSTART, RLENGTH)
        out = out substr(line, 1, RSTART + RLENGTH - 1)
        line = substr(line, RSTART + RLENGTH)
        if (found !~ /-file[ \t]+$/ && sub(/^[^ \t-][^ \t]*/, "", line)) out = out blank
      }
      return out line
    }
    BEGIN {
      quote = "\047"
      while ((getline secret < ENVIRON["known"]) > 0) secrets[++count] = secret
      home = ENVIRON["HOME"]
      people = split(ENVIRON["names"], person, " ")
      depth = -1
      means = "passw|passphrase|secret|token|psk|credential|api[_-]?key|accountkey|signature|[?&]sig|auth|(private|shared|client)[_-]?key|cookie|ssid|_key|identity|pwd"
      name = "((" means ")[a-z0-9_.-]*|pass|pw)[\"" quote "]?[ \t]*[:=]+[ \t]*"
      option = "(^|[ \t])--?[a-z-]*(" means ")[a-z-]*[ \t]+"
      blank = "[...]"
    }
    /-----BEGIN [A-Z ]*PRIVATE KEY/ {
      print "[...]"
      inside = $0 !~ /-----END [A-Z ]*PRIVATE KEY/
      next
    }
    inside { if (/-----END/) inside = 0; next }
    close_mark { if (index($0, close_mark)) close_mark = ""; print blank; next }
    # What hides a secret takes time with the square of a line.
    length($0) > 10000 { print "[a line of " length($0) " letters]"; next }
    depth >= 0 { if (/^[ \t]*$/ || indent($0) > depth) { print blank; next } depth = -1 }
    {
      line = $0
      for (i = 1; i <= count; i++) line = replaced(line, secrets[i], blank)
      gsub(/:\/\/[^\/ "]*@/, "://[...]@", line)
      gsub(/(hooks\.slack\.com\/services|discord(app)?\.com\/api\/webhooks|api\.telegram\.org\/bot)[^ "]*/, blank, line)
      gsub(/login +[^ ]+ +password +[^ ]+/, "login [...] password [...]", line)
      if (line ~ /docker login|mysql/) gsub(/ -p *[^ ]+/, " -p [...]", line)
      gsub(/(ssh-[a-z0-9]+|ecdsa-[a-z0-9-]+|sk-[a-z0-9@.-]+) AAAA[A-Za-z0-9+\/=]+( [^ "]+)?/, "[public key]", line)
      gsub(/b3BlbnNzaC1rZXk[A-Za-z0-9+\/=]*/, blank, line)
      gsub(/(gh[a-z]_|github_pat_|glpat-|xox[a-z]-|AKIA|tskey-|AGE-SECRET-KEY-|hf_|sk-|dop_v1_)[A-Za-z0-9_-]+/, blank, line)
      gsub(/eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+/, blank, line)
      gsub(/[Bb]earer [^ "]+/, blank, line)
      gsub(/\$(1|5|6|7|y|gy|2a|2b|2y)\$[A-Za-z0-9.\/$,=+]+/, blank, line)
      gsub(/[A-Za-z0-9._+-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.-]+/, "[e-mail]", line)
      gsub(/[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]/, "[mac]", line)
      gsub(/(-u|--user)[ =]+[^ :]+:[^ ]+/, "--user [...]", line)
      gsub(/sshpass -p *[^ ]+/, "sshpass -p [...]", line)
      line = optioned(hidden(line))
      if (length(home) > 1) line = replaced(line, home, "~")
      gsub(/\/(home|Users)\/[^\/ ":]+/, "/home/[...]", line)
      for (i = 1; i <= people; i++)
        if (length(person[i]) > 1 && person[i] !~ /^(root|home|nixos|debian|ubuntu|localhost|vm|runner)$/)
          line = replaced(line, person[i], blank, 1)
      print line
    }'
}
