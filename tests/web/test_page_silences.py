"""The page's view of silences, and why an alert was told or not, in a real browser."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Page, expect

from tests.web.rows import add_alert, add_incident
from tests.web.test_page import NASTY, browser, page, url

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    Conn = Connection[Record]

__all__ = ["browser", "page", "url"]
pytestmark = [pytest.mark.postgres, pytest.mark.chromium]


async def shot(page: Page, name: str) -> None:
    """Keep a picture where PICTURES says, for people to look at."""
    if folder := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def test_a_silence_is_previewed_created_and_expired(page: Page, conn: "Conn") -> None:
    labels = {"alertname": "CostBurn", "service": "chat"}
    incident = await add_incident(conn, "Cost burn on batch jobs", severity="critical", group_labels=labels)
    await add_alert(conn, incident, labels, summary="Cost doubled", severity="critical")
    await add_alert(conn, incident, {**labels, "zone": "eu"}, summary=NASTY)
    await page.goto(f"/incidents/{incident}")
    await page.get_by_role("link", name="Silence these alerts").click()
    conditions = page.get_by_label("Alerts that meet all of")
    await expect(conditions).to_have_value('alertname="CostBurn", service="chat"')
    await expect(page.get_by_text("Nothing is silenced")).to_be_visible()

    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_text("It would mute 2 firing alerts of 1 open incident.")).to_be_visible()
    await conditions.fill('service=chat, zone=~"e.*|x,y"')
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_text("It would mute 1 firing alert of 1 open incident.")).to_be_visible()
    await page.get_by_label("Comment").fill(NASTY)
    await page.get_by_label("Created by").fill("ada")
    await page.get_by_label("For").select_option("8 hours")
    await shot(page, "preview")
    await page.get_by_role("button", name="Silence", exact=True).click()
    await expect(page.get_by_text("Silenced until")).to_be_visible()
    row = page.locator(".silences li[data-state=active]")
    await expect(row).to_contain_text('service="chat", zone=~"e.*|x,y"')
    await expect(row).to_contain_text(NASTY)
    await row.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Ends").select_option("1 week from now")
    await dialog.get_by_label("Comment").fill("it takes longer")
    await dialog.get_by_role("button", name="Save").click()
    await expect(row).to_contain_text("it takes longer")
    await row.get_by_text("Who changed it").click()
    await expect(row).to_contain_text("created by ada")
    await shot(page, "silences")
    await row.get_by_role("button", name="Expire").click()
    await expect(page.locator(".silences li[data-state=expired]")).to_contain_text("ended")
    stored = await conn.fetch("SELECT action, actor FROM silence_audit ORDER BY seq")
    assert [tuple(entry) for entry in stored] == [("created", "ada"), ("edited", "ada"), ("expired", "ada")]


async def test_what_cannot_be_a_silence_is_said(page: Page) -> None:
    await page.goto("/silences?matchers=service%3D~%22.*%22")
    for wrong, reason in (
        (None, "must not match the empty string"),
        ("nonsense", "is not a condition"),
        ("service=~(", "is refused"),
    ):
        if wrong is not None:
            await page.get_by_label("Alerts that meet all of").fill(wrong)
        await page.get_by_role("button", name="Preview").click()
        await expect(page.locator(".said")).to_contain_text(reason)


async def test_an_alert_says_why(page: Page, conn: "Conn") -> None:
    incident = await add_incident(conn, "Cost burn")
    identity = await add_alert(conn, incident, {"alertname": "CostBurn", NASTY: NASTY}, summary="Cost doubled")
    now = datetime.now(UTC)
    await conn.execute(
        "INSERT INTO verdicts VALUES ('l', 0, 1, 'new', $1, 1, 1, '{}', '', 'alertmanager', $2, $2)", identity, now
    )
    await conn.execute(
        "INSERT INTO decisions VALUES ('g', 1, NULL, $1, 'silenced by', $2, '{}', $3)", identity, NASTY, now
    )
    await page.goto(f"/incidents/{incident}")
    await page.locator(".alerts summary").click()
    await page.get_by_role("button", name="Why?").click()
    story = page.get_by_label("Why")
    await expect(story).to_contain_text("It fired, as alertmanager said.")
    await expect(story).to_contain_text(f"Silence {NASTY} muted it.")
    await expect(story).to_contain_text("Next")
    await shot(page, "story")
