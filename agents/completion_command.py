"""`incidents completion`: what a shell must be told to complete commands, options and ids of incidents."""

from typing import Final

import click
from click.shell_completion import get_completion_class

_HELP: Final = """Print the completion script of a shell.

\b
bash  eval "$(incidents completion bash)"      in ~/.bashrc
zsh   eval "$(incidents completion zsh)"       in ~/.zshrc
fish  incidents completion fish | source       in ~/.config/fish/config.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """The script, for the shell to read."""
    root = ctx.find_root().command
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"there is no completion for {shell}")
    click.echo(found(root, {}, "incidents", "_INCIDENTS_COMPLETE").source())
