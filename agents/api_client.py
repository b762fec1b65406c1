"""What the commands ask a running gateway, over its API, and how they end when it says no."""

import getpass
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agents.terminal import printable
from streams.settings import Settings, SettingsError

if TYPE_CHECKING:
    import httpx

_SECONDS: Final = 15.0
_TRIES: Final = 3
Query = Mapping[str, str | int | list[str]]


class GatewayError(click.ClickException):
    """The gateway refused, or did what it was asked and it failed.

    Exit codes::

        1  refused or failed
        3  UnknownError: there is no such thing
        4  AwayError: the gateway, or a part that it needs, does not answer
        5  NotAllowedError: no credential, or one that may not
    """

    exit_code = 1

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of the refusal, where there was an answer."""


class UnknownError(GatewayError):
    """There is no such thing, or it is another team's."""

    exit_code = 3


class AwayError(GatewayError):
    """Nobody answers, or the gateway misses a part that the answer needs."""

    exit_code = 4


class NotAllowedError(GatewayError):
    """The credential is missing, wrong, or of someone who may not do this."""

    exit_code = 5


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer that said yes: its status, its JSON, and the revision that an edit is made against."""

    status: int
    body: Any
    etag: str = ""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """Where the gateway is, and as whom it is asked."""

    url: str
    actor: str
    token: str = field(default="", repr=False)

    @classmethod
    def found(cls, url: str = "") -> "Gateway":
        """By the address that was given, the running system's, or the settings.

        Raises:
            click.ClickException: a setting cannot be used.
        """
        try:
            settings = Settings.from_environ(os.environ)
        except SettingsError as error:
            raise click.ClickException(str(error)) from error
        return cls(url=address_of(settings, url), actor=user(), token=settings.token)

    def get(self, path: str, query: Query | None = None) -> Any:  # noqa: ANN401 - JSON
        """What is at a path."""
        return self.ask("GET", path, query=query).body

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """The answer. A POST that broke off is sent again under the same key, so it counts once.

        Raises:
            GatewayError: one of its kinds, with the reason.
        """
        import httpx  # noqa: PLC0415 - commands that ask nothing need not wait for it

        once = {"idempotency-key": str(uuid.uuid4())} if method == "POST" else {}
        sent = {**self.headers(), **once, **(headers or {})}
        last: Exception | None = None
        for _ in range(_TRIES if method in {"GET", "POST"} else 1):
            try:
                answer = httpx.request(
                    method,
                    self.url + path,
                    params=query,
                    json=body,
                    headers=sent,
                    timeout=_SECONDS,
                    trust_env=False,
                    follow_redirects=False,
                )
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                last = error
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._away(error) from error
            return self._judged(answer)
        raise self._away(last) from last

    @contextmanager
    def events(self, path: str, last_event_id: str) -> Iterator["httpx.Response"]:
        """A stream of server-sent events; one that is silent for longer than its heartbeat has broken off.

        Raises:
            GatewayError: it is refused. What breaks off is an httpx.HTTPError.
        """
        import httpx  # noqa: PLC0415 - likewise

        headers = {**self.headers(), "accept": "text/event-stream"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        with httpx.stream(
            "GET", self.url + path, headers=headers, timeout=httpx.Timeout(_SECONDS, read=25.0), trust_env=False
        ) as answer:
            if not answer.is_success:
                answer.read()
                self._judged(answer)
            yield answer

    def save(self, path: str, target: Path) -> int:
        """Put what is at a path into a file, which is there only once it is whole; its size in bytes.

        Raises:
            GatewayError: it is refused, or breaks off.
        """
        import httpx  # noqa: PLC0415 - likewise

        part = target.with_name(f"{target.name}.part")
        try:
            with httpx.stream("GET", self.url + path, headers=self.headers(), timeout=60, trust_env=False) as answer:
                if not answer.is_success:
                    answer.read()
                    self._judged(answer)
                with part.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
        except httpx.HTTPError as error:
            raise self._away(error) from error
        part.replace(target)
        return target.stat().st_size

    def headers(self) -> dict[str, str]:
        """Who asks."""
        known = {"x-incidents-actor": self.actor.encode("ascii", "replace").decode()}
        return {**known, "authorization": f"Bearer {self.token}"} if self.token else known

    def _judged(self, answer: "httpx.Response") -> Reply:
        if answer.is_success:
            body = answer.json() if answer.content else None
            return Reply(status=answer.status_code, body=body, etag=answer.headers.get("etag", ""))
        reason = _reason(answer)
        match answer.status_code:
            case HTTPStatus.NOT_FOUND:
                raise UnknownError(reason, answer.status_code)
            case HTTPStatus.UNAUTHORIZED:
                raise NotAllowedError(f"{reason} (INCIDENTS_TOKEN is the token that is shown)", answer.status_code)
            case HTTPStatus.FORBIDDEN:
                raise NotAllowedError(reason, answer.status_code)
            case HTTPStatus.BAD_GATEWAY | HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.GATEWAY_TIMEOUT:
                raise AwayError(f"{reason}; try again in a moment", answer.status_code)
        raise GatewayError(reason, answer.status_code)

    def _away(self, error: Exception | None) -> AwayError:
        return AwayError(
            f"the gateway at {self.url} does not answer: {error}. "
            "Does it run (`make run`)? --url or GATEWAY_URL names another address."
        )


def user() -> str:
    """Who asks: the name, or in a container, where the user may have none, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


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


def _reason(answer: "httpx.Response") -> str:
    try:
        problem = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}"
    said = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else problem
    return printable(str(said))
