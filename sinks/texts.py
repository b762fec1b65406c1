"""An integration's templates, rendered with one notice."""

from collections.abc import Callable

import structlog

from sinks.gotemplate.data import Data
from sinks.gotemplate.errors import TemplateError
from sinks.gotemplate.templates import Templates
from sinks.message import NoticeBody
from sinks.template_data import data_of
from streams import metrics

log = structlog.get_logger(__name__)


class NoticeTexts:
    """Renders with one notice. A template that fails gives an empty text: a notice with less is better than none."""

    def __init__(self, templates: Templates, notice: NoticeBody) -> None:
        self._templates = templates
        self._notice = notice
        self._data: Data | None = None

    def text(self, template: str, *, escape: Callable[[str], str] | None = None) -> str:
        """The text of a template; `escape` is applied to everything that came from alerts, not to the template."""
        return self._render(template, html=False, escape=escape)

    def html(self, template: str) -> str:
        """The same as HTML, with everything that came from alerts escaped."""
        return self._render(template, html=True, escape=None)

    def _render(self, template: str, *, html: bool, escape: Callable[[str], str] | None) -> str:
        if self._data is None:
            self._data = data_of(self._notice)
        try:
            return self._templates.render(template, self._data, html=html, escape=escape)
        except TemplateError as error:
            metrics.template_failures.inc()
            log.warning("template_failed", receiver=self._notice.receiver, reason=str(error))
            return ""
