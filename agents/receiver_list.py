"""`incidents receiver list`: receivers and people of the present rules, and how their targets answer."""

import json
from typing import Any, Final

import click

from agents.api_client import Gateway
from agents.terminal import Column, local, table, terminal_width

_PATH: Final = "/api/v1/receivers"
_COLUMNS: Final = (
    Column("receiver"), Column("channel"), Column("target", yields=True), Column("state"),
    Column("waiting", right=True), Column("last sent"), Column("", yields=True),
)  # fmt: skip


def show_receivers(url: str, *, as_json: bool) -> None:
    """One line a channel, or one JSON object a receiver; what is wrong with a target stands at the end of its line.

    Raises:
        GatewayError: the gateway says no, or nothing.
    """
    found = Gateway.found(url).get(_PATH)
    if as_json:
        for one in found:
            click.echo(json.dumps(one))
    elif found:
        click.echo("\n".join(table(_COLUMNS, [row for one in found for row in _rows(one)], terminal_width())))
    else:
        click.echo("the rules name no receiver", err=True)


def _rows(receiver: dict[str, Any]) -> list[list[str]]:
    if not receiver["channels"]:
        return [[receiver["name"], "none", "", "", "", "", "nobody is told"]]
    return [
        [
            receiver["name"], one["channel"], one["target"], one["state"], str(one["waiting"]),
            local(one["last_sent_at"]), one["last_reason"] if one["state"] != "ok" else "",
        ]
        for one in receiver["channels"]
    ]  # fmt: skip
