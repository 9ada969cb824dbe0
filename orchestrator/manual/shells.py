"""Makes the completion scripts of bash, zsh and fish.

The scripts ask nobody: all words are in them. They complete commands called run.sh.
"""

import re

from orchestrator.manual.command_line import Option, Value, Verb, first_words, verbs

MADE = "Completion of ./run.sh for {name}, made by `python3 -m orchestrator.manual`."

BASH = """\
# shellcheck shell=bash
# {made} To use it: . docs/completion/run.sh.bash

# Set `options` to the options of a verb.
_nixos_image_options() {{
  case $1 in
{options}
    *) options= ;;
  esac
}}

# Set `words` and `kind` to what the value VERB:OPTION:NUMBER may be; fails if there is none.
_nixos_image_value() {{
  words='' kind=none
  case $1 in
{values}
    *) return 1 ;;
  esac
}}

# Set `words` and `kind` to what the arguments of a verb may be.
_nixos_image_argument() {{
  words='' kind=none
  case $1 in
{arguments}
  esac
}}

_nixos_image() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} at=$COMP_CWORD verb=build options words kind
  COMPREPLY=()
  if [ "$at" -gt 1 ] && [[ ${{COMP_WORDS[1]}} != -* ]]; then verb=${{COMP_WORDS[1]}}; fi
  # bash makes --option=value three words.
  if [ "$current" = = ]; then current='' at=$((at + 1)); fi
  local option=${{COMP_WORDS[at - 1]}}
  if [ "$option" = = ]; then option=${{COMP_WORDS[at - 2]}}; fi
  if [ "$COMP_CWORD" = 1 ] && [[ $current != -* ]]; then
    words="{verbs}" kind=none
  elif ! _nixos_image_value "$verb:$option:1" \\
    && ! {{ [ "$at" -gt 2 ] && _nixos_image_value "$verb:${{COMP_WORDS[at - 2]}}:2"; }}; then
    if [[ $current == -* ]]; then
      _nixos_image_options "$verb"
      words=$options kind=none
    else
      _nixos_image_argument "$verb"
    fi
  fi
  case $kind in
    file) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    folder) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current") ;;
  esac
}}

complete -F _nixos_image run.sh
"""

ZSH = """\
#compdef run.sh
# {made} To use it, after compinit: . docs/completion/run.sh.zsh

_nixos_image() {{
  local verb=$words[2]
  if (( CURRENT == 2 )) && [[ $verb != -* ]]; then
    local -a verbs=(
{verbs}
    )
    _describe verb verbs
    return
  fi
  if [[ $verb == -* ]]; then
    verb=build
  else
    shift words
    (( CURRENT-- ))
  fi
  case $verb in
{cases}
  esac
}}

compdef _nixos_image run.sh
"""

FISH = """\
# {made} To use it: source docs/completion/run.sh.fish

# Whether the verb is the given one; options without a verb belong to build.
function __nixos_image_verb
    set -l typed (commandline -opc)
    set -l verb build
    if set -q typed[2]; and not string match -q -- '-*' $typed[2]
        set verb $typed[2]
    end
    test "$verb" = $argv[1]
end

# Whether no verb and no option is there.
function __nixos_image_first
    test (count (commandline -opc)) = 1
end

# Whether the last word is the first value of the given option of the verb.
function __nixos_image_second
    set -l typed (commandline -opc)
    __nixos_image_verb $argv[1]; and set -q typed[4]; and test "$typed[-2]" = $argv[2]
end

complete -c run.sh -f
"""


def bash() -> str:
    """Return the completion script of bash."""
    options, values, arguments = [], [], []
    for verb in verbs():
        names = " ".join(name for option in verb.options for name in option.names)
        options.append(f'    {verb.name}) options="{names}" ;;')
        for option in verb.options:
            for number, value in enumerate(option.values, 1):
                places = " | ".join(f"{verb.name}:{name}:{number}" for name in option.names)
                values.append(f"    {places}){_bash_value(value)} ;;")
        if verb.argument and (set_ := _bash_value(verb.argument)):
            arguments.append(f"    {verb.name}){set_} ;;")
    return BASH.format(
        made=MADE.format(name="bash"),
        options="\n".join(options),
        values="\n".join(values),
        arguments="\n".join(arguments),
        verbs=" ".join(first_words()),
    )


def _bash_value(value: Value) -> str:
    words = f' words="{" ".join(value.words)}"' if value.words else ""
    return words + (f" kind='{value.kind}'" if value.kind != "none" else "")


def zsh() -> str:
    """Return the completion script of zsh."""
    rows = [f"      {_quoted(f'{name}:{_escaped(does)}')}" for name, does in first_words().items()]
    cases = []
    for verb in verbs():
        specs = [_zsh_option(name, option) for option in verb.options for name in option.names]
        if verb.argument:
            specs.append(_quoted(f"*{_zsh_value(verb.argument)}"))
        lines = " \\\n".join(f"        {spec}" for spec in specs)
        cases.append(f"    {verb.name})\n      _arguments \\\n{lines}\n      ;;")
    return ZSH.format(made=MADE.format(name="zsh"), verbs="\n".join(rows), cases="\n".join(cases))


def _zsh_option(name: str, option: Option) -> str:
    several = "*" if option.repeatable else ""
    joined = {True: "=", False: "+"}[name.startswith("--")] if len(option.values) == 1 else ""
    values = "".join(_zsh_value(value) for value in option.values)
    return _quoted(f"{several}{name}{joined}[{_escaped(option.help)}]{values}")


def _zsh_value(value: Value) -> str:
    what = {"file": "_files", "folder": "_files -/", "none": " "}[value.kind]
    if value.words:
        what = f"({' '.join(value.words)})"
    return f":{_escaped(value.shown)}:{what}"


def _escaped(text: str) -> str:
    """Escape what has a meaning for _arguments and _describe."""
    return re.sub(r"([\\:\[\]])", r"\\\1", " ".join(text.split()))


def fish() -> str:
    """Return the completion script of fish."""
    lines = [FISH.format(made=MADE.format(name="fish"))]
    for name, does in first_words().items():
        lines.append(f"complete -c run.sh -n __nixos_image_first -a {name} -d {_fish(does)}\n")
    for verb in verbs():
        lines.append(f"\n# {verb.name}\n")
        lines += [_fish_option(verb, option) for option in verb.options]
        if verb.argument:
            lines.append(_fish_argument(verb, verb.argument))
    return "".join(lines)


def _fish_option(verb: Verb, option: Option) -> str:
    words = [f"complete -c run.sh -n '__nixos_image_verb {verb.name}'"]
    for name in option.names:
        kind = "-l" if name.startswith("--") else "-s"
        words.append(f"{kind} {name.lstrip('-')}")
    if option.values:
        words.append(_fish_value(option.values[0]))
    line = f"{' '.join(words)} -d {_fish(option.help)}\n"
    for value in option.values[1:]:
        if not value.words and value.kind == "none":
            continue
        for name in option.names:
            second = f"complete -c run.sh -n '__nixos_image_second {verb.name} {name}'"
            line += f"{second} {_fish_value(value).removeprefix('-r ').removeprefix('-x ')}\n"
    return line


def _fish_argument(verb: Verb, value: Value) -> str:
    if not value.words and value.kind == "none":
        return ""
    words = "-F" if value.kind != "none" else f"-a {_fish(' '.join(value.words))}"
    # The verb itself is no argument.
    return (
        f"complete -c run.sh -n 'not __nixos_image_first; and __nixos_image_verb {verb.name}'"
        f" {words}\n"
    )


def _fish_value(value: Value) -> str:
    if value.words:
        return f"-x -a {_fish(' '.join(value.words))}"
    return {
        "file": "-r -F",
        "folder": "-x -a '(__fish_complete_directories)'",
        "none": "-x",
    }[value.kind]


def _fish(text: str) -> str:
    """Quote text for fish."""
    return "'" + " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted(text: str) -> str:
    """Quote text for a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"
