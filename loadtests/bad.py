"""Messages that intake must refuse: each kind of fault once in turn, seeded."""

import random
from enum import StrEnum

import msgspec


class Fault(StrEnum):
    """What is wrong with a message."""

    NOT_JSON = "not_json"
    NO_LABELS = "no_labels"
    TOO_DEEP = "too_deep"
    BAD_UTF8 = "bad_utf8"
    WRONG_TYPE = "wrong_type"
    BAD_STATUS = "bad_status"
    EMPTY = "empty"
    OVERSIZE = "oversize"


_FAULTS = tuple(fault for fault in Fault if fault is not Fault.OVERSIZE)
_OVERSIZE_ONE_IN = 40
_DEPTH = 5000
_TOO_BIG = (1 << 20) + 4096
_encode = msgspec.json.Encoder().encode


def bad_body(chance: random.Random, run: str, number: int) -> bytes:
    """A body that must be refused; about one in forty is more than 1 MiB."""
    fault = Fault.OVERSIZE if chance.randrange(_OVERSIZE_ONE_IN) == 0 else chance.choice(_FAULTS)
    return body_with(fault, run, number)


def body_with(fault: Fault, run: str, number: int) -> bytes:
    """A body with exactly this fault."""
    alert: dict[str, object] = {
        "source": "broken-sender",
        "status": "firing",
        "summary": f"message {number} of a sender that is broken",
        "labels": {"alertname": "Broken", "service": "broken-sender", "run": run},
    }
    match fault:
        case Fault.NOT_JSON:
            return f"ALERT {number}: disk almost full".encode()
        case Fault.EMPTY:
            return b""
        case Fault.TOO_DEEP:
            return b'{"labels":' + b"[" * _DEPTH + b"]" * _DEPTH + b"}"
        case Fault.BAD_UTF8:
            return _encode(alert).replace(b"broken-sender", b"broken-\xff\xfe", 1)
        case Fault.NO_LABELS:
            del alert["labels"]
        case Fault.WRONG_TYPE:
            alert["labels"] = {"alertname": 7, "service": ["x"]}
        case Fault.BAD_STATUS:
            alert["status"] = "burning"
        case Fault.OVERSIZE:
            alert["description"] = "x" * _TOO_BIG
    return _encode(alert)
