"""Whether the templates of a rules file can be rendered: judged when the file is loaded, not at night; pure."""

from datetime import UTC, datetime
from typing import Final

from sinks import jinja_texts
from sinks.gotemplate.data import KV, Alert, Alerts, Data
from sinks.gotemplate.errors import TemplateError
from sinks.gotemplate.templates import Templates
from sinks.gotemplate.times import Time
from streams.rules_config import RulesConfig
from streams.rules_files import TemplateUse
from streams.rules_yaml import ConfigError, Problems

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


def check(config: RulesConfig) -> None:
    """Read every template of the file and of those that it names, and try those that it uses.

    Raises:
        ConfigError: one cannot be rendered, whatever the alerts say; `others` are further ones.
    """
    problems = Problems()
    good: dict[str, str] = {}
    for path, text in config.templates.items():
        try:
            Templates({path: text})
        except TemplateError as error:
            problems.add(ConfigError(0, f"templates: {path}, line {error.line}", error.reason, error.remedy))
        else:
            good[path] = text
    templates = Templates(good)
    for use in config.template_uses:
        with problems.noted():
            _try(use, templates)
    problems.check()


def _try(use: TemplateUse, templates: Templates) -> None:
    try:
        if use.jinja:
            jinja_texts.check(use.text)
            return
        templates.check(use.text, html=use.html)
        for data in _SAMPLES:
            _rendered(use, templates, data)
    except TemplateError as error:
        raise ConfigError(use.line, use.field, f"template line {error.line}: {error.reason}", error.remedy) from error
    except jinja_texts.JinjaError as error:
        raise ConfigError(use.line, use.field, str(error), "mend the template") from error


def _rendered(use: TemplateUse, templates: Templates, data: Data) -> None:
    try:
        templates.render(use.text, data, html=use.html)
    except TemplateError as error:
        if error.always:
            raise


def _alert(status: str) -> Alert:
    return Alert(
        Status=status,
        Labels=KV(alertname="Example", severity="critical", instance="a.example.org"),
        Annotations=KV(summary="An example", description="This alert is made up"),
        StartsAt=Time(_AT),
        EndsAt=Time(_AT),
        GeneratorURL="https://example.org/graph",
        Fingerprint="0123456789abcdef",
    )


def _sample(*statuses: str) -> Data:
    alerts = Alerts(_alert(status) for status in statuses)
    return Data(
        Receiver="example",
        Status="firing" if "firing" in statuses else "resolved",
        Alerts=alerts,
        GroupLabels=KV(alertname="Example"),
        CommonLabels=KV(alertname="Example", severity="critical", instance="a.example.org"),
        CommonAnnotations=KV(summary="An example", description="This alert is made up"),
        ExternalURL="https://example.org",
    )


_SAMPLES: Final = (_sample("firing", "resolved"), _sample("firing"), _sample("resolved"))
