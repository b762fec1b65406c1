"""Signing in and out in a real browser, and what a session changes there."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, async_playwright, expect

from streams.settings import Settings
from tests.web.signing_in import PASSWORD, add_user, clear, guarded
from tests.web.test_page import ARGUMENTS

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.chromium, pytest.mark.timeout(300)]


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield found
        await found.close()


async def test_somebody_signs_in_silences_something_and_signs_out(
    browser: Browser, settings: Settings, conn: "Conn"
) -> None:
    await clear(conn)
    await add_user(conn, "ada", "responder")
    async with guarded(settings) as url:
        context = await browser.new_context(base_url=url)
        page = await context.new_page()
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        await page.goto("/silences?state=active")
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=60_000)
        await page.get_by_label("Name").fill("ada")
        await page.get_by_label("Password").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong", timeout=60_000)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        me = page.get_by_role("button", name="ada", exact=True)
        await expect(me).to_be_visible(timeout=60_000)
        assert page.url == f"{url}/silences?state=active"
        assert await page.evaluate("document.cookie") == ""
        status = await page.evaluate(
            """async () => {
                const { ask } = await import("/static/feed.js");
                const body = { matchers: [[{ name: "a", value: "b" }]], ends_at: "2099-01-01T00:00:00Z",
                               created_by: "somebody else", comment: "from the page" };
                return (await ask("/api/v1/silences", undefined, { method: "POST", body })).created_by;
            }"""
        )
        assert status == "ada"
        await me.click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=60_000)
        await page.goto("/")
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=60_000)
        assert complaints == []
        await context.close()
