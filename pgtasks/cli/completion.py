"""The ``completion`` command: has a shell complete what is typed."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pgtasks.cli.options import Command

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")

#: Named by click: by this variable the script asks the program.
VARIABLE = "_PGTASKS_COMPLETE"


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print a script that lets a shell complete commands, options, tasks and queues.

    \b
    bash: eval "$(pgtasks completion bash)"        in ~/.bashrc
    zsh:  eval "$(pgtasks completion zsh)"         in ~/.zshrc
    fish: pgtasks completion fish > ~/.config/fish/completions/pgtasks.fish

    Tasks are those of the application, which is imported for that: name it before you press
    Tab, with -A or in the environment (CELERY_APP).
    """  # noqa: D301 - \b is what keeps click from filling the lines
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "pgtasks", VARIABLE)
    # Not its source(), which runs a bash to ask for its version.
    click.echo(script.source_template % script.source_vars())
