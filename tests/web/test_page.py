import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from streams.settings import Settings
from tests.web.rows import add_alert, add_entry, add_incident, add_progress, add_task
from web.gateway import serving

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

pytestmark = [pytest.mark.postgres, pytest.mark.chromium]
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
NASTY = '<img src=x onerror="window.__xss=1"><script>window.__xss=1</script>'
NOW = datetime.now(UTC)
expect.set_options(timeout=15_000)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def url(settings: Settings, conn: object) -> AsyncIterator[str]:
    async with serving(settings) as address:
        yield address


@pytest.fixture
async def page(browser: Browser, url: str) -> AsyncIterator[Page]:
    context = await browser.new_context(base_url=url)
    page = await context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(url) else complaints.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
    yield page
    assert await page.evaluate("window.__xss") is None
    assert complaints == []
    await context.close()


async def test_incidents_appear_and_change_by_themselves(page: Page, conn: "Conn") -> None:
    await page.goto("/")
    await expect(page.get_by_text("All quiet")).to_be_visible()
    await expect(page.locator("#connection")).to_contain_text("Live")

    incident = await add_incident(conn, "Cost burn on batch jobs", severity="critical", kind="cost")
    row = page.get_by_role("row", name="Cost burn on batch jobs")
    await expect(row).to_contain_text("critical")
    await expect(row).to_contain_text("open")
    await conn.execute(
        "UPDATE incidents SET status = 'acknowledged', revision = 2, committed_at = clock_timestamp() WHERE id = $1",
        incident,
    )
    await expect(row).to_contain_text("acknowledged")
    await conn.execute(
        "UPDATE incidents SET status = 'resolved', resolved_at = now(), revision = 3, committed_at = clock_timestamp()"
    )
    await expect(row).to_be_hidden()
    await page.get_by_label("Status").select_option("resolved")
    await expect(row).to_contain_text("resolved")


async def test_filters_and_search_narrow_the_list_and_stay_in_the_address(page: Page, conn: "Conn") -> None:
    leak = await add_incident(conn, "Data leak", severity="critical", kind="data_leak")
    await add_alert(conn, leak, {"alertname": "Leak", "service": "claims"})
    await add_incident(conn, "Slow model", severity="warning", kind="latency")
    await page.goto("/")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("Data leak")
    await page.get_by_role("button", name="warning").click()
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("Slow model")
    await page.get_by_role("button", name="warning").click()
    await expect(rows).to_have_count(2)
    await page.get_by_label("Search titles").fill("claims")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("Data leak")
    await page.reload()
    await expect(rows).to_have_count(1)
    await page.get_by_label("Search titles").fill("nothing like it")
    await expect(page.get_by_text("Nothing matches these filters")).to_be_visible()


async def test_one_incident_shows_its_alerts_timeline_and_notices(page: Page, conn: "Conn") -> None:
    incident = await add_incident(conn, "Injection attempts", severity="critical", kind="prompt_injection")
    identity = await add_alert(conn, incident, {"alertname": "Inject", "model": "m1"}, summary="Prompt injection seen")
    await add_entry(conn, incident, 64, "opened", by=identity)
    await add_entry(conn, incident, 128, "notice made", to="on-call/0", reason="first firing")
    await add_task(conn, incident, 1, state="sent", finished_at=NOW, attempts=1)
    await page.goto("/")
    await page.get_by_role("link", name="Injection attempts").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Injection attempts")
    await page.get_by_text("Prompt injection seen").first.click()
    await expect(page.locator(".alerts")).to_contain_text("m1")
    await expect(page.locator(".timeline li")).to_have_count(2)
    await expect(page.locator(".timeline li").last).to_contain_text("Prompt injection seen")
    await expect(page.locator(".notices")).to_contain_text("https://hooks.example.net")
    await expect(page.locator(".notices")).not_to_contain_text("secret")
    await add_entry(conn, incident, 192, "resolved", by="its alerts")
    await conn.execute("UPDATE incidents SET revision = 2, committed_at = clock_timestamp()")
    await expect(page.locator(".timeline li")).to_have_count(3)
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(1)


async def test_foreign_text_is_never_markup(page: Page, conn: "Conn") -> None:
    incident = await add_incident(conn, NASTY, description=NASTY, group_labels={NASTY: NASTY}, receiver=NASTY)
    links = [["javascript:window.__xss=1", "click me"], ["https://ok.example/", NASTY]]
    await add_alert(
        conn, incident, {NASTY: NASTY}, summary=NASTY, description=NASTY, annotations={NASTY: NASTY}, links=links
    )
    await add_entry(conn, incident, 1, NASTY, actor=NASTY, **{NASTY: NASTY})
    await page.goto("/")
    await expect(page.locator("tbody tr")).to_contain_text(NASTY)
    await page.goto(f"/incidents/{incident}")
    await page.locator(".alerts summary").click()
    await expect(page.get_by_text("click me")).to_be_visible()
    assert await page.locator("a", has_text="click me").count() == 0
    assert await page.locator("main img, main script").count() == 0


async def test_text_that_turns_the_direction_round_turns_only_itself(page: Page, conn: "Conn") -> None:
    incident = await add_incident(conn, "x")
    await add_entry(conn, incident, 1, "comment", actor="\u202eeve", text="plain words")
    await page.goto(f"/incidents/{incident}")
    await expect(page.locator(".timeline .detail")).to_contain_text("plain words")
    places = """(wanted) => wanted.map((word) => {
        const walker = document.createTreeWalker(document.querySelector(".timeline .detail"), NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const at = walker.currentNode.data.indexOf(word);
            if (at < 0) continue;
            const range = document.createRange();
            range.setStart(walker.currentNode, at);
            range.setEnd(walker.currentNode, at + word.length);
            return range.getBoundingClientRect().left;
        }
    })"""
    before, after = await page.evaluate(places, ["eve", "plain"])
    assert before < after


async def test_the_chart_draws_what_comes_in(page: Page, conn: "Conn") -> None:
    await add_progress(conn, 0, new=10, duplicate=90)
    await page.goto("/")
    await expect(page.locator(".chart .line.in")).to_have_count(1)
    await conn.execute("UPDATE stream_progress SET received = received + 5000, duplicate = duplicate + 5000")
    await expect(page.locator("#sums")).to_contain_text("5,100 events received")
    await expect(page.locator(".chart .line.folded")).to_have_count(1)


async def test_it_fits_a_phone(browser: Browser, url: str, conn: "Conn") -> None:
    for number in range(3):
        labels = {"alertname": "x" * 60, "service": "y" * 60}
        incident = await add_incident(conn, f"{'Long-title' * 12} {number}", group_labels=labels)
        await add_alert(conn, incident, {"alertname": "z" * 150, "n": str(number)})
    context = await browser.new_context(viewport={"width": 360, "height": 740}, base_url=url)
    page = await context.new_page()
    for path in ("/", f"/incidents/{incident}", "/tables"):
        await page.goto(path)
        await expect(page.locator("main")).not_to_contain_text("Loading")
        if folder := os.environ.get("PICTURES"):
            await page.screenshot(path=f"{folder}/phone{path.replace('/', '-')[:12]}.png")
        wide = await page.evaluate(
            "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 361)"
            ".map(e => `${e.tagName}.${e.className}#${e.id}`).slice(0, 12)"
        )
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360, (path, wide)
    await context.close()


async def test_tables_say_so_when_redis_is_away(page: Page) -> None:
    await page.goto("/tables")
    await expect(page.get_by_text("Table sizes cannot be read right now")).to_be_visible()


async def test_a_key_that_cannot_be_looked_up_says_why(page: Page) -> None:
    await page.goto("/tables")
    await page.get_by_label("Table", exact=True).select_option("pulses")
    await page.get_by_label("Key").fill("0123456789abcdef")
    await page.get_by_role("button", name="Look up").click()
    await expect(page.get_by_text("Redis cannot be reached").first).to_be_visible()


async def test_ages_are_of_the_incident(page: Page, conn: "Conn") -> None:
    await add_incident(conn, "Old one", created_at=datetime.now(UTC) - timedelta(hours=3, minutes=4, seconds=20))
    await page.goto("/")
    await expect(page.get_by_role("row", name="Old one").locator("time")).to_have_text("3h 4m")
