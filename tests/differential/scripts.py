"""Random scripts of pushes, ends, silences and reloads, each from its seed, with labels and receivers of its own.

Everything that a rule could see happens at its own time, so that no answer
hangs on milliseconds: groups are flushed at even seconds, senders act at odd
ones, ends and silences pass 0.6 s later. A reload flushes every group at once
and so moves the clock of all of them: after it the same holds 0.3 s later.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

SECONDS: Final = 27
"""How long a script is watched: below the 30 s after which Alertmanager sweeps empty groups away."""
RELOAD_AT: Final = 10.3
LAG: Final = 0.6
"""From the action to the end that it announces."""
RESOLVE_TIMEOUT: Final = 8 + LAG
FAR: Final = 3600.0
WARM: Final = "warm"
"""The script of alerts that are told at once, so that everything has run once before times count."""

Labels = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """One alert as it is posted; times are seconds of the script, None is left out."""

    labels: Labels
    annotations: Labels = field(default_factory=dict)
    starts: float | None = None
    ends: float | None = None


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something that a sender or a person does at a time."""

    at: float
    alerts: tuple[Pushed, ...] = ()
    silence: str = ""
    matchers: tuple[tuple[str, str, bool], ...] = ()
    until: float = 0
    expire: str = ""


@dataclass(frozen=True, kw_only=True)
class Script:
    """Routes and receivers (before and after the reload), and what is done. `name` is the label `script`."""

    name: str
    seed: int
    route: dict[str, Any]
    receivers: tuple[dict[str, Any], ...]
    inhibit: tuple[dict[str, Any], ...]
    actions: tuple[Action, ...]
    later: "tuple[dict[str, Any], tuple[dict[str, Any], ...]] | None" = None

    @property
    def reloads(self) -> bool:
        """Whether the configuration is loaded again at `RELOAD_AT`."""
        return self.later is not None


def script(seed: int, *, reloads: bool = False, silences: bool = True) -> Script:
    """The script of a seed."""
    return _Author(seed, reloads=reloads, silences=silences).script()


def config(scripts: list[Script], url: str, *, later: bool = False) -> str:
    """One alertmanager.yml for all of them; receivers are at `url`/NAME/INDEX."""
    warm = {"receiver": WARM, "matchers": [f'script="{WARM}"'], "group_by": ["alertname"], "group_wait": "0s"}
    routes: list[Any] = [warm]
    receivers: list[dict[str, Any]] = [{"name": "nobody"}, _addressed({"name": WARM, "wants": (False,)}, url)]
    inhibit: list[Any] = []
    for one in scripts:
        route, mine = one.later if later and one.later is not None else (one.route, one.receivers)
        routes.append(route)
        receivers += [_addressed(receiver, url) for receiver in mine]
        inhibit += one.inhibit
    top = {"receiver": "nobody", "group_by": ["script"], "routes": routes}
    whole: dict[str, Any] = {
        "global": {"resolve_timeout": f"{round(RESOLVE_TIMEOUT * 1000)}ms"},
        "route": top,
        "receivers": receivers,
    }
    if inhibit:
        whole["inhibit_rules"] = inhibit
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)


def _addressed(receiver: dict[str, Any], url: str) -> dict[str, Any]:
    hooks = [
        {"url": f"{url}/{receiver['name']}/{place}", "send_resolved": wants}
        for place, wants in enumerate(receiver["wants"])
    ]
    return {"name": receiver["name"], "webhook_configs": hooks}


class _Author:
    """Writes one script; remembers what it has begun, so that it can end it."""

    def __init__(self, seed: int, *, reloads: bool, silences: bool) -> None:
        self._chance = random.Random(f"script {seed} {reloads}")
        self._seed = seed
        self._reloads = reloads
        self._silences = silences
        self._name = f"{'r' if reloads else 's'}{seed}"
        self._begun: dict[int, float] = {}
        self._standing: list[str] = []
        self._fresh: list[str] = []
        self._made = 0
        self._pool = self._labels()

    def script(self) -> Script:
        chance = self._chance
        wants = chance.choice([(True,), (True,), (True, False), (False,)])
        route = self._route(self._name)
        receivers: tuple[dict[str, Any], ...] = ({"name": self._name, "wants": wants},)
        extra = not self._reloads and chance.random() < 0.25
        if extra:
            route["routes"] = [
                {**self._grouping(), "receiver": f"{self._name}x", "matchers": ['alertname=~"A|C"'], "continue": True},
                {"receiver": self._name, "matchers": ['alertname=~"A|B"'], "group_by": ["alertname"]},
            ]
            receivers += ({"name": f"{self._name}x", "wants": (True,)},)
        inhibit = self._inhibition() if self._silences and chance.random() < 0.3 else ()
        if self._reloads:
            inhibit = ()  # there a reload forgets for a moment what fires and mutes, and what is told then is chance
        later = self._later(route, receivers) if self._reloads else None
        return Script(
            name=self._name, seed=self._seed, route=route, receivers=receivers, inhibit=inhibit,
            actions=tuple(self._actions()), later=later,
        )  # fmt: skip

    def _labels(self) -> list[Labels]:
        pool = []
        for place, name in enumerate("ABCD"):
            labels = {"script": self._name, "alertname": name, "severity": "critical" if place == 0 else "warning"}
            service = self._chance.choice(["api", "db", "", 'naïve "q"'] if place else ["api", "db"])
            if service:
                labels["service"] = service
            if self._chance.random() < 0.3:
                labels[self._chance.choice(["job", "instance"])] = self._chance.choice("xyz")
            pool.append(labels)
        return pool

    def _grouping(self) -> dict[str, Any]:
        by = self._chance.choice([["alertname"], ["service"], ["severity"], ["..."], ["script", "service"]])
        return {
            "group_by": ["alertname"] if self._reloads else by,
            "group_wait": "1s",
            "group_interval": "2s",
            "repeat_interval": self._chance.choice(["5s", "1h"]),
        }

    def _route(self, receiver: str) -> dict[str, Any]:
        return {"receiver": receiver, "matchers": [f'script="{self._name}"'], **self._grouping()}

    def _later(self, route: dict[str, Any], receivers: tuple[dict[str, Any], ...]) -> Any:
        match self._chance.randint(0, 3):
            case 0:
                return {**route, "group_by": ["alertname", "service"]}, receivers
            case 1:
                return {**route, "repeat_interval": "5s"}, receivers
            case 2:
                return route, tuple({**one, "wants": tuple(not want for want in one["wants"])} for one in receivers)
        return route, receivers

    def _inhibition(self) -> tuple[dict[str, Any], ...]:
        mine = f'script="{self._name}"'
        rule = {
            "source_matchers": [mine, 'severity="critical"'],
            "target_matchers": [mine, 'severity="warning"'],
            "equal": self._chance.choice([["script"], ["service"]]),
        }
        return (rule,)

    def _actions(self) -> list[Action]:
        actions = []
        if not self._reloads and self._chance.random() < 0.3:
            # Older than group_wait: it is told at once, and so sets its group's clock.
            actions.append(self._push(0, [self._chance.randrange(len(self._pool))], starts=-60))
        for second in range(1, SECONDS - 5, 2):
            at = second + (0.3 if self._reloads and second > RELOAD_AT else 0)
            busy: set[int] = set()
            self._standing += self._fresh
            self._fresh = []
            for _ in range(self._chance.choice([0, 1, 1, 1, 2])):
                action = self._action(at, busy)
                if action is not None:
                    actions.append(action)
        return actions

    def _action(self, at: float, busy: set[int]) -> Action | None:
        chance = self._chance
        free = [place for place in range(len(self._pool)) if place not in busy]
        what = chance.random()
        if what < 0.5:
            chosen = chance.sample(free, min(len(free), chance.choice([1, 1, 2])))
            busy.update(chosen)
            return self._push(at, chosen) if chosen else None
        if what < 0.82:
            likely = [place for place in free if place in self._begun]
            chosen = chance.sample(likely or free, 1) if free else []
            busy.update(chosen)
            return self._end(at, chosen[0]) if chosen else None
        if not self._silences:
            return None
        if what < 0.93 or not self._standing:
            return self._silence(at)
        return Action(at=at, expire=self._standing.pop(chance.randrange(len(self._standing))))

    def _push(self, at: float, places: list[int], starts: float | None = None) -> Action:
        return Action(at=at, alerts=tuple(self._firing(at, place, starts) for place in places))

    def _firing(self, at: float, place: int, starts: float | None) -> Pushed:
        chance = self._chance
        if starts is None:
            starts = chance.choice([None, None, at, self._begun.get(place, at)])
        ends = chance.choice([None, None, FAR, FAR, at + LAG + 2 * chance.randint(1, 3)])
        if self._reloads and starts is None and ends is not None:
            starts = at  # an end without a start is the start too: a reload would take it for too young
        self._begun[place] = at if starts is None else starts
        text = {"summary": chance.choice(["it is slow", "it is slow", "it is down"]), "runbook": "r"}
        return Pushed(labels=self._pool[place], annotations=text, starts=starts, ends=ends)

    def _end(self, at: float, place: int) -> Action:
        begun = self._begun.pop(place, None)
        starts = begun if begun is not None and self._chance.random() < 0.6 else None
        return Action(at=at, alerts=(Pushed(labels=self._pool[place], starts=starts, ends=at),))

    def _silence(self, at: float) -> Action:
        chance = self._chance
        self._made += 1
        name = f"{self._name}-{self._made}"
        matcher = chance.choice([("alertname", "A", False), ("alertname", "A|B", True), ("severity", "warning", False)])
        until = at + LAG + 2 * chance.randint(1, 6) if chance.random() < 0.6 else FAR
        if until == FAR:
            self._fresh.append(name)
        return Action(at=at, silence=name, matchers=(("script", self._name, False), matcher), until=until)
