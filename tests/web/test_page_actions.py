"""What the page offers to whom, and where it says that something went wrong; in a real browser, without a worker."""

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, Page, expect

from streams.settings import Settings
from tests.web.rows import add_alert, add_incident
from tests.web.signing_in import PASSWORD, add_user, clear
from tests.web.test_page import NASTY, browser, page, url
from tests.web.test_page_silences import shot
from web.gateway import serving

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

__all__ = ["browser", "page", "url"]
pytestmark = [pytest.mark.postgres, pytest.mark.chromium]


async def test_what_went_wrong_is_said_beside_what_was_clicked(page: Page, conn: "Conn") -> None:
    incident = await add_incident(conn, "Cost burn", severity="critical")
    await add_alert(conn, incident, {"alertname": "CostBurn"})
    await page.goto(f"/incidents/{incident}")
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.locator(".head .said")).not_to_be_empty()
    await page.get_by_role("button", name="Resolve").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("1 of its alerts still fire")
    await dialog.get_by_role("button", name="Resolve").click()
    await expect(dialog.get_by_role("alert")).not_to_be_empty()
    await shot(page, "failed")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Resolve")).to_be_focused()


async def test_rows_are_selected_with_mouse_and_keyboard_and_stay_so_while_the_list_changes(
    page: Page, conn: "Conn"
) -> None:
    for number in range(4):
        await add_incident(conn, f"{NASTY} {number}", severity="critical")
    await page.goto("/")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(4)
    bar = page.get_by_role("region", name="Selected incidents")
    await rows.nth(0).get_by_role("checkbox").click()
    await rows.nth(2).get_by_role("checkbox").click(modifiers=["Shift"])
    await expect(bar).to_contain_text("3 selected")
    await add_incident(conn, "A new one", severity="critical")
    await expect(rows).to_have_count(5)
    await expect(bar).to_contain_text("3 selected")
    await shot(page, "selected")
    await bar.get_by_role("button", name="Select none").click()
    await expect(bar).to_be_hidden()
    for key in "jkkkkkjk":
        await page.keyboard.press(key)
    await expect(rows.nth(0).get_by_role("link")).to_be_focused()
    await page.keyboard.press("x")
    await expect(rows.nth(0).get_by_role("checkbox")).to_be_checked()
    await page.keyboard.press("/")
    await page.keyboard.type("axr")
    await expect(page.get_by_label("Search titles")).to_have_value("axr")


async def test_a_viewer_sees_everything_and_is_offered_nothing(
    browser: Browser, settings: Settings, conn: "Conn"
) -> None:
    await clear(conn)
    incident = await add_incident(conn, "Cost burn", severity="critical")
    for name in ("viewer", "responder"):
        await add_user(conn, name, name)
    async with serving(dataclasses.replace(settings, auth="on")) as address:
        for name, offered in (("viewer", 0), ("responder", 1)):
            context = await browser.new_context(base_url=address)
            page = await context.new_page()
            dialog = page.get_by_role("dialog")
            await page.goto(f"/incidents/{incident}")
            await page.get_by_label("Name").fill(name)
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Cost burn")
            await expect(page.get_by_role("button", name="Acknowledge")).to_have_count(offered)
            await expect(page.get_by_label("Comment", exact=True)).to_have_count(offered)
            await page.get_by_role("link", name="← All incidents").click()
            await expect(page.locator("tbody tr")).to_have_count(1)
            await expect(page.get_by_role("button", name="New incident")).to_have_count(offered)
            await expect(page.locator("tbody").get_by_role("checkbox")).to_have_count(offered)
            await page.get_by_role("link", name="Silences").click()
            await expect(page.get_by_text("Nothing is silenced")).to_be_visible()
            await expect(page.get_by_role("button", name="Preview")).to_have_count(offered)
            await page.get_by_role("button", name=name).click()
            await dialog.get_by_role("button", name="Change password").click()
            await dialog.get_by_label("Your password").fill("not this one")
            await dialog.get_by_label("The new one").fill("another long password")
            await dialog.get_by_role("button", name="Change").click()
            await expect(dialog.locator("#field-password-wrong")).to_have_text("it is not the present one")
            await dialog.get_by_label("Your password").fill(PASSWORD)
            await dialog.get_by_role("button", name="Change").click()
            await expect(dialog).to_have_count(0)
            await page.get_by_role("button", name=name).click()
            await dialog.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_label("Password")).to_be_visible()
            await context.close()


async def test_jobs_are_run_paused_and_cancelled(page: Page, conn: "Conn") -> None:
    await conn.execute("TRUNCATE jobs, job_runs CASCADE")
    await conn.execute(
        "INSERT INTO jobs (name, action, arguments, schedule, origin, next_at)"
        " VALUES ('nightly', 'alert', '{}', '0 3 * * *', 'api', clock_timestamp() + interval '3 h 30 s')"
    )
    await page.goto("/jobs")
    job = page.locator("[data-job=nightly]")
    await expect(job).to_contain_text("0 3 * * * UTC · next in 3h 0m")
    await job.get_by_role("button", name="Run now").click()
    await job.get_by_text("Runs").click()
    run = job.locator(".runs li")
    await expect(run).to_contain_text("asked for by anonymous")
    await job.get_by_role("button", name="Run now").click()
    await expect(job.get_by_role("alert")).to_contain_text("is not over")
    await shot(page, "jobs")
    await run.get_by_role("button", name="Cancel").click()
    await expect(run).to_contain_text("cancelled")
    await run.get_by_role("button", name="Log").click()
    await expect(run.locator("pre")).to_be_visible()
    await job.get_by_role("button", name="Pause").click()
    await expect(job).to_contain_text("paused by anonymous")
    await job.get_by_role("button", name="Resume").click()
    await expect(job).to_contain_text("next in")
    dialog = page.get_by_role("dialog")
    await job.get_by_role("button", name="Drop").click()
    await dialog.get_by_role("button", name="Drop").click()
    await expect(job).to_have_count(0)

    await page.get_by_role("button", name="Export…").click()
    await dialog.get_by_label("What").select_option("Alerts")
    await dialog.get_by_role("button", name="Export").click()
    asked = page.locator("section", has_text="Background work")
    await expect(asked).to_contain_text("export")
    told = await conn.fetchval("SELECT arguments::text FROM job_runs WHERE action = 'export'")
    assert json.loads(told) == {"what": "alerts", "format": "csv"}

    await conn.execute("TRUNCATE heartbeats")
    await page.request.post("/api/v1/heartbeats/nightly-backup?interval=25h")
    await page.reload()
    beat = page.locator("[data-heartbeat=nightly-backup]")
    await expect(beat).to_contain_text("every 1d 1h")
    await beat.get_by_role("button", name="Watch no more").click()
    await dialog.get_by_role("button", name="Watch no more").click()
    await expect(beat).to_have_count(0)


async def test_only_what_one_works_on_is_shown(page: Page, conn: "Conn") -> None:
    await add_incident(conn, "Hers", handling='{"assignee": "Ada"}')
    await add_incident(conn, "Nobody's", handling='{"snoozed_until": "2030-01-01T00:00:00Z"}')
    await page.goto("/")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await expect(page.get_by_role("row", name="Nobody's")).to_contain_text("snoozed")
    await page.get_by_role("button", name="Say who you are").click()
    await page.get_by_label("Your name").fill("Ada")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="mine").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("tbody tr")).to_contain_text("Hers")
    await page.reload()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.get_by_role("button", name="mine")).to_have_attribute("aria-pressed", "true")
