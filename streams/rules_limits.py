"""How much somebody is told at most, as a rules file writes it."""

from datetime import timedelta

import msgspec

from streams.rules_yaml import Node


class RateLimit(msgspec.Struct, frozen=True):
    """At most `notices` within `per`."""

    notices: int
    per: timedelta


def rate_limit_of(node: Node) -> RateLimit:
    """Read a limit; neither part may be zero."""
    fields = node.fields({"notices", "per"})
    for key in ("notices", "per"):
        if key not in fields:
            raise node.error(f"has no {key}", "write it like {notices: 30, per: 1m}")
    limit = RateLimit(fields["notices"].count(), fields["per"].duration())
    for key, given in (("notices", limit.notices), ("per", limit.per)):
        if not given:
            raise fields[key].error("must not be zero", "write it like {notices: 30, per: 1m}")
    return limit
