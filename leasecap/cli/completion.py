"""`leasecap completion`: what makes a shell complete leasecap's own words, and the commands that `run` starts."""

from __future__ import annotations

import click

from leasecap.cli._say import Verb

# `_comp_command_offset` and `_command_offset` are those of bash-completion, whose newer and older names they are.
_BASH = r"""_leasecap() {
    local answer=() line left start i
    while IFS= read -r line; do
        answer+=("$line")
    done < <(_LEASECAP_COMPLETE=bash "${1/#\~/$HOME}" "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    COMPREPLY=()
    case ${answer[0]} in
    values) COMPREPLY=("${answer[@]:1}") ;;
    files) compopt -o default 2>/dev/null ;;
    directories) compopt -o dirnames 2>/dev/null ;;
    command*)
        start=${answer[0]#command } left=$COMP_LINE
        for ((i = 0; i < COMP_CWORD; i++)); do
            left=${left#"${left%%[![:space:]]*}"}
            ((${#COMP_LINE} - ${#left} >= start)) && break
            left=${left#"${COMP_WORDS[i]}"}
        done
        if declare -F _comp_command_offset >/dev/null; then
            _comp_command_offset $i
        elif declare -F _command_offset >/dev/null; then
            _command_offset $i
        elif ((i == COMP_CWORD)); then
            while IFS= read -r line; do
                COMPREPLY+=("$line")
            done < <(compgen -c -- "${COMP_WORDS[i]}" | sort -u)
            if ((${#COMPREPLY[@]} == 0)); then compopt -o default 2>/dev/null; fi
        else
            compopt -o default 2>/dev/null
        fi
        ;;
    esac
    if [[ ${COMPREPLY[0]-} == */* ]]; then compopt -o filenames 2>/dev/null; fi
}
complete -F _leasecap leasecap
"""

_ZSH = r"""#compdef leasecap
_leasecap() {
    local -a answer values shown
    local line kind
    answer=("${(@f)$(_LEASECAP_COMPLETE=zsh "${(Q)words[1]}" "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=$answer[1]
    shift answer
    case $kind in
    values)
        for line in "${answer[@]}"; do
            values+=("${line%%$'\t'*}")
            shown+=("${line/$'\t'/  -- }")
        done
        if [[ $PREFIX == --*=* ]]; then
            compset -P '*='
        elif [[ $PREFIX == -[^-]?* ]]; then
            compset -P 2 '?'
        fi
        if [[ "$answer" == *$'\t'* ]]; then
            compadd -l -d shown -a values
        else
            compadd -a values
        fi
        ;;
    files) _files ;;
    directories) _files -/ ;;
    command*)
        shift ${kind#command } words
        ((CURRENT -= ${kind#command }))
        _normal
        ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _leasecap "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _leasecap leasecap
fi
"""

_FISH = r"""function __leasecap_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l typed (string unescape -- $current; or echo -- $current)
    set -l answer (env _LEASECAP_COMPLETE=fish $words[1] $words[2..-1] "$typed" 2>/dev/null)
    switch $answer[1]
        case values
            test (count $answer) -gt 1; and printf '%s\n' $answer[2..-1]
        case files
            __fish_complete_path $current
        case directories
            __fish_complete_directories $current
        case 'command *'
            set -l from (math (string replace 'command ' '' $answer[1]) + 1)
            set -l rest $words[$from..-1]
            complete -C (string join ' ' -- (string escape -- $rest) $current)
    end
end
complete -c leasecap -f -a '(__leasecap_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(tuple(_SCRIPTS)))
def command(shell: str) -> None:
    """Print what makes SHELL complete verbs, options, pools, leases, and the commands that run starts.

    \b
    bash, in ~/.bashrc:                  eval "$(leasecap completion bash)"
    zsh, in ~/.zshrc:                    eval "$(leasecap completion zsh)"
    fish, in ~/.config/fish/config.fish: leasecap completion fish | source
    """
    click.echo(_SCRIPTS[shell], nl=False)
