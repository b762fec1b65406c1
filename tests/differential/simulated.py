"""Our system played by the simulation: the same scripts in milliseconds."""

from collections.abc import Sequence

from tests.agents.stage import T0
from tests.differential.batches import Batch, batch_of
from tests.differential.explain import Ends, Labels
from tests.differential.play import posted
from tests.differential.scripts import RELOAD_AT, SECONDS, Action, Script, config
from tests.simulation.world import World

_URL = "http://127.0.0.1:9"


def told(scripts: Sequence[Script], *, strict: bool) -> dict[str, list[Batch]]:
    """What our receivers get of these scripts."""
    return play(scripts, strict=strict)[0]


def play(scripts: Sequence[Script], *, strict: bool) -> tuple[dict[str, list[Batch]], Ends]:
    """The same, and when each alert ended."""
    ends: dict[Labels, list[float]] = {}
    fires: set[Labels] = set()
    world = World(config(list(scripts), _URL), alertmanager_mode="on" if strict else "off", flap_window=0)
    actions: list[tuple[float, Action | None]] = [(one.at, one) for script in scripts for one in script.actions]
    if any(script.reloads for script in scripts):
        actions.append((RELOAD_AT, None))
    for at, action in sorted(actions, key=lambda one: one[0]):
        world.run(at)
        _notice_ends(world, fires, ends)
        world.now += 0.002  # what is posted at a time arrives a little later
        if action is None:
            world.reload(config(list(scripts), _URL, later=True))
        else:
            _do(world, action)
        _notice_ends(world, fires, ends)
    world.run(SECONDS)
    found: dict[str, list[Batch]] = {script.name: [] for script in scripts}
    for sent in world.sent:
        found[sent.target.split("/")[0].rstrip("x")].append(batch_of(sent.body, sent.target, sent.at, T0))
    return found, ends


def _notice_ends(world: World, fires: set[Labels], ends: dict[Labels, list[float]]) -> None:
    now = world.firing()
    for labels in fires - now:
        ends.setdefault(labels, []).append(world.now)
    fires.clear()
    fires.update(now)


def _do(world: World, action: Action) -> None:
    if action.alerts:
        world.post([posted(alert, T0) for alert in action.alerts])
    elif action.silence:
        sets = [(name, "=~" if regex else "=", value) for name, value, regex in action.matchers]
        world.silence(action.silence, sets, until=action.until)
    else:
        world.expire(action.expire)
