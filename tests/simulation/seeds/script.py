"""What happens in one run, made from a seed: alerts, people, silences, other rules, clocks, and who is away when."""

import random
from typing import Any, Final, NamedTuple

import msgspec

from streams.records import ActionName
from streams.rules_config import RulesConfig, load

ALERTS: Final = tuple(
    {"alertname": name, "service": service, "severity": severity}
    for name, service, severity in (
        ("dc", "x", "critical"),
        ("job", "x", "error"),
        ("job", "y", "error"),
        ("cost", "x", "warning"),
        ("cost", "y", "info"),
        ("drift", "z", "warning"),
    )
)
"""The label sets of all alerts. Those named `drift` come in Alertmanager's way: without news they end by themselves."""
FADING: Final = frozenset(number for number, labels in enumerate(ALERTS) if labels["alertname"] == "drift")
LASTS: Final = 150.0
"""Seconds after which an alert without an end, and without news, ends."""
TARGETS: Final = ("ops/0", "ops/1", "desk/0", "@ada/0")

_BASE: Final = """
route:
  receiver: ops
  group_by: [service]
  group_wait: 10s
  group_interval: 90s
  repeat_interval: 4h
  routes:
    - {receiver: desk, matchers: [alertname="cost"], group_by: [alertname], group_wait: 20s, continue: true}
    - {receiver: ops, matchers: [alertname=~"job|cost|drift"]}
receivers:
  - name: ops
    webhook_configs: [{url: "http://one.example/"}, {url: "http://two.example/", send_resolved: false}]
  - name: desk
    webhook_configs: [{url: "http://desk.example/"}]
"""
_INHIBIT: Final = """
inhibit_rules:
  - {source_matchers: [alertname="dc"], target_matchers: [alertname="job"], equal: [service]}
"""
_SESSION: Final = """
incidents: {correlation: [{name: same service, labels: [service], within: 60s}]}
"""
_STORM: Final = """
incidents: {correlation: [{name: storm, alerts: 3, within: 120s, matchers: [alertname!="dc"]}]}
"""
_ESCALATION: Final = """
incidents:
  people:
    ada: {webhook_configs: [{url: "http://ada.example/"}]}
    bob: {webhook_configs: [{url: "http://bob.example/"}], quiet_hours: [{from: "10:00", until: "12:04"}]}
  policies:
    on-call:
      steps: [{delay: 15s, targets: [{person: ada}]}, {delay: 60s, targets: [{person: bob}, {receiver: desk}]}]
      repeat: {times: 1, after: 40s}
  escalation: [{policy: on-call, severities: [critical, error, warning]}]
"""
_OFTEN: Final = _BASE.replace("repeat_interval: 4h", "repeat_interval: 2m")
_TEXTS: Final = (
    _BASE,
    _BASE + _INHIBIT,
    _BASE.replace("group_by: [service]", "group_by: [alertname]"),
    _BASE.replace("group_by: [service]", "group_by: [alertname, service]") + _INHIBIT,
    _BASE.replace("{receiver: ops, matchers", "{receiver: desk, matchers"),
    _BASE.replace("group_by: [service]", "group_by: [alertname, service]").replace(
        "group_by: [alertname],", "group_by: [alertname, service],"
    )
    + _SESSION,
    _BASE + _STORM,
    _OFTEN,
    _OFTEN.replace("group_by: [service]", "group_by: [alertname, service]") + _ESCALATION,
    _BASE + _INHIBIT + _ESCALATION,
)
_LOADED: Final = [load(text) for text in _TEXTS]
CONFIGS: Final[dict[int, RulesConfig]] = {
    version: msgspec.structs.replace(_LOADED[version % len(_LOADED)], version=version) for version in range(1, 101)
}
"""Versions of the rules: who is told, by which groups, and what mutes differ."""
_VERBS: Final = {
    ActionName.ACKNOWLEDGE: 14, ActionName.UNACKNOWLEDGE: 7, ActionName.RESOLVE: 13, ActionName.REOPEN: 9,
    ActionName.SNOOZE: 10, ActionName.UNSNOOZE: 5, ActionName.ASSIGN: 4, ActionName.COMMENT: 5, ActionName.LINK: 2,
    ActionName.EDIT: 8, ActionName.MERGE: 15, ActionName.SPLIT: 8, ActionName.UNCORRELATE: 4, ActionName.REDACT: 3,
    ActionName.OPEN: 7,
}  # fmt: skip
"""What people do, and how often."""


class Act(NamedTuple):
    """One thing that happens `at` this second.

    fires, ends: `which` alerts, said by their sender `late` seconds before; again: the last of them once more,
    as a broker delivers it twice; silence: of a service, `lasts` seconds; rules: `version`;
    away: `which` target cannot be reached for `lasts` seconds, and refuses for good with `late` above 0;
    person: does `verb` to one incident (`which`: how many began after it, and what else there is to choose), and
    it comes once more `late` seconds later, if that is above 0; clock: the `which` partition's owner has its clock
    set wrong by `late` for `lasts` seconds.
    """

    at: float
    what: str
    which: tuple[int, ...] = ()
    late: float = 0.0
    lasts: float = 0.0
    version: int = 0
    verb: str = ""


class Script(NamedTuple):
    """A seed's run: the rules it begins with, what happens in order, and how far clocks are apart."""

    seed: int
    version: int
    acts: tuple[Act, ...]
    skew: float = 0.0
    skew_at: float = 0.0

    def __str__(self) -> str:
        head = f"seed {self.seed}, rules {self.version}, clocks {self.skew:g} s apart from {self.skew_at:g} s on"
        return "\n".join([head, *(_line(act) for act in self.acts)])


def script_of(seed: int) -> Script:
    """The same script for the same seed, always."""
    chance = random.Random(seed)
    acts, now = list[Act](), 0.0
    version = first = chance.randrange(1, len(_LOADED) + 1)
    for _ in range(chance.randrange(4, 20)):
        now = round(now + chance.choice((0.2, 2.0, 7.0, 15.0, 40.0, 90.0)) * (0.5 + chance.random()), 3)
        acts.append(_act(chance, now, version))
        version = max(version, acts[-1].version)
    skew = chance.choice((0.0, 0.0, 0.0, 20.0, 300.0, -300.0))
    if skew < 0:  # what a sender says of times that have not come yet is not believed, so it cannot bring order either
        acts = [act if act.what == "away" else act._replace(late=0.0) for act in acts]
    return Script(seed, first, tuple(acts), skew, chance.choice((0.0, 0.5)) * now)


def _act(chance: random.Random, now: float, version: int) -> Act:
    what = chance.choices(
        ("fires", "ends", "again", "silence", "rules", "away", "person", "clock"),
        weights=(40, 22, 7, 6, 5, 7, 34, 2),
    )[0]  # fmt: skip
    if what in ("fires", "ends", "again"):
        which = tuple(sorted(chance.sample(range(len(ALERTS)), chance.choice((1, 1, 1, 2, 3)))))
        late = round(chance.choice((0.0, 0.0, 0.0, 0.0, 5.0, 50.0)) * chance.random(), 3)
        return Act(now, what, which, late)
    if what == "silence":
        return Act(now, what, (chance.randrange(3),), lasts=chance.choice((5.0, 60.0, 200.0)))
    if what == "person":
        return _of_a_person(chance, now)
    if what == "clock":
        return Act(now, what, (chance.randrange(6),), chance.choice((3600.0, -7200.0)), chance.choice((5.0, 100.0)))
    if what == "rules":
        return Act(now, what, version=version + chance.randrange(1, len(_LOADED)))
    return Act(now, what, (chance.randrange(len(TARGETS)),), chance.choice((0.0, 0.0, 1.0)), chance.choice((3.0, 90.0)))


def _of_a_person(chance: random.Random, now: float) -> Act:
    verb = chance.choices(tuple(_VERBS), weights=tuple(_VERBS.values()))[0]
    which = (chance.choice((0, 0, 0, 1, 1, 2, 3, 5)), chance.randrange(4))
    late = chance.choice((0.0, 0.0, 0.0, 0.001, 20.0, 90.0))
    return Act(now, "person", which, late, chance.choice((10.0, 60.0, 300.0)), verb=verb.value)


def _line(act: Act) -> str:
    said: dict[str, Any] = {key: value for key, value in act._asdict().items() if value and key not in ("at", "what")}
    return f"  {act.at:9.3f}  {act.what:8}" + "  ".join(f"{key}={value}" for key, value in said.items())
