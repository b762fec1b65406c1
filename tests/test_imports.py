"""Which package may import which, read from the sources: the layout's arrows, kept."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("streams", "agents", "sinks", "web", "embedded", "migrations", "loadtests")

# The longest prefix of a module's name that is listed decides; it may import what
# begins with one of the words beside it, and its own package if that is listed.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # Pure decisions: no I/O within reach.
    "agents.rules": ("agents.rules", "streams.records", "streams.keys", "streams.rules_", "sinks.outcome"),
    "agents": ("agents", "streams", "sinks"),
    # Commands, and what the commands stand on, start every role.
    "agents.__main__": OURS,
    # Rows and channels know what is written, not who decides it.
    "sinks": (
        "sinks",
        "streams.records",
        "streams.rules_",
        "streams.settings",
        "streams.metrics",
        "streams.codec",
        "streams.topics",
        "streams.addresses",
        "streams.trace_context",
    ),
    # Reads and writes the numbered files only, and grants what they made.
    "sinks.migrate": ("migrations", "sinks.grants"),
    "streams": ("streams",),
    # The gateway, too, reads and writes rows; what it says of alerts comes from the rules the workers decide by.
    "web": ("web", "streams", "sinks", "agents.rules"),
    # A refused event is judged again as the command and the job do it.
    "web.dead_letters": ("web", "streams", "sinks", "agents.replay"),
    # The servers know nothing of what runs on them; the supervisor hands settings on.
    "embedded": ("embedded", "streams.settings"),
    "migrations": (),
    # The load comes from outside, over the senders' formats, and reads what was committed.
    "loadtests": ("loadtests", "embedded", "streams.settings", "streams.records"),
    # It times the parts themselves, each alone.
    "loadtests.bench_stages": ("loadtests", "agents", "streams"),
    # Except where what is measured is a part and not the whole.
    "loadtests.handover": OURS,
    "loadtests.handover_worker": OURS,
    "loadtests.live_state": OURS,
}
ROW_MODULES = (".template_check", "_rows", "_reads", ".postgres", ".outcome", ".migrate")


def modules() -> list[str]:
    files = (path.relative_to(ROOT) for name in OURS for path in (ROOT / name).rglob("*.py"))
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files)


def imported(module: str) -> Iterator[str]:
    """Every module of ours that `module` imports, wherever in the file."""
    file = ROOT / Path(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: say the whole name instead of a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in OURS)


def rule_for(module: str) -> str:
    return max((name for name in MAY_IMPORT if f"{module}.".startswith(f"{name}.")), key=len)


@pytest.mark.parametrize("module", modules())
def test_imports_follow_the_layout(module: str) -> None:
    rule = rule_for(module)
    allowed = MAY_IMPORT[rule]
    wrong = [name for name in imported(module) if not name.startswith(allowed)]
    assert not wrong, (
        f"{module} must not import {', '.join(wrong)} (rule for {rule}: {', '.join(allowed) or 'nothing'})"
    )


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("web")])
def test_the_gateway_uses_only_the_row_modules_of_the_sinks(module: str) -> None:
    sinks = [name for name in imported(module) if name.startswith("sinks.")]
    wrong = [name for name in sinks if not any(part in name for part in ROW_MODULES)]
    assert not wrong, f"{module} imports {', '.join(wrong)}"


@pytest.mark.parametrize("word", ["utils", "helpers", "base", "manager", "common", "core"])
def test_no_module_has_a_name_that_says_nothing(word: str) -> None:
    assert not [name for name in modules() if word in name.split(".")]


@pytest.mark.parametrize("module", modules())
def test_a_module_says_what_it_owns(module: str) -> None:
    file = ROOT / Path(*module.split("."))
    if file.is_dir():
        return
    assert ast.get_docstring(ast.parse(file.with_suffix(".py").read_text(encoding="utf-8")))


CLOCKS = {"now", "utcnow", "today", "time", "localtime", "gmtime"}


@pytest.mark.parametrize(
    "module", ["agents.jobs", "agents.heartbeats", "agents.rules.job", "agents.rules.heartbeat", "sinks.job_rows",
               "sinks.heartbeat_rows", "streams.rules_schedule"],
)  # fmt: skip
def test_what_is_due_is_asked_of_postgres_and_of_no_clock_here(module: str) -> None:
    """So clocks of workers may jump, or be minutes apart."""
    tree = ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in CLOCKS]
    assert not asked
