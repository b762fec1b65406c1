"""What nobody honest asks: the answer is a refusal, and never more than one."""

import re

import httpx
import pytest

from tests.web.test_connection import answered

HOST = b"host: 127.0.0.1\r\nconnection: close\r\n"
POST = b"POST /api/v1/alerts HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    "request_text",
    [
        POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}" + SMUGGLED,
        POST + b"transfer-encoding: identity, chunked, x\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"content-length: 2\r\ncontent-length: 60\r\n\r\n{}" + SMUGGLED,
        POST + b"content-length: +2\r\n\r\n{}" + SMUGGLED,
        POST + b"content-length: -2\r\n\r\n{}" + SMUGGLED,
        POST + b"content-length: 2, 2\r\n\r\n{}" + SMUGGLED,
        POST + b"content-length: 99999999999999999999999\r\n\r\n{}" + SMUGGLED,
        POST + b"content-length : 2\r\n\r\n{}" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}X0\r\n\r\n" + SMUGGLED,
        POST + b"x: a\r\n b: c\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"x: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
        b"GET /healthz HTTP/1.1\r\nx y: 1\r\n" + HOST + b"\r\n",
        b"GET http://[ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /a\x00b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,
    ],
)
async def test_what_is_no_clean_request_is_refused_once(client: httpx.AsyncClient, request_text: bytes) -> None:
    said = STATUS.findall(await answered(client, request_text))
    assert len(said) <= 1
    assert all(status.startswith(b"4") for status in said), said


async def test_no_path_leads_out_of_the_page_s_files(client: httpx.AsyncClient) -> None:
    names = ("..", "../page.py", "..%2fpage.py", "%2e%2e/page.py", "..%5cpage.py", "%2fetc%2fpasswd", "page.css%00.js",
        "page.css/..", "./page.css%20", "PAGE.CSS", "page.css;x", "%252e%252e%252fpage.py", "%ff%fe", "")  # fmt: skip
    for name in names:
        said = await answered(client, b"GET /static/%s HTTP/1.1\r\n" % name.encode() + HOST + b"\r\n")
        assert STATUS.findall(said)[0] in {b"404", b"400"}, (name, said[:200])


async def test_bodies_that_are_bombs_are_refused(client: httpx.AsyncClient) -> None:
    bombs = (
        b"[" * 500_000, b'{"matchers":' * 80_000, b'{"comment":' + b"9" * 900_000 + b"}", b'{"comment":NaN}',
        b'{"comment":1e999}', b"\xff\xfe{\x00}\x00", b'{"comment":"\\ud800"}', b'{"comment":"a","comment":1}',
    )  # fmt: skip
    headers = {"content-type": "application/json"}
    for path in ("/api/v1/silences", "/api/v2/silences", "/api/v1/alerts", "/api/v2/alerts", "/api/v1/jobs"):
        for bomb in bombs:
            answer = await client.post(path, content=bomb, headers=headers)
            assert answer.status_code == 400, (path, bomb[:50], answer.text[:200])


async def test_who_sends_more_than_is_taken_hears_why(client: httpx.AsyncClient) -> None:
    """The rest of a body that nobody wants is no head of another request, and cuts off no answer."""
    headers = {"content-type": "application/json"}
    for path in ("/api/v1/alerts", "/api/v1/silences"):
        for size in (1_100_000, 5_000_000):
            answer = await client.post(path, content=b"[" * size, headers=headers)
            assert answer.status_code == 413, (path, size)
        stranger = {**headers, "host": "elsewhere.example.org"}
        answer = await client.post(path, content=b"[" * 1_000_000, headers=stranger)
        assert answer.status_code == 403
