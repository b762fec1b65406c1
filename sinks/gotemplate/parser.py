"""Tokens to trees: the grammar of Go's text/template, with everything unknown refused by name."""

import re
from collections.abc import Collection
from typing import Any, Final

from sinks.gotemplate import nodes
from sinks.gotemplate.errors import TemplateError
from sinks.gotemplate.lexer import Kind, Token, tokens_of
from sinks.gotemplate.nodes import Node, Nodes, Template

MAX_NESTING: Final = 60
_KEYWORDS: Final = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"})
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|([abfnrtv\\\"'])|(.?))", re.DOTALL
)
_LETTERS: Final = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_INTEGER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[1-9][0-9_]*|0)")
_FLOAT: Final = re.compile(r"[+-]?(?:\d[\d_]*\.\d*|\.\d+|\d[\d_]*(?=[eE]))(?:[eE][+-]?\d+)?")
_LARGEST: Final = (1 << 63) - 1


def parse(text: str, name: str, functions: Collection[str]) -> tuple[Template, dict[str, Template]]:
    """The template itself and those that it defines.

    Raises:
        TemplateError: it is not a template, or uses what is not known here; `always` is set.
    """
    return _Parser(text, name, functions).run()


class _Parser:
    def __init__(self, text: str, name: str, functions: Collection[str]) -> None:
        self._tokens = tokens_of(text, name)
        self._name = name
        self._functions = functions
        self._at = 0
        self._line = 1
        self._variables = ["$"]
        self._depth = 0
        self._loops = 0
        self._defined: dict[str, Template] = {}

    def run(self) -> tuple[Template, dict[str, Template]]:
        body, ending = self._list(top=True)
        if ending is not None:
            raise self._error(f"unexpected {{{{{ending}}}}}", "remove it, or open what it ends")
        return Template(self._name, body, self._name), self._defined

    def _list(self, *, top: bool = False) -> tuple[Nodes, str | None]:
        """Nodes up to `{{end}}` or `{{else}}`, whose word is given, or to the end of the text."""
        found: list[Node] = []
        while self._at < len(self._tokens):
            token = self._next()
            if token.kind is Kind.TEXT:
                found.append(nodes.Text(text=token.text, line=token.line))
                continue
            word = self._peek()
            if word.kind is Kind.WORD and word.text in _KEYWORDS:
                self._next()
                if word.text in {"end", "else"}:
                    return tuple(found), word.text
                node = self._keyword(word, top=top)
            else:
                node = nodes.Action(pipe=self._pipe("an action"), line=token.line)
                self._expect_end("an action")
            if node is not None:
                found.append(node)
        return tuple(found), None

    def _keyword(self, word: Token, *, top: bool) -> Node | None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._error("is nested too deeply", f"keep to {MAX_NESTING} levels")
        try:
            if word.text in {"if", "with", "range"}:
                return self._branch(word)
            if word.text in {"break", "continue"}:
                return self._jump(word)
            if word.text == "template":
                return self._call(word)
            if word.text == "block":
                return self._block(word)
            if not top:
                raise self._error("{{define}} stands inside another action", "move it to the top of the file")
            self._define()
            return None
        finally:
            self._depth -= 1

    def _branch(self, word: Token) -> Node:
        known = len(self._variables)
        pipe = self._pipe(word.text, ranges=word.text == "range")
        self._expect_end(word.text)
        self._loops += word.text == "range"
        body, ending = self._list()
        self._loops -= word.text == "range"
        otherwise: Nodes = ()
        if ending == "else":
            otherwise = self._otherwise(word.text)
        elif ending is None:
            raise self._unclosed(word)
        else:
            self._expect_end("end")
        del self._variables[known:]
        return nodes.Branch(what=word.text, pipe=pipe, body=body, otherwise=otherwise, line=word.line)

    def _otherwise(self, what: str) -> Nodes:
        after = self._peek()
        if after.kind is Kind.WORD and after.text == what and what in {"if", "with"}:
            # `else if` shares the end of the first.
            self._next()
            self._depth += 1
            if self._depth > MAX_NESTING:
                raise self._error("has too many branches", f"keep to {MAX_NESTING}")
            chained = self._branch(after)
            self._depth -= 1
            return (chained,)
        self._expect_end("else")
        body, ending = self._list()
        if ending != "end":
            raise self._error(
                "expected {{end}}" if ending is None else "{{else}} comes twice", "close each if, with and range once"
            )
        self._expect_end("end")
        return body

    def _jump(self, word: Token) -> Node:
        if not self._loops:
            raise self._error(f"{{{{{word.text}}}}} outside {{{{range}}}}", "use it inside a range")
        self._expect_end(word.text)
        return nodes.Jump(what=word.text, line=word.line)

    def _call(self, word: Token) -> Node:
        name = self._template_name("template")
        pipe = None if self._peek().kind is Kind.END else self._pipe("template")
        self._expect_end("template")
        return nodes.Call(name=name, pipe=pipe, line=word.line)

    def _block(self, word: Token) -> Node:
        name = self._template_name("block")
        pipe = self._pipe("block")
        self._expect_end("block")
        self._body_of(name, word)
        return nodes.Call(name=name, pipe=pipe, line=word.line)

    def _define(self) -> None:
        word = self._tokens[self._at - 1]
        name = self._template_name("define")
        self._expect_end("define")
        self._body_of(name, word)

    def _body_of(self, name: str, word: Token) -> None:
        variables, loops, self._variables, self._loops = self._variables, self._loops, ["$"], 0
        body, ending = self._list()
        self._variables, self._loops = variables, loops
        if ending is None:
            raise self._unclosed(word)
        if ending == "else":
            raise self._error("unexpected {{else}}", "remove it")
        self._expect_end("end")
        template = Template(name, body, self._name)
        known = self._defined.get(name)
        if known is not None and not known.empty and not template.empty:
            raise self._error(f"multiple definition of template {name!r}", "keep one of them")
        if known is None or known.empty:
            self._defined[name] = template

    def _template_name(self, what: str) -> str:
        token = self._next()
        if token.kind not in {Kind.STRING, Kind.RAW}:
            raise self._error(f"unexpected {token.text!r} in {what} clause", "name the template in quotes")
        return self._string(token)

    def _pipe(self, what: str, *, ranges: bool = False) -> nodes.Pipe:
        line = self._line
        variables, declares = self._assigned(ranges=ranges)
        commands: list[nodes.Command] = []
        while self._peek().kind not in {Kind.END, Kind.CLOSE}:
            command = self._command()
            if commands and isinstance(command.words[0], nodes.Dot | nodes.Nil | nodes.Constant):
                raise self._error(
                    f"non executable command in pipeline stage {len(commands) + 1}", "only functions come after |"
                )
            commands.append(command)
            if self._peek().kind is Kind.PIPE:
                self._next()
        if not commands:
            raise self._error(f"missing value for {what}", "write a value or a function")
        if declares:
            self._variables += variables
        return nodes.Pipe(variables=variables, declares=declares, commands=tuple(commands), line=line)

    def _assigned(self, *, ranges: bool) -> tuple[tuple[str, ...], bool]:
        """The variables that a pipeline sets, and whether it declares them."""
        start = self._at
        names: list[str] = []
        while self._peek().kind is Kind.VARIABLE:
            names.append(self._next().text)
            token = self._peek()
            if token.kind in {Kind.DECLARE, Kind.ASSIGN}:
                self._next()
                for name in names if token.kind is Kind.ASSIGN else []:
                    self._known(name)
                return tuple(names), token.kind is Kind.DECLARE
            if not (ranges and len(names) == 1 and token.kind is Kind.COMMA):
                break
            self._next()
        self._at = start
        return (), False

    def _command(self) -> nodes.Command:
        line = self._line
        words: list[Node] = []
        while True:
            words.append(self._operand())
            token = self._peek()
            if token.kind in {Kind.END, Kind.CLOSE, Kind.PIPE}:
                return nodes.Command(words=tuple(words), line=line)
            if not token.spaced:
                raise self._error(f"unexpected {token.text!r} in operand", "put a space between the arguments")

    def _operand(self) -> Node:
        node = self._term()
        names = self._names()
        if not names:
            return node
        if isinstance(node, nodes.Field):
            return nodes.Field(names=(*node.names, *names), line=node.line)
        if isinstance(node, nodes.Variable):
            return nodes.Variable(name=node.name, names=names, line=node.line)
        if isinstance(node, nodes.Constant | nodes.Nil | nodes.Dot):
            raise self._error(f"unexpected .{names[0]} after a value", "only variables and brackets have fields")
        return nodes.Chain(of=node, names=names, line=node.line)

    def _names(self) -> tuple[str, ...]:
        names: list[str] = []
        while self._peek().kind is Kind.FIELD and not self._peek().spaced:
            names.append(self._next().text[1:])
        return tuple(names)

    def _term(self) -> Node:
        token = self._next()
        line = token.line
        if token.kind is Kind.WORD:
            return self._word(token)
        if token.kind is Kind.DOT:
            return nodes.Dot(line=line)
        if token.kind is Kind.FIELD:
            return nodes.Field(names=(token.text[1:],), line=line)
        if token.kind is Kind.VARIABLE:
            self._known(token.text)
            return nodes.Variable(name=token.text, names=(), line=line)
        if token.kind is Kind.OPEN:
            return self._brackets()
        if token.kind in {Kind.STRING, Kind.RAW, Kind.CHAR, Kind.NUMBER}:
            return nodes.Constant(value=self._constant(token), line=line)
        raise self._error(f"unexpected {token.text!r}", "write a value or a function")

    def _word(self, token: Token) -> Node:
        if token.text in {"true", "false"}:
            return nodes.Constant(value=token.text == "true", line=token.line)
        if token.text == "nil":
            return nodes.Nil(line=token.line)
        if token.text in _KEYWORDS:
            raise self._error(f"unexpected {token.text!r} in an action", "write it in an action of its own")
        if token.text == "call":
            raise self._error("the function call is not supported", "call methods by their name")
        if token.text not in self._functions:
            raise self._error(f"function {token.text!r} not defined", "use Alertmanager's functions")
        return nodes.Function(name=token.text, line=token.line)

    def _brackets(self) -> Node:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._error("is nested too deeply", f"keep to {MAX_NESTING} levels")
        pipe = self._pipe("brackets")
        token = self._next()
        self._depth -= 1
        if token.kind is not Kind.CLOSE:
            raise self._error(f"unexpected {token.text!r} in brackets", "close them with )")
        return pipe

    def _constant(self, token: Token) -> Any:  # noqa: ANN401 - what the text says
        if token.kind is Kind.RAW:
            return token.text[1:-1].replace("\r", "")
        if token.kind is Kind.STRING:
            return self._string(token)
        if token.kind is Kind.CHAR:
            value = self._unescaped(token.text[1:-1])
            if len(value) != 1:
                raise self._error(f"malformed character constant {token.text}", "write one letter")
            return ord(value)
        return self._number(token.text)

    def _number(self, text: str) -> int | float:
        plain = text.replace("_", "")
        try:
            if _INTEGER.fullmatch(text):
                sign, digits = (plain[0], plain[1:]) if plain[0] in "+-" else ("", plain)
                octal = len(digits) > 1 and digits[0] == "0" and digits.isdecimal()
                value = int(sign + ("0o" + digits[1:] if octal else digits), 0)
                if not -_LARGEST - 1 <= value <= _LARGEST:
                    raise self._error(f"{text} overflows int", "write a smaller number")
                return value
            if _FLOAT.fullmatch(text):
                return float(plain)
        except ValueError:
            pass
        raise self._error(f"bad number syntax {text!r}", "write a whole or a decimal number")

    def _string(self, token: Token) -> str:
        if token.kind is Kind.RAW:
            return token.text[1:-1].replace("\r", "")
        return self._unescaped(token.text[1:-1])

    def _unescaped(self, inner: str) -> str:
        out, position = bytearray(), 0
        for match in _ESCAPE.finditer(inner):
            out += inner[position : match.start()].encode()
            two, four, eight, octal, letter, other = match.groups()
            try:
                if letter is not None:
                    out.append(_LETTERS[letter])
                elif other is not None:
                    out.append(_LETTERS[other])  # which it is not among
                elif two is not None or octal is not None:
                    out.append(int(two, 16) if two is not None else int(octal, 8))
                else:
                    out += chr(int(four or eight, 16)).encode()
            except (KeyError, ValueError, OverflowError) as error:
                raise self._error(f"{match.group()} is not an escape", r"double the backslash") from error
            position = match.end()
        return (out + inner[position:].encode()).decode(errors="replace")

    def _known(self, name: str) -> None:
        if name not in self._variables:
            raise self._error(f"undefined variable {name!r}", f"declare it first: {{{{ {name} := ... }}}}")

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        self._line = token.line
        return token

    def _expect_end(self, what: str) -> None:
        token = self._next()
        if token.kind is not Kind.END:
            raise self._error(f"unexpected {token.text!r} in {what}", "close the action with }}")

    def _unclosed(self, word: Token) -> TemplateError:
        return TemplateError(
            self._name, word.line, f"{{{{{word.text}}}}} is not closed", "end it with {{end}}", always=True
        )

    def _error(self, reason: str, remedy: str) -> TemplateError:
        return TemplateError(self._name, self._line, reason, remedy, always=True)
