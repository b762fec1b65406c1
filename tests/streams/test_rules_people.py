"""People of a rules file: read with their contact methods or refused with the line, and quiet when they say so."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from streams.records import Severity
from streams.rules_config import ConfigError, RulesConfig, load
from streams.rules_limits import RateLimit

FILE = """\
global: {{smtp_smarthost: 'mail:25', smtp_from: a@b.c}}
route: {{receiver: desk}}
receivers: [{{name: desk}}, {{name: '@root'}}]
incidents:
  people:
    {name}:
{about}
"""
QUIET = '      quiet_hours: [{from: "22:00", until: "07:00"}]'
NIGHTS = "      email_configs: [{to: ada@b.c}]\n      time_zone: Europe/Berlin\n" + QUIET


def person(about: str, name: str = "ada") -> RulesConfig:
    return load(FILE.format(about=about, name=name))


def test_a_person_has_contact_methods_like_a_receiver() -> None:
    config = person(
        "      email_configs: [{to: ada@b.c}]\n      webhook_configs: [{url: 'http://h.example/x'}]\n"
        "      rate_limit: {notices: 3, per: 10m}\n"
    )
    receiver = config.told_as("@ada")
    assert receiver is not None
    assert receiver.name == "@ada"
    assert [(one.channel, one.index) for one in receiver.integrations] == [("webhook", 0), ("email", 1)]
    assert receiver.integrations[1].target == "smtp://mail:25/ada@b.c"
    assert config.ours.rate_limit("@ada") == RateLimit(3, timedelta(minutes=10))
    assert config.told_as("ada") is None
    assert config.told_as("@bob") is None
    assert config.told_as("desk") is config.receivers["desk"]


@pytest.mark.parametrize(
    ("about", "line", "field", "reason"),
    [
        ("      time_zone: UTC", 7, "ada", "has no contact method"),
        ("      email_configs: [{}]", 7, "ada.email_configs[0]", "has no address"),
        ("      email_configs: [{to: a@b.c}]\n      time_zone: Mars", 8, "ada.time_zone", "not a known time zone"),
        ("      email_configs: [{to: a@b.c}]\n      time_zone: Local", 8, "ada.time_zone", "whatever machine"),
        ("      email_configs: [{to: a@b.c}]\n      phone: 1", 8, "ada.phone", "not a key"),
        ("      sns_configs: [{}]", 7, "ada.sns_configs", "not supported yet"),
        ("      email_configs: [{to: a@b.c}]\n      quiet_hours: [{from: 7}]", 8, "ada.quiet_hours[0]", "no until"),
        (
            '      email_configs: [{to: a@b.c}]\n      quiet_hours: [{from: "7:00", until: "08:00"}]', 8,
            "ada.quiet_hours[0].from", "not a time of day",
        ),
        (
            '      email_configs: [{to: a@b.c}]\n      quiet_hours: [{from: "07:00", until: "07:00"}]', 8,
            "ada.quiet_hours[0]", "begins when it ends",
        ),
        ("      email_configs: [{to: a@b.c}]\n      pierced_by: error", 8, "ada.pierced_by", "no quiet hours"),
        (f"{NIGHTS}\n      pierced_by: dire", 10, "ada.pierced_by", "not a severity"),
        ("      email_configs: [{to: a@b.c}]\n      rate_limit: {notices: 1}", 8, "ada.rate_limit", "has no per"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(about: str, line: int, field: str, reason: str) -> None:
    with pytest.raises(ConfigError) as told:
        person(about)
    assert (told.value.line, told.value.field) == (line, f"incidents.people.{field}")
    assert reason in str(told.value)
    assert told.value.remedy


def test_a_receiver_and_a_person_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="a receiver is named '@root'"):
        person("      email_configs: [{to: a@b.c}]", name="root")


def until(quiet: str, now: str, severity: Severity = Severity.ERROR, zone: str = "Europe/Berlin") -> str | None:
    """The end of the quiet, as the clock of the zone shows it."""
    config = person(f"      email_configs: [{{to: a@b.c}}]\n      time_zone: {zone}\n      quiet_hours: {quiet}")
    ends = config.ours.people["ada"].quiet_until(datetime.fromisoformat(now).astimezone(UTC), severity)
    return ends.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") if ends else None


NIGHT = '[{from: "22:00", until: "07:00"}]'
WEEKEND = '[{from: "22:00", until: "07:00"}, {from: "00:00", until: "24:00", weekdays: [saturday, sunday]}]'
WORK = '[{from: "09:00", until: "17:30", weekdays: ["monday:friday"]}]'


@pytest.mark.parametrize(
    ("quiet", "now", "end"),
    [
        (NIGHT, "2026-01-15T21:59+01:00", None),
        (NIGHT, "2026-01-15T22:00+01:00", "2026-01-16T07:00+01:00"),
        (NIGHT, "2026-01-16T06:59+01:00", "2026-01-16T07:00+01:00"),
        (NIGHT, "2026-01-16T07:00+01:00", None),
        # The night of 29 March 2026 is an hour short, that of 25 October an hour long.
        (NIGHT, "2026-03-29T01:59+01:00", "2026-03-29T07:00+02:00"),
        (NIGHT, "2026-03-29T06:30+02:00", "2026-03-29T07:00+02:00"),
        (NIGHT, "2026-03-29T07:00+02:00", None),
        (NIGHT, "2026-10-25T06:30+01:00", "2026-10-25T07:00+01:00"),
        # 02:30 never comes on the first, and comes twice on the other: quiet lasts until the second.
        ('[{from: "01:00", until: "02:30"}]', "2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"),
        ('[{from: "01:00", until: "02:30"}]', "2026-10-25T02:45+02:00", "2026-10-25T02:30+01:00"),
        ('[{from: "02:30", until: "05:00"}]', "2026-03-29T03:29+02:00", None),
        ('[{from: "02:30", until: "05:00"}]', "2026-03-29T03:30+02:00", "2026-03-29T05:00+02:00"),
        # Friday night, the weekend and Sunday night are one quiet.
        (WEEKEND, "2026-01-16T23:00+01:00", "2026-01-19T07:00+01:00"),
        (WEEKEND, "2026-01-18T12:00+01:00", "2026-01-19T07:00+01:00"),
        (WORK, "2026-01-16T17:29+01:00", "2026-01-16T17:30+01:00"),
        (WORK, "2026-01-17T12:00+01:00", None),
    ],
)
def test_quiet_hours_follow_the_clock_of_their_zone(quiet: str, now: str, end: str | None) -> None:
    assert until(quiet, now) == end


def test_what_is_severe_enough_pierces() -> None:
    at_night = "2026-01-15T23:00+01:00"
    assert until(NIGHT, at_night, Severity.CRITICAL) is None
    config = person(f"{NIGHTS}\n      pierced_by: warning")
    ada, now = config.ours.people["ada"], datetime.fromisoformat(at_night)
    assert ada.quiet_until(now, Severity.WARNING) is None
    assert ada.quiet_until(now, Severity.INFO) is not None
