"""Settings refuse nonsense at start, and name the variable and the remedy."""

import dataclasses
from pathlib import Path

import pytest

from streams.settings import PREFIX, Settings, SettingsError, example_lines, masked

ROOT = Path(__file__).parent.parent


def test_the_example_file_names_every_setting_with_its_default_and_unit() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8").splitlines() == list(example_lines()), (
        "write it anew: .venv/bin/python -c 'from streams.settings import example_lines; "
        'print(*example_lines(), sep="\\n")\' > .env.example'
    )


def test_the_example_file_gives_the_defaults() -> None:
    pairs = (line.partition("=") for line in example_lines() if not line.startswith("#"))
    assert Settings.from_environ({name: value for name, _, value in pairs}) == Settings()


def test_settings_survive_the_way_through_an_environment() -> None:
    settings = Settings(http_port=1, amqp_url="amqp://u:p@127.0.0.1/", session_timeout=12.5, partitions=3)
    assert Settings.from_environ(settings.to_environ()) == settings


def test_every_setting_says_what_it_is() -> None:
    assert all(item.metadata["doc"] for item in dataclasses.fields(Settings))


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AUTH", "maybe", "INCIDENTS_AUTH must be auto, on or off"),
        ("OPEN_INGEST", "yes", "INCIDENTS_OPEN_INGEST must be on or off"),
        ("SESSION_HOURS", "0", "INCIDENTS_SESSION_HOURS must be at least 1"),
        ("HTTP_PORT", "eighty", "INCIDENTS_HTTP_PORT must be a int, not 'eighty'"),
        ("HTTP_PORT", "-1", "INCIDENTS_HTTP_PORT must not be negative"),
        ("PARTITIONS", "0", "INCIDENTS_PARTITIONS must be at least 1"),
        ("LOG_FORMAT", "xml", "INCIDENTS_LOG_FORMAT must be"),
        ("VERDICT_EVENT_IDS", "some", "INCIDENTS_VERDICT_EVENT_IDS must be"),
        ("HTP_PORT", "80", r"INCIDENTS_HTP_PORT: no such setting; \.env\.example lists"),
    ],
)
def test_what_cannot_be_used_is_refused(variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.from_environ({PREFIX + variable: value})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("x.org", False),
    ],
)
def test_signing_in_may_be_left_out_only_on_loopback(host: str, loopback: bool) -> None:
    assert Settings(http_host=host).signing_in is not loopback
    assert Settings(http_host=host, auth="on").signing_in
    if loopback:
        assert not Settings(http_host=host, auth="off").signing_in
    else:
        with pytest.raises(SettingsError, match="allowed only on a loopback address"):
            Settings(http_host=host, auth="off")


def test_an_empty_variable_means_the_default() -> None:
    assert Settings.from_environ({PREFIX + "HTTP_PORT": ""}) == Settings()


def test_secrets_are_hidden_when_printed() -> None:
    settings = Settings(database_url="postgresql://u:geheim@db/x", redis_url="redis://:geheim@r:1/0", token="geheim")
    assert "geheim" not in repr(settings)
    assert "postgresql://u:***@db/x" in repr(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [("redis://h:1/0", "redis://h:1/0"), ("amqp://u:p@h/", "amqp://u:***@h/"), ("", ""), ("x://:p@h", "x://:***@h")],
)
def test_masking_keeps_all_but_the_password(url: str, shown: str) -> None:
    assert masked(url) == shown
