"""Runs a template's tree over data, within bounds of steps, depth and length."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from sinks.gotemplate import nodes
from sinks.gotemplate.errors import TemplateError, ValueProblemError
from sinks.gotemplate.formatting import shown
from sinks.gotemplate.functions import FUNCTIONS, called, texted
from sinks.gotemplate.nodes import Node, Template
from sinks.gotemplate.values import MAX_LENGTH, MISSING, Map, Missing, Struct, items, methods_of, truth, type_name

MAX_STEPS: Final = 100_000
STEPS_OF_AN_ALERT: Final = 100
MOST_STEPS: Final = 500_000
MAX_DEPTH: Final = 40


class Writer(Protocol):
    """Where the output goes."""

    def text(self, text: str) -> None:
        """Take text of the template itself."""

    def value(self, value: Any, text: str, closing: str = "") -> None:  # noqa: ANN401 - any value
        """Take a value and its text; `closing` is the function that is left to do."""

    def escapes(self, function: str) -> bool:
        """Whether the function, last in its pipeline, is done here."""

    def reserves(self, function: str) -> bool:
        """Whether the function may only come last."""

    def finish(self) -> None:
        """Hear that nothing more comes; raises ValueProblemError if something is missing."""


class Plain:
    """Output as it comes, or with every value escaped."""

    def __init__(self, escape: Callable[[str], str] | None = None) -> None:
        self.parts: list[str] = []
        self._escape = escape

    def text(self, text: str) -> None:
        """Keep it."""
        self.parts.append(text)

    def value(self, value: Any, text: str, closing: str = "") -> None:  # noqa: ANN401, ARG002 - the interface's
        """Keep its text."""
        self.parts.append(self._escape(text) if self._escape is not None else text)

    def escapes(self, function: str) -> bool:  # noqa: ARG002 - the interface's
        """Nothing is done."""
        return False

    def reserves(self, function: str) -> bool:  # noqa: ARG002 - the interface's
        """None is special."""
        return False

    def finish(self) -> None:
        """Text is whole at every place."""


class _Jump(Exception):  # noqa: N818 - no error: it ends a turn of a loop
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Evaluator:
    """One rendering; the steps that it may take grow with the number of alerts, up to a bound."""

    def __init__(self, templates: Mapping[str, Template], writer: Writer, alerts: int = 0) -> None:
        self._most = min(MAX_STEPS + alerts * STEPS_OF_AN_ALERT, MOST_STEPS)
        self._templates = templates
        self._writer = writer
        self._steps = 0
        self._length = 0
        self._depth = 0
        self._line = 1
        self._source = ""
        self._variables: list[tuple[str, Any]] = []

    def run(self, template: Template, data: Any) -> None:  # noqa: ANN401 - any value
        """Write what the template gives for the data.

        Raises:
            TemplateError: it cannot be rendered.
        """
        try:
            self._body(template, data)
            self._writer.finish()
        except ValueProblemError as error:
            raise TemplateError(self._source, self._line, str(error), always=error.always) from error
        except RecursionError as error:
            raise TemplateError(self._source, self._line, "is nested too deeply") from error

    def _body(self, template: Template, data: Any) -> None:  # noqa: ANN401
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"templates call each other more than {MAX_DEPTH} deep")
        variables, source = self._variables, self._source
        self._variables, self._source = [("$", data)], template.source
        self._walk(template.body, data)
        self._variables, self._source = variables, source
        self._depth -= 1

    def _walk(self, body: nodes.Nodes, dot: Any) -> None:  # noqa: ANN401
        for node in body:
            self._step(node.line)
            if isinstance(node, nodes.Text):
                self._count(node.text)
                self._writer.text(node.text)
            elif isinstance(node, nodes.Action):
                self._action(node.pipe, dot)
            elif isinstance(node, nodes.Branch):
                self._branch(node, dot)
            elif isinstance(node, nodes.Jump):
                raise _Jump(node.what)
            elif isinstance(node, nodes.Call):
                self._call(node, dot)

    def _action(self, pipe: nodes.Pipe, dot: Any) -> None:  # noqa: ANN401
        if pipe.variables:
            self._pipe(dot, pipe)
            return
        for name in filter(None, map(_function_of, pipe.commands[:-1])):
            if self._writer.reserves(name):
                raise self._error(f"the function {name} is not allowed there in HTML", "put it last", always=True)
        last = _function_of(pipe.commands[-1])
        closing = last if self._writer.escapes(last) else ""
        value = self._pipe(dot, pipe, closing=closing)
        text = "<no value>" if value is None else shown(value)
        self._count(text)
        self._writer.value(value, text, closing)

    def _branch(self, node: nodes.Branch, dot: Any) -> None:  # noqa: ANN401
        known = len(self._variables)
        if node.what == "range":
            self._range(node, dot)
        else:
            value = self._pipe(dot, node.pipe)
            if truth(value):
                self._walk(node.body, value if node.what == "with" else dot)
            else:
                self._walk(node.otherwise, dot)
        del self._variables[known:]

    def _range(self, node: nodes.Branch, dot: Any) -> None:  # noqa: ANN401
        names = node.pipe.variables
        plain = nodes.Pipe(variables=(), declares=False, commands=node.pipe.commands, line=node.pipe.line)
        known = len(self._variables)
        empty = True
        for key, value in items(self._pipe(dot, plain)):
            empty = False
            self._step(node.line)
            for name, held in zip(names, (key, value) if len(names) > 1 else (value,), strict=False):
                if node.pipe.declares:
                    self._variables.append((name, held))
                else:
                    self._set(name, held)
            try:
                self._walk(node.body, value)
            except _Jump as jump:
                if jump.what == "break":
                    break
            finally:
                del self._variables[known:]
        if empty:
            self._walk(node.otherwise, dot)

    def _call(self, node: nodes.Call, dot: Any) -> None:  # noqa: ANN401
        template = self._templates.get(node.name)
        if template is None:
            raise self._error(f"template {node.name!r} not defined", "define it or correct the name", always=True)
        self._body(template, self._pipe(dot, node.pipe) if node.pipe is not None else MISSING)
        self._line = node.line

    def _pipe(self, dot: Any, pipe: nodes.Pipe, *, closing: str = "") -> Any:  # noqa: ANN401
        value: Any = None
        last = len(pipe.commands) - 1
        for index, command in enumerate(pipe.commands):
            value = self._command(dot, command, [value] if index else [], left=closing if index == last else "")
        for name in pipe.variables:
            if pipe.declares:
                self._variables.append((name, value))
            else:
                self._set(name, value)
        return value

    def _command(self, dot: Any, command: nodes.Command, last: list[Any], *, left: str) -> Any:  # noqa: ANN401
        self._step(command.line)
        first, *others = command.words
        if isinstance(first, nodes.Function):
            if left:
                return texted((*(self._value(dot, word) for word in others), *last))
            return self._function(first.name, dot, others, last)
        if isinstance(first, nodes.Nil):
            raise self._error("nil is not a command", always=True)
        if isinstance(first, nodes.Field):
            return self._fields(dot, first.names, [(dot, others)], last)
        if isinstance(first, nodes.Variable) and first.names:
            return self._fields(self._variable(first.name), first.names, [(dot, others)], last)
        if isinstance(first, nodes.Chain):
            return self._fields(self._value(dot, first.of), first.names, [(dot, others)], last)
        if others or last:
            raise self._error("can't give argument to non-function", "call a function", always=True)
        return self._value(dot, first)

    def _function(self, name: str, dot: Any, words: list[Node], last: list[Any]) -> Any:  # noqa: ANN401
        if name in {"and", "or"}:
            return self._shortcut(name, dot, words, last)
        values = [self._value(dot, word) for word in words] + last
        return self._checked(called(name, FUNCTIONS[name], values))

    def _shortcut(self, name: str, dot: Any, words: list[Node], last: list[Any]) -> Any:  # noqa: ANN401
        """`and` and `or` look at no argument after the one that decides."""
        if not words and not last:
            raise self._error(f"wrong number of args for {name}: want at least 1 got 0", always=True)
        value: Any = None
        for word in words:
            value = self._value(dot, word)
            if truth(value) == (name == "or"):
                return value
        return last[0] if last else value

    def _value(self, dot: Any, node: Node) -> Any:  # noqa: ANN401, PLR0911 - a kind of node, a line
        if isinstance(node, nodes.Constant):
            return node.value
        if isinstance(node, nodes.Dot):
            return dot
        if isinstance(node, nodes.Nil):
            return None
        if isinstance(node, nodes.Field):
            return self._fields(dot, node.names, [], [])
        if isinstance(node, nodes.Variable):
            return self._fields(self._variable(node.name), node.names, [], [])
        if isinstance(node, nodes.Chain):
            return self._fields(self._value(dot, node.of), node.names, [], [])
        if isinstance(node, nodes.Pipe):
            return self._pipe(dot, node)
        if isinstance(node, nodes.Function):
            return self._function(node.name, dot, [], [])
        raise self._error(f"can't handle {type(node).__name__}", always=True)

    def _fields(
        self,
        value: Any,  # noqa: ANN401
        names: tuple[str, ...],
        arguments: list[tuple[Any, list[Node]]],
        last: list[Any],
    ) -> Any:  # noqa: ANN401
        for index, name in enumerate(names):
            final = index == len(names) - 1
            given = [self._value(dot, word) for dot, words in arguments for word in words] if final else []
            value = self._field(value, name, given + last if final else [])
        return value

    def _field(self, value: Any, name: str, given: list[Any]) -> Any:  # noqa: ANN401
        self._step(self._line)
        if isinstance(value, Missing):
            raise self._error(f"nil data; no entry for key {name!r}")
        if value is None:
            raise self._error(f"nil pointer evaluating interface {{}}.{name}")
        method = methods_of(value).get(name)
        if method is not None:
            return self._checked(called(name, method, given))
        fields = value.fields() if isinstance(value, Struct) else {}
        if name in fields or isinstance(value, Map):
            if given:
                raise self._error(f"{name} is not a method but has arguments", always=True)
            return fields[name] if name in fields else value.get(name, "")
        raise self._error(
            f"can't evaluate field {name} in type {type_name(value)}",
            "see Alertmanager's reference of template data",
            always=True,
        )

    def _variable(self, name: str) -> Any:  # noqa: ANN401
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise self._error(f"undefined variable {name!r}", "declare it outside the if")

    def _set(self, name: str, value: Any) -> None:  # noqa: ANN401
        for index in range(len(self._variables) - 1, -1, -1):
            if self._variables[index][0] == name:
                self._variables[index] = (name, value)
                return
        raise self._error(f"undefined variable {name!r}", "declare it outside the if")

    def _checked(self, value: Any) -> Any:  # noqa: ANN401
        """What functions make costs steps by its size, so that no loop makes much of it."""
        if isinstance(value, str | tuple | dict):
            self._steps += len(value) >> 6
        return value

    def _step(self, line: int) -> None:
        self._line = line
        self._steps += 1
        if self._steps > self._most:
            raise self._error(f"takes more than {self._most} steps", "write a smaller template")

    def _count(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_LENGTH:
            raise self._error(f"gives more than {MAX_LENGTH} letters", "write a smaller template")

    def _error(self, reason: str, remedy: str = "mend the template", *, always: bool = False) -> TemplateError:
        return TemplateError(self._source, self._line, reason, remedy, always=always)


def _function_of(command: nodes.Command) -> str:
    first = command.words[0]
    return first.name if isinstance(first, nodes.Function) else ""
