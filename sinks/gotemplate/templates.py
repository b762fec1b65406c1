"""A set of templates in Go's template language, as Alertmanager takes them; pure."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from sinks.gotemplate.data import Data
from sinks.gotemplate.defaults import DEFAULTS
from sinks.gotemplate.errors import TemplateError
from sinks.gotemplate.escaping import Escaping, refuse_scripts
from sinks.gotemplate.evaluator import Evaluator, Plain
from sinks.gotemplate.functions import FUNCTIONS
from sinks.gotemplate.nodes import Template, calls_of
from sinks.gotemplate.parser import parse

MAX_TEXTS: Final = 1000


class Templates:
    """Alertmanager's own templates and template files over them; later definitions replace earlier ones.

    Raises:
        TemplateError: a text is no template, or uses what is not supported; it names file, line and remedy.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._known: dict[str, Template] = dict(_defaults())
        self._parsed: dict[str, tuple[Template, dict[str, Template]]] = {}
        for path, text in texts.items():
            own, defined = parse(text, path, FUNCTIONS)
            for name, template in (*defined.items(), (path.rpartition("/")[2], own)):
                self._define(self._known, name, template)

    @property
    def known(self) -> Mapping[str, Template]:
        """The definitions by name."""
        return self._known

    def check(self, text: str, *, html: bool = False, name: str = "") -> None:
        """See whether a text can be rendered, as far as that does not depend on data.

        Raises:
            TemplateError: it cannot.
        """
        own, known = self._read(text, name)
        refuse_unknown(own, known)
        if html:
            refuse_scripts(own, known)

    def render(
        self,
        text: str,
        data: Any,  # noqa: ANN401 - any value
        *,
        html: bool = False,
        escape: Callable[[str], str] | None = None,
        name: str = "",
    ) -> str:
        """What the text gives for the data.

        With `html`, values are escaped for their place in the markup; else by `escape`, where it is given.

        Raises:
            TemplateError: it cannot be rendered.
        """
        template, known = self._read(text, name)
        writer = Escaping() if html else Plain(escape)
        Evaluator(known, writer, len(data.fields()["Alerts"]) if isinstance(data, Data) else 0).run(template, data)
        return "".join(writer.parts)

    def _read(self, text: str, name: str) -> tuple[Template, dict[str, Template]]:
        if text not in self._parsed:
            if len(self._parsed) >= MAX_TEXTS:
                self._parsed.clear()
            self._parsed[text] = parse(text, name, FUNCTIONS)
        own, defined = self._parsed[text]
        if not defined:
            return own, self._known
        known = dict(self._known)
        for inner, template in defined.items():
            self._define(known, inner, template)
        return own, known

    @staticmethod
    def _define(known: dict[str, Template], name: str, template: Template) -> None:
        if name not in known or not template.empty:
            known[name] = template


def refuse_unknown(template: Template, known: Mapping[str, Template]) -> None:
    """Refuse a template that calls one which is not there, itself or through others.

    Raises:
        TemplateError: it does.
    """
    seen: set[str] = set()
    waiting = [template]
    while waiting:
        one = waiting.pop()
        for call in calls_of(one.body):
            if call.name not in known:
                reason = f"template {call.name!r} not defined"
                raise TemplateError(one.source, call.line, reason, "define it or correct the name", always=True)
            if call.name not in seen:
                seen.add(call.name)
                waiting.append(known[call.name])


@cache
def _defaults() -> dict[str, Template]:
    return parse(DEFAULTS, "defaults", FUNCTIONS)[1]


__all__ = ["TemplateError", "Templates"]
