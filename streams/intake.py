"""Intake: source payload -> `Alert` or `Rejected`, pure. Input is judged once; past this gate nobody checks again.

Each format has a module of its own: `intake_own`, `intake_alertmanager`.
"""

from streams.intake_alertmanager import parse_alertmanager
from streams.intake_own import parse_own
from streams.intake_payload import Parsed, Refusal

__all__ = ["Parsed", "Refusal", "parse_alertmanager", "parse_own"]
