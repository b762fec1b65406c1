"""The part `incidents:` of a rules file: what Alertmanager has no words for."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams import codec
from streams.records import AlertBody, Kind, Severity
from streams.rules_conditions import matchers_of
from streams.rules_correlation import CorrelationRule, correlation_of
from streams.rules_escalation import Escalations, escalations_of
from streams.rules_files import Reader
from streams.rules_http import place_of, tls_options, url
from streams.rules_jobs import BUILT_IN, JobRule, digest_of, jobs_of
from streams.rules_limits import RateLimit, rate_limit_of
from streams.rules_matchers import Matcher
from streams.rules_people import MARK, Person, people_of, severity_of
from streams.rules_receivers import Integration, Receiver
from streams.rules_yaml import Node

SEVERITY_LABEL: Final = "severity"
_TOP: Final = frozenset({"severities", "kinds", "receivers", "jobs", "people", "policies", "escalation", "correlation"})
_RECEIVER: Final = frozenset({"rate_limit", "amqp_configs", "format", "signing_secrets", "title", "text", "digest"})
_AMQP: Final = frozenset({"url", "exchange", "routing_key", "send_resolved", "tls_config"})
_FORMATS: Final = frozenset({"alertmanager", "incidents"})
_AMQP_SCHEMES: Final = frozenset({"amqp", "amqps"})
_LONGEST_SECRET: Final = 1024


class KindRule(msgspec.Struct, frozen=True):
    """Alerts that meet all matchers are of this kind."""

    kind: Kind
    matchers: tuple[Matcher, ...]


class OurReceiver(msgspec.Struct, frozen=True):
    """What our part says of one receiver as a whole; the rest stands in the options of its integrations."""

    rate_limit: RateLimit | None = None
    digest: JobRule | None = None


class Ours(msgspec.Struct, frozen=True):
    """Our part of a rules file."""

    severities: dict[str, Severity] = {}
    kinds: tuple[KindRule, ...] = ()
    receivers: dict[str, OurReceiver] = {}
    jobs: tuple[JobRule, ...] = BUILT_IN
    people: dict[str, Person] = {}
    escalations: Escalations = Escalations()
    correlation: tuple[CorrelationRule, ...] = ()

    def person(self, receiver: str) -> Person | None:
        """The person who is told as that receiver."""
        return self.people.get(receiver.removeprefix(MARK)) if receiver.startswith(MARK) else None

    def rate_limit(self, receiver: str) -> RateLimit | None:
        """How much a receiver, or a person, is told at most."""
        told = self.receivers.get(receiver) or self.person(receiver)
        return told.rate_limit if told is not None else None

    def classified(self, body: AlertBody) -> AlertBody:
        """The alert with the severity and kind that these rules give it.

        A value of the label `severity` that is listed decides the severity. A kind that the
        sender gave stays; without one the first rule that the labels meet gives it.
        """
        severity = self.severities.get(body.labels.get(SEVERITY_LABEL, ""), body.severity)
        kind = self._kind(body.labels) if body.kind is Kind.OTHER else body.kind
        if severity is body.severity and kind is body.kind:
            return body
        return msgspec.structs.replace(body, severity=severity, kind=kind)

    def classified_bytes(self, packed: bytes) -> bytes:
        """The same for an encoded alert, which stays as it is where there is nothing to say."""
        if not self.severities and not self.kinds:
            return packed
        body = codec.decode_body(packed)
        after = self.classified(body)
        return packed if after is body else codec.encode(after)

    def _kind(self, labels: Mapping[str, str]) -> Kind:
        for rule in self.kinds:
            if all(matcher.matches(labels) for matcher in rule.matchers):
                return rule.kind
        return Kind.OTHER


def ours_of(
    node: Node | None, receivers: dict[str, Receiver], shared: dict[str, Any], grouped_by: frozenset[str] | None,
    reader: Reader,
) -> Ours:  # fmt: skip
    """Read our part; what it says of a receiver's channels is put into `receivers`.

    `shared` is what `global` says, `grouped_by` are the labels that routes group by (None: any).
    """
    fields = node.fields(_TOP) if node is not None else {}
    severities: dict[str, Severity] = {}
    for value, severity in fields["severities"].entries().items() if "severities" in fields else ():
        with reader.problems.noted():
            severities[value] = severity_of(severity)
    kinds: list[KindRule] = []
    for item in fields["kinds"].items() if "kinds" in fields else ():
        with reader.problems.noted():
            kinds.append(_kind_rule(item))
    found: dict[str, OurReceiver] = {}
    for name, entry in fields["receivers"].entries().items() if "receivers" in fields else ():
        with reader.problems.noted():
            if name not in receivers:
                raise entry.error(f"no receiver is named {name!r}", "name one from `receivers`")
            found[name], receivers[name] = _receiver(entry, receivers[name], reader)
    jobs = jobs_of(fields.get("jobs"), reader.problems)
    digests = (ours.digest for ours in found.values() if ours.digest is not None)
    people = people_of(fields.get("people"), receivers, shared, reader)
    escalations = escalations_of(
        fields.get("policies"), fields.get("escalation"), people, receivers, grouped_by, reader.problems
    )
    correlation = correlation_of(fields.get("correlation"), reader.problems)
    return Ours(severities, tuple(kinds), found, (*jobs, *digests), people, escalations, correlation)


def _kind_rule(node: Node) -> KindRule:
    fields = node.fields({"kind", "matchers"})
    for key in ("kind", "matchers"):
        if key not in fields:
            raise node.error(f"has no {key}", f"give it `{key}`")
    matchers = matchers_of(fields)
    if not matchers:
        raise fields["matchers"].error("is empty", "name at least one matcher")
    try:
        return KindRule(Kind(fields["kind"].text()), matchers)
    except ValueError as error:
        raise fields["kind"].error(f"{fields['kind'].text()!r} is not a kind", f"use {', '.join(Kind)}") from error


def _receiver(node: Node, receiver: Receiver, reader: Reader) -> tuple[OurReceiver, Receiver]:
    fields = node.fields(_RECEIVER)
    integrations = list(receiver.integrations)
    for item in fields["amqp_configs"].items() if "amqp_configs" in fields else ():
        with reader.problems.noted():
            integrations.append(_amqp(item, len(integrations), reader))
    extra: dict[str, Any] = {}
    if "format" in fields:
        if fields["format"].text() not in _FORMATS:
            raise fields["format"].error("is not a format", f"use {' or '.join(sorted(_FORMATS))}")
        extra["format"] = fields["format"].text()
    if "signing_secrets" in fields:
        extra["signing_secrets"] = [_signing_secret(item) for item in fields["signing_secrets"].items()]
    if extra and not any(one.channel == "webhook" for one in integrations):
        raise node.error(f"{' and '.join(extra)} belong to a webhook, and it has none", "give it `webhook_configs`")
    words: dict[str, Any] = {
        key: reader.template(fields[key], jinja=True) for key in ("title", "text") if key in fields
    }
    tells_words = extra.get("format") == "incidents" or any(one.channel == "amqp" for one in integrations)
    if words and not tells_words:
        remedy = "write `format: incidents`, or give it `amqp_configs`"
        raise node.error(f"{' and '.join(words)} belong to our own format", remedy)
    limit = rate_limit_of(fields["rate_limit"]) if "rate_limit" in fields else None
    told: dict[str, dict[str, Any]] = {"webhook": {**extra, **words}, "amqp": words}
    integrations = [
        msgspec.structs.replace(one, options={**one.options, **told.get(one.channel, {})}) for one in integrations
    ]
    digest = digest_of(receiver.name, fields["digest"]) if "digest" in fields else None
    return OurReceiver(limit, digest), msgspec.structs.replace(receiver, integrations=tuple(integrations))


def _signing_secret(node: Node) -> str:
    value = node.filled()
    if len(value) > _LONGEST_SECRET:
        raise node.error("is too long", f"keep to {_LONGEST_SECRET} letters")
    return value


def _amqp(node: Node, index: int, reader: Reader) -> Integration:
    fields = node.fields(_AMQP)
    if "url" not in fields:
        raise node.error("has no url", "give it a `url`")
    options: dict[str, Any] = {"url": url(fields["url"], _AMQP_SCHEMES)}
    for key in ("exchange", "routing_key"):
        if key in fields:
            options[key] = fields[key].filled()
            if "{{" in options[key]:
                raise fields[key].error("is no template", "write it as it is to be used")
    if "tls_config" in fields:
        options["tls_config"] = tls_options(fields["tls_config"], reader)
    send_resolved = fields["send_resolved"].flag() if "send_resolved" in fields else True
    if not send_resolved:
        options["send_resolved"] = False
    return Integration("amqp", index, place_of(options["url"], options.get("exchange", "")), send_resolved, options)
