"""A target that `no_proxy` names is reached directly."""

import httpx
import pytest

from sinks.http import Http
from sinks.outcome import Sent
from sinks.proxies import proxy_for
from sinks.request import Request
from tests.sinks.http_server import running

PROXY = "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "http://localhost/", False),
        ("x", "http://localhost/", True),
        ("x", "http://127.0.0.1:9/", True),
        ("*", "http://a.example.org/", True),
        ("example.org", "http://a.example.org/", True),
        ("example.org", "http://EXAMPLE.org/", True),
        ("example.org", "http://anexample.org/", False),
        (".example.org", "http://example.org/", False),
        (" b , *.example.org", "http://a.example.org/", True),
        ("example.org:8443", "https://example.org/", False),
        ("example.org:443", "https://example.org/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://ten.example.org/", False),
        ("10.1.2.3:80", "http://10.1.2.3/", True),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("[fd00::1]:81", "http://[fd00::1]:81/", True),
        ("fd00::1", "http://[fd00::1]/", True),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(no_proxy: str, url: str, direct: bool) -> None:
    found = proxy_for(httpx.URL(url), {"proxy_url": PROXY, "no_proxy": no_proxy})
    assert found == (None if direct else PROXY)
    assert proxy_for(httpx.URL(url), {"no_proxy": no_proxy}) is None


async def test_a_request_goes_past_the_proxy_where_the_rules_file_says_so() -> None:
    http = Http(2.0)
    async with running() as proxy, running() as target:
        for no_proxy in ("", "127.0.0.1"):
            options = {"proxy_url": proxy.url, "no_proxy": no_proxy}
            assert isinstance(await http.told(Request(url=target.url, key="k", body=b"{}", options=options)), Sent)
    await http.close()
    assert (len(proxy.requests), len(target.requests)) == (1, 1)
    assert proxy.requests[0].startswith(f"POST {target.url}".encode())
