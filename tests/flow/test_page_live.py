"""The page in a real browser, over a real system: it changes by itself."""

import pytest
from playwright.async_api import async_playwright, expect

from tests.flow.world import System, alert

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_an_incident_comes_and_goes_on_the_page_without_a_reload(
    system: System, service: str, chromium: str
) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        loads: list[str] = []
        page.on("load", lambda _: loads.append(page.url))
        await page.goto(f"{system.url}/")
        await expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=20_000)
        row = page.locator("table.incidents tr", has_text=service)
        await expect(row).to_have_count(0)

        assert (await system.post("/api/v1/alerts", alert(service, severity="critical"))).status_code == 202
        await expect(row).to_have_count(1, timeout=20_000)
        await expect(row).to_contain_text(f"{service} is refused")
        await expect(row).to_contain_text("critical")

        assert (await system.post("/api/v1/alerts", alert(service, "resolved"))).status_code == 202
        await expect(row).to_have_count(0, timeout=20_000)
        assert len(loads) == 1
        await browser.close()
