"""What happens in one run, made from a seed: alerts, silences, other rules, and who cannot be reached when."""

import random
from typing import Any, Final, NamedTuple

import msgspec

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
LASTS: Final = 150.0
"""Seconds after which an alert without an end, and without news, ends."""
TARGETS: Final = ("ops/0", "ops/1", "desk/0")

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
)
_LOADED: Final = [load(text) for text in _TEXTS]
CONFIGS: Final[dict[int, RulesConfig]] = {
    version: msgspec.structs.replace(_LOADED[version % len(_LOADED)], version=version) for version in range(1, 101)
}
"""Versions of the rules: who is told, by which groups, and what mutes differ."""


class Act(NamedTuple):
    """One thing that happens `at` this second.

    fires, ends: `which` alerts, said by their sender `late` seconds before; again: the last of them once more,
    as a broker delivers it twice; silence: of a service, `lasts` seconds; rules: `version`;
    away: `which` target cannot be reached for `lasts` seconds, and refuses for good with `late` above 0.
    """

    at: float
    what: str
    which: tuple[int, ...] = ()
    late: float = 0.0
    lasts: float = 0.0
    version: int = 0


class Script(NamedTuple):
    """A seed's run: the rules it begins with, what happens in order, and how far clocks are apart."""

    seed: int
    version: int
    acts: tuple[Act, ...]
    skew: float = 0.0

    def __str__(self) -> str:
        head = f"seed {self.seed}, rules {self.version}, clocks {self.skew:g} s apart"
        return "\n".join([head, *(_line(act) for act in self.acts)])


def script_of(seed: int) -> Script:
    """The same script for the same seed, always."""
    chance = random.Random(seed)
    acts, now = list[Act](), 0.0
    version = first = chance.randrange(1, len(_LOADED) + 1)
    for _ in range(chance.randrange(4, 17)):
        now = round(now + chance.choice((0.2, 2.0, 7.0, 15.0, 40.0, 90.0)) * (0.5 + chance.random()), 3)
        acts.append(_act(chance, now, version))
        version = max(version, acts[-1].version)
    skew = chance.choice((0.0, 0.0, 0.0, 20.0, 300.0, -300.0))
    if skew < 0:  # what a sender says of times that have not come yet is not believed, so it cannot bring order either
        acts = [act if act.what == "away" else act._replace(late=0.0) for act in acts]
    return Script(seed, first, tuple(acts), skew)


def _act(chance: random.Random, now: float, version: int) -> Act:
    what = chance.choices(
        ("fires", "ends", "again", "silence", "rules", "away"), weights=(45, 27, 8, 7, 5, 8)
    )[0]  # fmt: skip
    if what in ("fires", "ends", "again"):
        which = tuple(sorted(chance.sample(range(len(ALERTS)), chance.choice((1, 1, 1, 2, 3)))))
        late = round(chance.choice((0.0, 0.0, 0.0, 0.0, 5.0, 50.0)) * chance.random(), 3)
        return Act(now, what, which, late)
    if what == "silence":
        return Act(now, what, (chance.randrange(3),), lasts=chance.choice((5.0, 60.0, 200.0)))
    if what == "rules":
        return Act(now, what, version=version + chance.randrange(1, len(_LOADED)))
    return Act(now, what, (chance.randrange(len(TARGETS)),), chance.choice((0.0, 0.0, 1.0)), chance.choice((3.0, 90.0)))


def _line(act: Act) -> str:
    said: dict[str, Any] = {key: value for key, value in act._asdict().items() if value and key not in ("at", "what")}
    return f"  {act.at:9.3f}  {act.what:8}" + "  ".join(f"{key}={value}" for key, value in said.items())
