"""A group of commands that are imported only when they run: `incidents --help` waits for none of them."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

_OTHERS: Final = "Others"


class LazyGroup(click.Group):
    """A group with commands named by where they are, shown under headings.

    `lazy` has `module:command` and one line of help for each name; `sections`
    has the names under each heading, in order. What is in no section, and the
    commands added the usual way, come last.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's own
        lazy: Mapping[str, tuple[str, str]] | None = None,
        sections: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,  # noqa: ANN401 - click's own
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})
        self.sections = dict(sections or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name, of both kinds."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now if it was not yet."""
        if cmd_name in self.lazy and cmd_name not in self.commands:
            module, _, attribute = self.lazy[cmd_name][0].partition(":")
            self.add_command(getattr(import_module(module), attribute), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands under their headings."""
        names = self.list_commands(ctx)
        placed = {name for section in self.sections.values() for name in section}
        rest = {_OTHERS: [name for name in names if name not in placed]}
        width = max(map(len, names), default=0)
        for heading, section in {**self.sections, **rest}.items():
            lines = [(name.ljust(width), self._help_of(name)) for name in section if name in names]
            if lines:
                with formatter.section(heading):
                    formatter.write_dl(lines)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names with their help, without importing them."""
        found = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = [item for item in click.Command.shell_complete(self, ctx, incomplete) if incomplete.startswith("-")]
        return [*(CompletionItem(name, help=self._help_of(name)) for name in found), *options]

    def _help_of(self, name: str) -> str:
        if name in self.lazy:
            return self.lazy[name][1]
        return self.commands[name].get_short_help_str(100)
