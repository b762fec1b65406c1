from typing import Any

import pytest
from litestar import Request
from litestar.connection import ASGIConnection

from web.principal import KEY, Principal, Role, Scope, principal


def request(headers: dict[str, str], **scope: Any) -> ASGIConnection[Any, Any, Any, Any]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    said: Any = {"type": "http", "headers": raw, "path": "/", "query_string": b"", **scope}
    return Request(said)


@pytest.mark.parametrize(
    ("said", "name"),
    [("ada", "ada"), ("", "anonymous"), ("  ", "anonymous"), ("a\x1b[2J", "anonymous"), ("x" * 999, "x" * 200)],
)
def test_where_nobody_signs_in_the_header_names_an_admin(said: str, name: str) -> None:
    found = principal(request({"x-incidents-actor": said}))
    assert (found.name, found.kind, found.role) == (name, "anonymous", Role.ADMIN)
    assert found.scopes == frozenset(Scope)
    assert found.sees("any team")


def test_a_header_does_not_rename_who_signed_in() -> None:
    viewer = Principal(
        name="eve", kind="user", role=Role.VIEWER, scopes=frozenset({Scope.READ}), teams=frozenset({"search"})
    )
    found = principal(request({"x-incidents-actor": "ada"}, **{KEY: viewer}))
    assert found is viewer
    assert found.sees("search")
    assert not found.sees("chat")
