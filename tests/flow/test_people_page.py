"""People work on incidents on the page, in a real browser over a real system, with the mouse and with the keyboard."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.flow.world import System, alert

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
NASTY = '<img src=x onerror="window.__xss=1">'


@pytest_asyncio.fixture(loop_scope="session")
async def page(system: System, chromium: str) -> AsyncIterator[Page]:
    """The page of somebody who has said that they are Ada; it is never reloaded, and complains of nothing."""
    expect.set_options(timeout=60_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page(base_url=system.url)
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        loads: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("load", lambda _: loads.append(page.url))
        await page.goto("/")
        await page.get_by_role("button", name="Say who you are").click()
        await page.get_by_label("Your name").fill("Ada")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("button", name="Ada")).to_be_visible()
        yield page
        assert await page.evaluate("window.__xss") is None
        assert complaints == []
        assert len(loads) == 1
        await browser.close()


async def shot(page: Page, name: str) -> None:
    """Keep a picture where PICTURES says, for people to look at."""
    if folder := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def pressed(page: Page, key: str, shows: Locator) -> None:
    """Press a key, once, and see what it is for."""
    await page.keyboard.press(key)
    await expect(shows).to_be_visible()


async def fired(system: System, page: Page, service: str, count: int = 1) -> Locator:
    """Rows of so many new incidents, by a search for them."""
    for number in range(count):
        labels = {"alertname": f"Slow{number}", "service": service}
        answer = await system.post(
            "/api/v1/alerts", alert(service, labels=labels, summary=f"{service} is slow {number}")
        )
        assert answer.status_code == 202
    await page.get_by_label("Search titles").fill(service)
    rows = page.locator("table.incidents tbody tr")
    await expect(rows).to_have_count(count)
    return rows


def said(page: Page, text: str) -> Locator:
    return page.locator(".timeline li", has_text=text)


async def test_one_incident_is_worked_on_from_its_start_to_its_end(system: System, page: Page, service: str) -> None:
    await (await fired(system, page, service)).get_by_role("link").click()
    act = page.get_by_role("group", name="Actions")
    badges = page.locator(".head .badges")
    dialog = page.get_by_role("dialog")

    await act.get_by_role("button", name="Acknowledge").click()
    await expect(badges).to_contain_text("acknowledged")
    await expect(said(page, "Acknowledged")).to_contain_text("by Ada")
    await expect(act.get_by_role("button", name="Acknowledge", exact=True)).to_have_count(0)

    await page.get_by_label("Comment", exact=True).fill(NASTY)
    await page.get_by_role("button", name="Comment", exact=True).last.click()
    await expect(said(page, NASTY)).to_contain_text("by Ada")

    await act.get_by_role("button", name="Snooze").click()
    await dialog.get_by_label("For").select_option("Until…")
    await dialog.get_by_role("button", name="Snooze").click()
    await expect(dialog.locator("#field-until-wrong")).to_have_text("Say until when.")
    await dialog.get_by_label("For").select_option("4 hours")
    await dialog.get_by_role("button", name="Snooze").click()
    await expect(badges).to_contain_text("snoozed")
    await expect(page.locator(".facts")).to_contain_text("in 3h 59m")
    await act.get_by_role("button", name="End snooze").click()
    await expect(badges).not_to_contain_text("snoozed")

    await act.get_by_role("button", name="Assign").click()
    await expect(dialog.get_by_label("To")).to_have_value("Ada")
    await dialog.get_by_role("button", name="Assign").click()
    await expect(page.locator(".facts")).to_contain_text("AssigneeAda")

    await act.get_by_role("button", name="Resolve").click()
    await dialog.get_by_label("Comment").fill("Rolled back")
    await dialog.get_by_role("button", name="Resolve").click()
    await expect(badges).to_contain_text("resolved")
    await expect(said(page, "Rolled back")).to_have_count(1)
    await act.get_by_role("button", name="Reopen").click()
    await dialog.get_by_role("button", name="Reopen").click()
    await expect(badges).to_contain_text("open")
    await shot(page, "incident")
    await expect(act.get_by_role("link", name="Silence these alerts")).to_have_attribute("href", re.compile(service))


async def test_what_an_incident_says_is_edited(system: System, page: Page, service: str) -> None:
    await (await fired(system, page, service)).get_by_role("link").click()
    act = page.get_by_role("group", name="Actions")
    badges = page.locator(".head .badges")
    dialog = page.get_by_role("dialog")
    await act.get_by_role("button", name="Edit").click()
    await dialog.get_by_label("Title").fill(f"{service} was named anew")
    await dialog.get_by_label("Severity").select_option("critical")
    await dialog.get_by_label("Labels").fill("nonsense")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.locator("#field-labels-wrong")).to_contain_text("write it like service=chat")
    await dialog.get_by_label("Labels").fill("ticket=OPS-1")
    await shot(page, "edit")
    await dialog.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"{service} was named anew")
    await expect(badges).to_contain_text("critical")
    await expect(page.locator(".head .labels")).to_contain_text("ticketOPS-1")

    await act.get_by_role("button", name="Add link").click()
    await dialog.get_by_label("Address").fill("javascript:window.__xss=1")
    await dialog.get_by_role("button", name="Add link").click()
    await expect(dialog.locator("#field-url-wrong")).not_to_be_empty()
    await dialog.get_by_label("Address").fill("https://example.org/dashboard")
    await dialog.get_by_label("Title").fill("Dashboard")
    await dialog.get_by_role("button", name="Add link").click()
    await expect(page.get_by_role("link", name="Dashboard")).to_have_attribute("href", "https://example.org/dashboard")


async def test_several_are_worked_on_at_once_by_keyboard(system: System, page: Page, service: str) -> None:
    rows = await fired(system, page, service, 3)
    dialog = page.get_by_role("dialog")
    bar = page.get_by_role("region", name="Selected incidents")
    await page.keyboard.press("Escape")
    for _ in range(2):
        await page.keyboard.press("j")
        await page.keyboard.press("x")
    await expect(bar).to_contain_text("2 selected")
    await shot(page, "selection")
    await page.keyboard.press("a")
    await expect(rows.filter(has_text="acknowledged")).to_have_count(2)
    await page.keyboard.press("Escape")
    await expect(bar).to_be_hidden()

    await page.keyboard.press("k")
    for _ in range(3):
        await pressed(page, "i", dialog)
        await page.keyboard.press("Escape")
    await pressed(page, "s", dialog)
    await dialog.get_by_role("button", name="Snooze").press("Enter")
    await expect(dialog).to_have_count(0)
    await pressed(page, "c", dialog)
    await page.keyboard.press("Escape")

    await page.get_by_label("Select all that are shown").check()
    await pressed(page, "m", dialog)
    await dialog.get_by_role("radio", name=f"{service} is slow 1").check()
    await shot(page, "merge")
    await dialog.get_by_role("button", name="Merge").click()
    await expect(rows).to_have_count(1)
    await rows.get_by_role("link").press("Enter")
    children = page.locator(".children li")
    await expect(children).to_have_count(2)
    await shot(page, "children")
    await children.first.get_by_role("button", name="Split").click()
    await expect(children).to_have_count(1)

    await pressed(page, "r", dialog)
    await page.keyboard.press("Escape")
    await pressed(page, "c", page.locator("#say:focus"))
    await page.keyboard.type("r is only a letter here")
    await page.keyboard.press("Control+Enter")
    await expect(said(page, "r is only a letter here")).to_have_count(1)
    await page.keyboard.press("Escape")
    await pressed(page, "?", dialog)
    await expect(dialog).to_contain_text("Acknowledge")
    await shot(page, "keys")
    await page.keyboard.press("Escape")
    await pressed(page, "u", page.get_by_label("Search titles"))


async def test_an_incident_is_opened_by_hand_and_blacked_out(system: System, page: Page, service: str) -> None:
    dialog = page.get_by_role("dialog")
    await pressed(page, "n", dialog)
    await dialog.get_by_role("button", name="Open").click()
    await expect(dialog.locator("#field-title-wrong")).to_have_text("Please fill this in.")
    await dialog.get_by_label("What is wrong").fill(f"{service} {NASTY}")
    await dialog.get_by_label("Description").fill("the key is hunter2")
    await dialog.get_by_label("Kind").select_option("data leak")
    await dialog.get_by_label("Labels").fill(f"service={service}")
    await dialog.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"{service} {NASTY}")
    await page.get_by_role("button", name="Redact…").click()
    await dialog.get_by_label("Why").fill("a secret")
    await dialog.get_by_role("button", name="Redact").click()
    await expect(page.get_by_text("hunter2")).to_have_count(0)
    await expect(said(page, "a secret")).to_have_count(1)


async def test_what_a_rule_put_together_is_taken_apart_where_its_reason_stands(
    system: System, page: Page, service: str
) -> None:
    for name in ("One", "Two", "Three"):
        labels = {"alertname": name, "service": service, "rack": service}
        one = alert(
            service, labels=labels, summary=f"{service} {name}", severity="critical" if name == "One" else "error"
        )
        assert (await system.post("/api/v1/alerts", one)).status_code == 202
    await page.get_by_label("Search titles").fill(service)
    rows = page.locator("table.incidents tbody tr")
    await expect(rows).to_have_count(1)
    await rows.get_by_role("link").click()
    children = page.locator(".children li")
    await expect(children).to_have_count(2)
    await expect(children.first).to_contain_text("rule “one rack”")
    dialog = page.get_by_role("dialog")

    await said(page, f"{service} Two").get_by_role("button", name="Undo correlation").click()
    await dialog.get_by_role("button", name="Undo correlation").click()
    await expect(children).to_have_count(1)
    await expect(children).to_contain_text(f"{service} Three")

    await children.get_by_role("link").click()
    await expect(page.locator(".head .badges")).to_contain_text("merged")
    await expect(said(page, "Merged")).to_contain_text(f"shares rack={service} with “{service} One”")
    await pressed(page, "p", dialog)
    await dialog.get_by_label("Comment").fill("another rack after all")
    await dialog.get_by_role("button", name="Undo correlation").click()
    await expect(page.locator(".head .badges")).to_contain_text("open")
    await expect(said(page, "another rack after all")).to_have_count(1)
