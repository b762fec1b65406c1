"""An inhibition rule: what mutes what, while which labels are equal. Read from the rules file elsewhere."""

from functools import cached_property
from hashlib import blake2b

import msgspec

from streams.rules_matchers import Matcher, in_order, text_of


class InhibitRule(msgspec.Struct, frozen=True, dict=True):
    """While something fires that meets `source`, what meets `target` and has the same values of `equal` is muted."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """Follows from what the rule says, so that another order in the file changes nothing."""
        sides = (text_of(in_order(list(self.source))), text_of(in_order(list(self.target))))
        readable = msgspec.json.encode((*sides, sorted(self.equal)))
        return blake2b(readable, digest_size=8).hexdigest()
