"""Every setting, read once from the environment and checked at start.

Each field of `Settings` is one variable `INCIDENTS_<FIELD>`; its metadata says
what it is and in which unit, and `.env.example` is generated from it.
"""

import dataclasses
import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

PREFIX: Final = "INCIDENTS_"


class SettingsError(ValueError):
    """Raised at start when a setting cannot be used; the message names it and the remedy."""


def _setting(default: object, doc: str, *, unit: str = "", secret: bool = False) -> Any:  # noqa: ANN401 - stands in for a field of any type
    return field(default=default, metadata={"doc": doc, "unit": unit, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator chose. Durations are in the unit that the metadata names."""

    http_host: str = _setting("127.0.0.1", "address the gateway listens on")
    http_port: int = _setting(8080, "port of the gateway (ingest, API, page)", unit="port")
    http_connections: int = _setting(
        800, "connections of the gateway at once; past that whoever asks nothing gives way", unit="connections"
    )
    observe_host: str = _setting(
        "127.0.0.1", "address of /healthz, /readyz and /metrics of the other roles; nobody is asked who they are there"
    )
    observe_port: int = _setting(
        0, "port of /healthz, /readyz and /metrics of the other roles; 0 takes a free one", unit="port"
    )
    kafka_url: str = _setting("127.0.0.1:9092", "Kafka bootstrap address", unit="host:port")
    redis_url: str = _setting("redis://127.0.0.1:6379/0", "Redis that holds the tables", unit="URL", secret=True)
    database_url: str = _setting("postgresql://postgres@127.0.0.1:5432/incidents", "Postgres", unit="URL", secret=True)
    amqp_url: str = _setting("", "RabbitMQ; empty turns AMQP intake off", unit="URL", secret=True)
    amqp_exchange: str = _setting("alerts", "topic exchange that senders publish to")
    amqp_queue: str = _setting("alerts.in", "quorum queue that the bridge reads")
    amqp_prefetch: int = _setting(2000, "unacknowledged messages the bridge may hold", unit="messages")
    config: str = _setting("", "rules file (an alertmanager.yml); empty uses the built-in route", unit="path")
    data_dir: str = _setting(".data", "folder of everything the embedded services keep", unit="path")
    auth: str = _setting(
        "auto",
        "on: whoever asks must sign in or show a token; auto is off on a loopback address and on anywhere else",
        unit="auto|on|off",
    )
    open_ingest: str = _setting("off", "on: alerts are taken without a credential too", unit="on|off")
    open_metrics: str = _setting("off", "on: the gateway's /metrics is open to everybody", unit="on|off")
    session_hours: int = _setting(12, "a login on the page lasts this long", unit="h")
    trusted_proxies: str = _setting(
        "", "addresses or networks, with commas, whose X-Forwarded-For and -Proto the gateway believes"
    )
    token: str = _setting("", "API token that the commands show to the gateway", secret=True)
    log_format: str = _setting("auto", "json, text, or auto: text on a terminal", unit="auto|json|text")
    log_level: str = _setting("info", "least level that is logged", unit="debug|info|warning|error")
    log_generation: str = _setting("", "names one life of a Kafka log that forgets when its broker stops")
    otlp_url: str = _setting(
        "",
        "where traces go: http(s)://HOST:4318 (OTLP over HTTP) or grpc(s)://HOST:4317; empty turns tracing off",
        unit="URL",
    )
    trace_share: float = _setting(
        0.01, "share of messages whose trace is recorded; those that fail or are slow, or that a sender records, too"
    )
    trace_slow: float = _setting(1.0, "what takes longer than this is recorded in any case", unit="s")
    worker_name: str = _setting("w1", "name of this process in logs and metrics")
    app_prefix: str = _setting(
        "", "put before every topic, consumer group and Redis key, so that installations can share services"
    )
    partitions: int = _setting(
        4, "partitions of each internal topic, and so the most workers; never changed in place", unit="partitions"
    )
    kafka_replication: int = _setting(1, "replication factor of the topics this system creates", unit="copies")
    kafka_fetch_wait: int = _setting(500, "longest wait of one fetch at the broker; 10-20 on tansu", unit="ms")
    kafka_confirm_timeout: int = _setting(
        500, "wait for Kafka's confirmation before the gateway hands an event to RabbitMQ", unit="ms"
    )
    session_timeout: float = _setting(6.0, "a worker that is silent this long loses its partitions", unit="s")
    database_pool: int = _setting(
        4, "connections to Postgres of each process; a gateway has two more, for who signs in", unit="connections"
    )
    statement_timeout: int = _setting(4000, "longest Postgres statement of a step", unit="ms")
    batch_interval: int = _setting(
        16,
        "least time between two batches while messages keep coming; the first after a pause goes at once",
        unit="ms",
    )
    step_records: int = _setting(500, "records that one step takes at most", unit="records")
    max_message_bytes: int = _setting(1_048_576, "one HTTP body (unpacked) or AMQP message", unit="bytes")
    max_alert_bytes: int = _setting(131_072, "one alert in canonical form", unit="bytes")
    max_labels: int = _setting(64, "labels of one alert", unit="labels")
    max_label_bytes: int = _setting(4096, "value of one label", unit="bytes")
    max_annotation_bytes: int = _setting(32_768, "value of one annotation", unit="bytes")
    max_depth: int = _setting(32, "nesting of a JSON body", unit="levels")
    max_items: int = _setting(10_000, "alerts in one request", unit="alerts")
    recent_window: int = _setting(600, "how long an event id is remembered", unit="s")
    alerts_cap: int = _setting(
        250_000,
        "alerts held in one partition: resolved ones leave early, then new ones are refused (503, 429)",
        unit="alerts",
    )
    recent_cap: int = _setting(200_000, "event ids remembered in one partition", unit="ids")
    verdict_event_ids: str = _setting("all", "event ids written beside a verdict", unit="all|first|none")
    row_interval: float = _setting(5.0, "least time between two writes of an alert's row for duplicates only", unit="s")
    resolve_timeout: int = _setting(
        300, "an alert in Alertmanager's format without endsAt resolves after this", unit="s"
    )
    reopen_window: int = _setting(300, "a firing within this after the end reopens the incident", unit="s")
    flap_window: int = _setting(
        600, "an alert that fires within this after its end flaps; what it does is then told ever more rarely; 0 never",
        unit="s",
    )  # fmt: skip
    stale_after: int = _setting(
        0, "an incident of which nothing was heard for this long is resolved by timeout; 0 never does that", unit="s"
    )
    alertmanager_mode: str = _setting(
        "off", "on switches off where we differ from Alertmanager on purpose: see the README", unit="on|off"
    )
    canary: str = _setting(
        "off", "on sends an alert through the whole path every minute, and measures when it is back", unit="on|off"
    )
    retention_days: int = _setting(7, "verdicts and decisions are kept this long", unit="days")
    delivery_timeout: float = _setting(
        10.0, "total deadline of one send where the rules file gives the channel no `timeout`", unit="s"
    )
    mail_timeout: float = _setting(30.0, "total deadline of one e-mail; mail servers may greet slowly", unit="s")
    delivery_max_age: int = _setting(86_400, "a notice that could not be sent for this long is given up", unit="s")
    external_url: str = _setting("", "address of the page in notices; empty means http://<host>:<port>", unit="URL")

    def __post_init__(self) -> None:
        if self.auth not in {"auto", "on", "off"}:
            raise SettingsError(f"{PREFIX}AUTH must be auto, on or off, not {self.auth!r}")
        for name in ("open_ingest", "open_metrics"):
            if getattr(self, name) not in {"on", "off"}:
                raise SettingsError(f"{PREFIX}{name.upper()} must be on or off, not {getattr(self, name)!r}")
        if self.verdict_event_ids not in {"all", "first", "none"}:
            raise SettingsError(f"{PREFIX}VERDICT_EVENT_IDS must be all, first or none")
        if self.canary not in {"on", "off"}:
            raise SettingsError(f"{PREFIX}CANARY must be on or off, not {self.canary!r}")
        if self.alertmanager_mode not in {"on", "off"}:
            raise SettingsError(f"{PREFIX}ALERTMANAGER_MODE must be on or off, not {self.alertmanager_mode!r}")
        if self.log_format not in {"auto", "json", "text"}:
            raise SettingsError(f"{PREFIX}LOG_FORMAT must be auto, json or text")
        if self.auth == "off" and not _is_loopback(self.http_host):
            raise SettingsError(
                f"{PREFIX}AUTH=off is allowed only on a loopback address, not on {self.http_host}: "
                f"set {PREFIX}HTTP_HOST=127.0.0.1 or {PREFIX}AUTH=on"
            )
        self._refuse_numbers()

    def _refuse_numbers(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                raise SettingsError(f"{PREFIX}{item.name.upper()} must not be negative")
        for name in ("partitions", "alerts_cap", "session_hours", "http_connections"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{PREFIX}{name.upper()} must be at least 1")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read every `INCIDENTS_*` variable.

        Raises:
            SettingsError: a value does not fit its type or bounds, or a variable
                with the prefix is not a setting (a typing error, most likely).
        """
        known = {PREFIX + item.name.upper(): item for item in dataclasses.fields(cls)}
        unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise SettingsError(f"{', '.join(unknown)}: no such setting; .env.example lists all of them")
        values: dict[str, Any] = {}
        for variable, item in known.items():
            text = environ.get(variable)
            if text is None or text == "":
                continue
            try:
                kind: Any = type(item.default)
                values[item.name] = kind(text)
            except ValueError as error:
                raise SettingsError(f"{variable} must be a {type(item.default).__name__}, not {text!r}") from error
        return cls(**values)

    def to_environ(self) -> dict[str, str]:
        """The variables that make `from_environ` return this record again."""
        return {PREFIX + item.name.upper(): str(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def __repr__(self) -> str:
        shown = (f"{item.name}={_shown(item, getattr(self, item.name))!r}" for item in dataclasses.fields(self))
        return f"Settings({', '.join(shown)})"

    @property
    def signing_in(self) -> bool:
        """Whether whoever asks the gateway must say who they are."""
        return self.auth == "on" or (self.auth == "auto" and not _is_loopback(self.http_host))

    @property
    def page_url(self) -> str:
        """Where people reach the page, without a trailing slash."""
        return (self.external_url or f"http://{self.http_host}:{self.http_port}").rstrip("/")

    @property
    def reopen_within(self) -> timedelta:
        """`reopen_window` as a duration."""
        return timedelta(seconds=self.reopen_window)

    @property
    def flaps_within(self) -> timedelta:
        """`flap_window` as a duration; nothing flaps in Alertmanager's mode."""
        return timedelta(seconds=self.flap_window if self.alertmanager_mode == "off" else 0)


def new_owner(settings: Settings) -> str:
    """A name for what holds leases or speaks for itself in this process: a new one at each call, that no other has."""
    return f"{settings.worker_name}-{os.getpid()}-{secrets.token_hex(4)}"


def masked(url: str) -> str:
    """The URL with its password, if it has one, replaced by stars."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def example_lines() -> Iterator[str]:
    """`.env.example`, line by line: each setting with its default and unit."""
    for item in dataclasses.fields(Settings):
        unit = f" [{item.metadata['unit']}]" if item.metadata["unit"] else ""
        yield f"# {item.metadata['doc']}{unit}"
        yield f"{PREFIX}{item.name.upper()}={item.default}"


def _shown(item: "dataclasses.Field[Any]", value: object) -> object:
    if not item.metadata["secret"] or not value:
        return value
    return masked(str(value)) if "://" in str(value) else "***"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
