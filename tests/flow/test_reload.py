"""New rules reach every process without a restart, with the secrets and templates that stand in other files."""

from pathlib import Path
from typing import Any

import pytest

from tests.flow.world import RULES, Desk, System, alertmanager_alert, running, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NEW = RULES.replace("receiver: desk", "receiver: chat").replace(
    "inhibit_rules:",
    """\
  - name: chat
    slack_configs:
      - api_url_file: chat.secret
        channel: '#{{{{ .CommonLabels.service }}}}'
        title: '{{{{ template "chat.title" . }}}}'
templates: ['*.tmpl']
incidents:
  severities: {{SEV7: error}}
  kinds:
    - {{kind: cost, matchers: ['alertname=~"Slow.*"']}}
inhibit_rules:""",
)


def _rewritten(folder: Path, desk: Desk) -> None:
    (folder / "rules.yml").write_text(NEW.format(url=desk.url))
    (folder / "chat.secret").write_text(f"{desk.url}/desk\n")
    (folder / "chat.tmpl").write_text('{{ define "chat.title" }}{{ .Status | toUpper }} {{ len .Alerts }}{{ end }}')


async def _applied(system: System, version: int) -> None:
    async def everywhere() -> bool:
        rows = await system.sql("SELECT min(config_version) AS least FROM stream_progress")
        return bool(rows[0]["least"] == version)

    await until(everywhere, "every partition has the new rules")


@pytest.mark.usefixtures("_bare_environment")
async def test_a_reloaded_file_decides_who_is_told_in_which_words(
    tmp_path: Path, first_flavour: str, service: str
) -> None:
    async with Desk() as desk, running(tmp_path, desk, kafka=first_flavour, partitions=2) as system:
        before = (await system.sql("SELECT max(version) AS version FROM config_versions"))[0]["version"]
        (tmp_path / "rules.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: desk}]\n")
        refused = await system.http.post(f"{system.url}/-/reload")
        assert (refused.status_code, "no receiver is named 'nobody'" in refused.json()["detail"]) == (400, True)

        _rewritten(tmp_path, desk)
        taken = await system.http.post(f"{system.url}/-/reload")
        assert (taken.status_code, taken.json()) == (200, {"version": before + 1})
        await _applied(system, before + 1)
        for name in ("rules.yml", "chat.secret", "chat.tmpl"):
            (tmp_path / name).unlink()  # no other process reads them

        labels = {**alertmanager_alert(service)["labels"], "severity": "SEV7"}  # type: ignore[dict-item]
        await system.post("/api/v2/alerts", [alertmanager_alert(service, labels=labels)])
        opened = await system.one_incident(service, "open")
        assert (opened["kind"], opened["severity"]) == ("cost", "error")

        async def told() -> list[dict[str, Any]]:
            return [one.body for one in desk.received if "attachments" in one.body]

        (said,) = await until(told, "the chat is told")
        assert (said["channel"], said["attachments"][0]["title"]) == (f"#{service}", "FIRING 1")
