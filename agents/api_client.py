"""What the commands ask a running gateway, over its API."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agents.letter_text import printable
from streams.settings import Settings

if TYPE_CHECKING:
    import httpx

_SECONDS: Final = 15.0


def address_of(settings: Settings, given: str) -> str:
    """Where the gateway is: as given, as the running system of the data folder wrote it, or as the settings say.

    Never at the page's outer address: that may be of a proxy that asks for a password.
    """
    if given:
        return given.rstrip("/")
    file = Path(settings.data_dir) / "endpoints.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("http")
    except (OSError, ValueError):
        found = None
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    return str(found or f"http://{host}:{settings.http_port}").rstrip("/")


def ask(url: str, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """The answer's JSON.

    Raises:
        click.ClickException: the gateway refuses, with its reason, or cannot be reached.
    """
    import httpx  # noqa: PLC0415 - commands that ask nothing need not wait for it

    try:
        answer = httpx.request(
            method, url + path, params=query, json=body, timeout=_SECONDS, trust_env=False, follow_redirects=False
        )
    except httpx.HTTPError as error:
        raise click.ClickException(f"the gateway at {url} does not answer: {error}") from error
    if answer.is_success:
        return answer.json()
    raise click.ClickException(_reason(answer))


def _reason(answer: "httpx.Response") -> str:
    try:
        problem = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}"
    said = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else problem
    return printable(str(said))
