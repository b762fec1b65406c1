"""A template as a tree: frozen records that the parser makes and the evaluator walks."""

from collections.abc import Iterator
from typing import Any

import msgspec


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """Anything in the tree."""

    line: int


class Text(Node, frozen=True):
    """Text that is written as it stands."""

    text: str


class Dot(Node, frozen=True):
    """`.`: the value that is looked at."""


class Nil(Node, frozen=True):
    """`nil`."""


class Constant(Node, frozen=True):
    """A boolean, number or text."""

    value: Any


class Field(Node, frozen=True):
    """`.A.B`: fields of dot."""

    names: tuple[str, ...]


class Variable(Node, frozen=True):
    """`$x.A.B`: fields of a variable."""

    name: str
    names: tuple[str, ...]


class Chain(Node, frozen=True):
    """`(...).A.B`: fields of what the brackets give."""

    of: "Node"
    names: tuple[str, ...]


class Function(Node, frozen=True):
    """The name of a function."""

    name: str


class Command(Node, frozen=True):
    """A value, or a function or method with its arguments."""

    words: tuple[Node, ...]


class Pipe(Node, frozen=True):
    """Commands, each given the result of the one before it; the last result goes to `variables`."""

    variables: tuple[str, ...]
    declares: bool
    commands: tuple[Command, ...]


class Action(Node, frozen=True):
    """`{{ ... }}`."""

    pipe: Pipe


class Branch(Node, frozen=True):
    """`if`, `with` or `range`."""

    what: str
    pipe: Pipe
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


class Jump(Node, frozen=True):
    """`break` or `continue`."""

    what: str


class Call(Node, frozen=True):
    """`{{ template "name" . }}`."""

    name: str
    pipe: Pipe | None


Nodes = tuple[Node, ...]


def calls_of(body: Nodes) -> Iterator[Call]:
    """Every call of another template, wherever it stands."""
    for node in body:
        if isinstance(node, Call):
            yield node
        elif isinstance(node, Branch):
            yield from calls_of(node.body)
            yield from calls_of(node.otherwise)


class Template(msgspec.Struct, frozen=True):
    """A body under a name. `source` is the text it came from, for messages."""

    name: str
    body: Nodes
    source: str

    @property
    def empty(self) -> bool:
        """Whether nothing but white space is in it; such a definition replaces none that has more."""
        return all(isinstance(node, Text) and not node.text.strip() for node in self.body)
