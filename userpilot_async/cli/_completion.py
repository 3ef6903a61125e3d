"""`completion`: a script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ._console import echo

PROGRAM = "userpilot-async"
VARIABLE = "_USERPILOT_ASYNC_COMPLETE"  # click asks it when the program runs: its name follows from the program's
SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Complete commands in bash, zsh or fish.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes commands and options.

    \b
    eval "$(userpilot-async completion bash)"   # in ~/.bashrc
    eval "$(userpilot-async completion zsh)"    # in ~/.zshrc
    userpilot-async completion fish > ~/.config/fish/completions/userpilot-async.fish
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows the shells that can be chosen"
    echo(*made(ctx.find_root().command, {}, PROGRAM, VARIABLE).source().splitlines())
