"""The command ``bench completion``, and how shells complete what is typed."""

import os

import click
from click.shell_completion import (
    BashComplete,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from bench.cli.errors import program
from bench.cli.terminal import echo

BASH = r"""
%(complete_func)s() {
    local IFS=$'\n' response completion type value
    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
        %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=, read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            *) COMPREPLY+=("$value"); [[ $value == *[=:/] ]] && compopt -o nospace ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
"""The function that bash calls. It hands over the whole line, because bash splits words at colons and equals signs."""

ZSH = r"""#compdef %(prog_name)s

%(complete_func)s() {
    local -a response found described open open_described
    local type key descr
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \
        %(complete_var)s=zsh_complete %(prog_name)s)}")
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            *) if [[ $key == *[=:/] ]]; then
                   [[ $descr == _ ]] && open+=("$key") || open_described+=("$key:$descr")
               else
                   [[ $descr == _ ]] && found+=("$key") || described+=("$key:$descr")
               fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#open_described )) && _describe -V unsorted open_described -U -S ''
    (( $#found )) && compadd -U -V unsorted -a found
    (( $#open )) && compadd -U -S '' -V unsorted -a open
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
"""The function that zsh calls. No space follows a word that goes on: one that ends in ``=``, ``:`` or ``/``."""


@add_completion_class
class Bash(BashComplete):
    """Completion in bash, also of selectors such as ``rloo:n=2``, which bash splits at colons and equals signs."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is being typed, and the word that is being typed."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        is_begun = words and not line[-1:].isspace()
        return (words[:-1], words[-1]) if is_begun else (words, "")

    def complete(self) -> str:
        """Return the completions of the word that is being typed, one a line.

        A line is the type of a completion, such as ``plain`` or ``file``, a comma and the text that bash inserts. bash
        splits a word at every colon and equals sign, and replaces only the last part. So the text has only this part.
        """
        args, word = self.get_completion_args()
        value = word.partition("=")[2] if word.startswith("--") else word
        breaks = set(os.environ["COMP_WORDBREAKS"])
        kept = max((i + 1 for i, sign in enumerate(value) if sign in breaks), default=0)
        found = self.get_completions(args, word)
        return "\n".join(f"{item.type},{item.value if item.type != 'plain' else item.value[kept:]}" for item in found)


@add_completion_class
class Zsh(ZshComplete):
    """Completion in zsh; no space follows a word that can go on, such as ``rloo:n=``."""

    source_template = ZSH


@add_completion_class
class Fish(FishComplete):
    """Completion in fish, also of words that contain commas."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


@click.command(
    name="completion",
    epilog="\b\n"
    "Examples:\n"
    '  eval "$(bench completion bash)"      # in ~/.bashrc\n'
    '  eval "$(bench completion zsh)"       # in ~/.zshrc\n'
    "  bench completion fish | source       # in ~/.config/fish/config.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the code for tab completion in a shell.

    Commands, options and selectors are completed: in a selector such as gumbel-softmax:temperature=0.5 the name, the
    parameters and their values. In mine.py::Mine, the name of the class is completed; the file is not executed.
    """
    found = get_completion_class(shell)
    assert found is not None
    name, root = program(), context.find_root().command
    echo(found(root, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE").source())
