"""Stands in for the package `agents` where the supervisor is tested: says what it was told and when it was stopped."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType

PREFIX = "INCIDENTS_"
role = sys.argv[1]
journal = Path(os.environ[f"{PREFIX}DATA_DIR"]) / "journal"
lags = [3, 0, 1, 0, 0] if role == "worker" else [0]


def note(event: str) -> None:
    with journal.open("a") as file:
        file.write(f"{event} {role}\n")


def leave(_number: int, _frame: FrameType | None) -> None:
    note("stopped")
    os._exit(0)


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if (journal.parent / "draining").exists() and role == "worker":
            note(f"lag-{lags[0]}")
            answer: dict[str, object] = {"lag": lags.pop(0) if len(lags) > 1 else lags[0]}
        else:
            answer = {"lag": 0, **{key: value for key, value in os.environ.items() if key.startswith(PREFIX)}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


signal.signal(signal.SIGTERM, leave)
note("started")
if role in {"migrate", "topics"}:
    sys.exit(0)
port = os.environ.get(f"{PREFIX}HTTP_PORT" if role == "gateway" else f"{PREFIX}OBSERVE_PORT", "0")
HTTPServer(("127.0.0.1", int(port)), Health).serve_forever()
