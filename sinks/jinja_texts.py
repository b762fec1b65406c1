"""Templates of our own part of the rules file: Jinja in a sandbox, within bounds of turns and lengths; pure.

A template sees `incident`, `alerts`, `status`, `receiver`, `reason`, `group_labels`, `labels` and `annotations` (those
that all alerts share) and `external_url`. It can neither call functions nor reach attributes that begin with `_`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, cast

import jinja2
import msgspec
import structlog
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from sinks.message import NoticeBody, common, status_of
from streams import metrics

MAX_TEMPLATE: Final = 16_384
MAX_OUTPUT: Final = 65_536
MAX_TURNS: Final = 20_000
_MAX_PRECISION: Final = 15
_BUDGET: Final = "budget_of_turns"
_SEEN: Final = frozenset(
    {
        "incident", "alerts", "status", "receiver", "reason", "group_labels", "labels", "annotations", "external_url",
    }
)  # fmt: skip
_FILTERS: Final = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
        "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select",
        "selectattr", "sort", "string", "title", "trim", "truncate", "unique", "upper", "urlencode",
        "wordcount",
    }
)  # fmt: skip
_METHODS: Final = frozenset({"items", "keys", "values", "get", "lower", "upper", "strip", "startswith", "endswith"})
_REFUSED: Final = (
    nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Macro, nodes.CallBlock, nodes.Mul, nodes.Pow,
    nodes.Mod, nodes.FilterBlock,
)  # fmt: skip


log = structlog.get_logger(__name__)


class JinjaError(ValueError):
    """Raised for a template that is no Jinja, uses what the sandbox has not, or takes too much."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"template line {line}: {reason}" if line else reason)


class _Budget:
    def __init__(self) -> None:
        self.left = MAX_TURNS

    def take(self, turns: int = 1) -> None:
        self.left -= turns
        if self.left < 0:
            raise SecurityError(f"more than {MAX_TURNS} turns of loops")


@jinja2.pass_context
def _counted(context: jinja2.runtime.Context, items: Iterable[Any]) -> Iterator[Any]:
    budget: _Budget = context[_BUDGET]
    for item in items:
        budget.take()
        yield item


@jinja2.pass_context
def _charged(context: jinja2.runtime.Context, value: Any) -> Any:  # noqa: ANN401 - any value
    """What a filter works on costs turns by its size."""
    budget: _Budget = context[_BUDGET]
    budget.take(1 + (len(value) >> 4 if hasattr(value, "__len__") else 0))
    return value


def _bounded(value: Any) -> Any:  # noqa: ANN401 - any value
    if isinstance(value, list | tuple):
        raise SecurityError("lists cannot be added")
    if isinstance(value, str) and len(value) > MAX_OUTPUT:
        raise SecurityError(f"a text of more than {MAX_OUTPUT} letters")
    return value


def _replace(text: str, old: str, new: str) -> str:
    text, old, new = str(text), str(old), str(new)
    if len(text) + text.count(old) * len(new) > MAX_OUTPUT:
        raise SecurityError(f"a text of more than {MAX_OUTPUT} letters")
    return text.replace(old, new)


@jinja2.pass_context
def _made(context: jinja2.runtime.Context, value: Any) -> Any:  # noqa: ANN401 - a list, tuple or dictionary
    """What is put together costs turns by all that is in it, however deep and however often."""
    budget: _Budget = context[_BUDGET]
    waiting = [value]
    while waiting:
        one = waiting.pop()
        budget.take(1 + (len(one) >> 4 if isinstance(one, str) else 0))
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
    return value


def _rounded(value: float, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common") -> float:
    if abs(precision) > _MAX_PRECISION:
        raise SecurityError(f"round takes at most {_MAX_PRECISION} digits")
    return do_round(value, precision, method)


def _json(value: Any) -> str:  # noqa: ANN401 - any value
    return msgspec.json.encode(value).decode()


def _join(items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    parts: list[str] = []
    size = 0
    for item in items:
        parts.append(str(item[attribute] if attribute is not None else item))
        size += len(parts[-1]) + len(separator)
        if size > MAX_OUTPUT:
            raise SecurityError(f"a text of more than {MAX_OUTPUT} letters")
    return separator.join(parts)


class _Environment(ImmutableSandboxedEnvironment):
    def __init__(self) -> None:
        super().__init__(undefined=jinja2.ChainableUndefined, keep_trailing_newline=True, autoescape=False)
        self.globals.clear()
        own: dict[str, Callable[..., Any]] = {
            "counted": _counted,
            "charged": _charged,
            "bounded": _bounded,
            "replace": _replace,
            "join": _join,
            "tojson": _json,
            "made": _made,
            "round": _rounded,
        }
        self.filters = {**{name: run for name, run in self.filters.items() if name in _FILTERS}, **own}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401, ARG002 - Jinja's interface
        return not attr.startswith("_") and (attr in _METHODS or not callable(value))

    def is_safe_callable(self, obj: Any) -> bool:  # noqa: ANN401 - Jinja's interface
        return getattr(obj, "__name__", "") in _METHODS and isinstance(getattr(obj, "__self__", None), str | dict)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all(_REFUSED):
            raise SecurityError(f"line {node.lineno}: {type(node).__name__} is not supported")
        for loop in tree.find_all(nodes.For):
            if loop.recursive:
                raise SecurityError(f"line {loop.lineno}: recursive loops are not supported")
        for unknown in sorted(find_undeclared_variables(tree) - _SEEN):
            raise SecurityError(f"{unknown} does not exist; use {', '.join(sorted(_SEEN))}")
        guarded: nodes.Template = _Guard().visit(tree)
        return guarded


class _Guard(NodeTransformer):
    """Counts the turns of loops and bounds every text that is put together."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - Jinja's interface
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "counted")
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Filter:  # noqa: N802 - likewise
        self.generic_visit(node)
        if node.node is not None:
            node.node = _filtered(node.node, "charged")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - likewise
        self.generic_visit(node)
        return _filtered(node, "bounded")

    def visit_List(self, node: nodes.List) -> nodes.Filter:  # noqa: N802 - likewise
        self.generic_visit(node)
        return _filtered(node, "made")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Filter:  # noqa: N802 - likewise
        self.generic_visit(node)
        return _filtered(node, "made")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Tuple | nodes.Filter:  # noqa: N802 - likewise
        self.generic_visit(node)
        return _filtered(node, "made") if node.ctx == "load" else node

    def visit_Add(self, node: nodes.Add) -> nodes.Filter:  # noqa: N802 - likewise
        self.generic_visit(node)
        return _filtered(node, "bounded")


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(
        cast("nodes.Expr", node), name, [], [], None, None, lineno=node.lineno, environment=node.environment
    )


_ENVIRONMENT: Final = _Environment()


def check(text: str) -> None:
    """See whether a text can be rendered, as far as that does not depend on the notice.

    Raises:
        JinjaError: it cannot.
    """
    _template(text)


def render(text: str, notice: NoticeBody, reason: str) -> str:
    """What the text gives for a notice.

    Raises:
        JinjaError: it cannot be rendered.
    """
    template = _template(text)
    try:
        return _taken(template.generate({**_seen(notice, reason), _BUDGET: _Budget()}))
    except Exception as error:  # what a template may raise is not a closed list
        raise JinjaError(0, str(error) or type(error).__name__) from error


def words(options: Mapping[str, Any], notice: NoticeBody, reason: str) -> dict[str, str]:
    """An integration's own `title` and `text`, rendered; one that fails is left out."""
    found: dict[str, str] = {}
    for name in ("title", "text"):
        if template := options.get(name):
            try:
                found[name] = render(template, notice, reason)
            except JinjaError as error:
                metrics.template_failures.inc()
                log.warning("template_failed", receiver=notice.receiver, reason=str(error))
    return found


def _taken(parts: Iterable[str]) -> str:
    shown: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > MAX_OUTPUT:
            raise SecurityError(f"gives more than {MAX_OUTPUT} letters")
        shown.append(part)
    return "".join(shown)


@lru_cache(maxsize=256)
def _template(text: str) -> jinja2.Template:
    if len(text) > MAX_TEMPLATE:
        raise JinjaError(0, f"is longer than {MAX_TEMPLATE} letters")
    try:
        return _ENVIRONMENT.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise JinjaError(error.lineno, str(error.message)) from error
    except (SecurityError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as error:
        raise JinjaError(0, str(error) or type(error).__name__) from error


def _seen(notice: NoticeBody, reason: str) -> Mapping[str, Any]:
    alerts = [
        {
            "status": alert.status,
            "labels": alert.labels,
            "annotations": alert.annotations,
            "starts_at": alert.starts_at,
            "ends_at": alert.ends_at,
            "url": alert.generator_url,
            "fingerprint": alert.fingerprint,
        }
        for alert in notice.alerts
    ]
    return {
        "incident": msgspec.to_builtins(notice.incident),
        "alerts": alerts,
        "status": status_of(notice),
        "receiver": notice.receiver,
        "reason": reason,
        "group_labels": notice.group_labels,
        "labels": common([alert.labels for alert in notice.alerts]),
        "annotations": common([alert.annotations for alert in notice.alerts]),
        "external_url": notice.external_url,
    }
