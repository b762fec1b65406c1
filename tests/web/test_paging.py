"""Lists that are plain arrays are read page by page, by the header Link."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.web.signing_in import add_token, add_user, clear

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = pytest.mark.postgres


async def pages(client: httpx.AsyncClient, url: str) -> list[list[str]]:
    """The names of each page of two, as far as there are links."""
    found = []
    following: str | None = f"{url}{'&' if '?' in url else '?'}limit=2"
    while following is not None:
        answer = await client.get(following)
        assert answer.status_code == 200, answer.text
        found.append([str(item.get("name") or item["comment"]) for item in answer.json()])
        following = answer.links["next"]["url"] if "next" in answer.links else None
    return found


async def test_users_tokens_and_silences_are_read_whole_and_nothing_twice(
    client: httpx.AsyncClient, conn: "Conn"
) -> None:
    await clear(conn)
    end = datetime.now(UTC) + timedelta(hours=1)
    for number, name in enumerate("edcba"):
        await add_user(conn, name)
        await add_token(conn, name, "read")
        ends = (end + timedelta(hours=number // 2)).isoformat()
        silence = {"matchers": [[{"name": "a", "value": name}]], "ends_at": ends, "created_by": "x", "comment": name}
        assert (await client.post("/api/v1/silences", json=silence)).status_code == 201
    await conn.execute("UPDATE api_tokens SET revoked_at = now() WHERE name IN ('a', 'c')")
    assert await pages(client, "/api/v1/users") == [["a", "b"], ["c", "d"], ["e"]]
    assert await pages(client, "/api/v1/tokens?revoked=true") == [["b", "d"], ["e", "a"], ["c"]]
    assert await pages(client, "/api/v1/tokens") == [["b", "d"], ["e"]]
    silences = await pages(client, "/api/v1/silences")
    first, *others = [name for page in silences for name in page]
    assert (first, set(others[:2]), set(others[2:])) == ("a", {"b", "c"}, {"d", "e"})
    assert [len(page) for page in silences] == [2, 2, 1]
    for path in ("users", "tokens", "silences"):
        for wrong in ("x", "W10", "bnVsbA", "é"):
            assert (await client.get(f"/api/v1/{path}", params={"cursor": wrong})).status_code == 400
