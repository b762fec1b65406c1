"""What senders' words for severity and kind mean in our closed lists."""

from typing import Final

from streams.records import Kind, Severity

_SYNONYMS: Final = {
    Severity.CRITICAL: "critical crit p1 page sev1 sev-1 fatal emergency emerg alert disaster blocker",
    Severity.ERROR: "error err p2 sev2 sev-2 high major failure",
    Severity.WARNING: "warning warn p3 sev3 sev-3 medium minor average",
    Severity.INFO: "info information informational notice debug low ok none p4 p5 sev4 sev5 sev-4 sev-5",
    Severity.UNKNOWN: "unknown",
}
_SEVERITIES: Final = {word: severity for severity, words in _SYNONYMS.items() for word in words.split()}
_KINDS: Final = {kind.value: kind for kind in Kind}


def severity_of(word: str | None) -> Severity | None:
    """The severity that a sender's word stands for; None when the word is not known, UNKNOWN when there is none."""
    if word is None:
        return Severity.UNKNOWN
    known = _SEVERITIES.get(word)
    if known is None:
        known = _SEVERITIES.get(word.strip().casefold())
    return known


def kind_of(word: str | None) -> Kind | None:
    """The kind that a sender's word stands for; None when the word is not known, OTHER when there is none."""
    if word is None:
        return Kind.OTHER
    known = _KINDS.get(word)
    if known is None:
        known = _KINDS.get(word.strip().casefold().replace("-", "_").replace(" ", "_"))
    return known
