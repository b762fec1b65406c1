"""What is deployed fits what is built: names of metrics, settings, commands, ports and versions."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, generate_latest

from streams import metrics
from streams.rules_config import load
from streams.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DASHBOARDS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "deploy/grafana/dashboards").glob("*.json"))
LOCKS = ("dev.txt", "runtime.txt", "build.txt")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose: dict[str, dict[str, Any]] = yaml.safe_load(read("docker-compose.yml"))
    return compose["services"]


@pytest.fixture(scope="module")
def series() -> set[str]:
    """Every series that a process of ours shows."""
    assert metrics.AGENTS
    named = {family.name for family in REGISTRY.collect() if family.type == "gauge"}
    return (
        named
        | {sample.name for family in REGISTRY.collect() for sample in family.samples}
        | {
            f"{family.name}_{ending}"
            for family in REGISTRY.collect()
            if family.type == "histogram"
            for ending in ("bucket", "count", "sum")
        }
    )


@pytest.mark.parametrize("name", [*DASHBOARDS, "deploy/prometheus-rules.yml"])
def test_only_metrics_that_exist_are_asked_for(name: str, series: set[str]) -> None:
    asked = set(re.findall(r"\bincidents_[a-z_0-9]+", read(name)))
    assert asked
    assert not asked - series
    recorded = set(re.findall(r"record: (incidents:[a-z_:0-9]+)", read("deploy/prometheus-rules.yml")))
    assert not set(re.findall(r"\bincidents:[a-z_:0-9]+", read(name))) - recorded


def test_each_alert_of_the_rules_has_its_page_in_the_runbook_and_no_page_is_left_over() -> None:
    groups = yaml.safe_load(read("deploy/prometheus-rules.yml"))["groups"]
    alerts = {rule["alert"]: rule["annotations"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert alerts
    assert set(re.findall(r"(?m)^## (.+)$", read("deploy/runbook.md"))) == set(alerts)
    for name, annotations in alerts.items():
        assert annotations["runbook"] == f"deploy/runbook.md#{name.lower()}"


def test_prometheus_takes_the_rules_and_they_say_what_their_tests_expect(prometheus: str) -> None:
    promtool = shutil.which("promtool")
    assert promtool, f"{prometheus} is there without promtool"
    done = subprocess.run(
        [promtool, "test", "rules", ROOT / "deploy/rules-tests.yml"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_the_metrics_are_named_as_is_the_custom(prometheus: str) -> None:
    promtool = shutil.which("promtool")
    assert promtool, f"{prometheus} is there without promtool"
    assert metrics.AGENTS
    done = subprocess.run([promtool, "check", "metrics"], input=generate_latest(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_of_a_dashboard_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    panels = json.loads(read(name))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_roles_are_given_only_settings_that_exist(services: dict[str, Any]) -> None:
    for service in services.values():
        environment = service.get("environment", {})
        ours = {name: str(value) for name, value in environment.items() if name.startswith(PREFIX)}
        Settings.from_environ({name: re.sub(r"\$\{[^}]*\}", "x", value) for name, value in ours.items()})


def test_the_gateway_on_docker_reads_a_rules_file_that_is_there(services: dict[str, Any]) -> None:
    gateway = services["gateway"]
    [volume] = gateway["volumes"]
    folder, inside, mode = re.sub(r"\$\{[^}]*:-([^}]*)\}", r"\1", volume).split(":")
    named = Path(gateway["environment"][f"{PREFIX}CONFIG"]).relative_to(inside)
    assert mode == "ro"
    rules = load(read(f"{folder}/{named}"))
    assert rules.route.receiver in rules.receivers
    whole = load(re.sub(r"(?m)^( +)# ", r"\1", read(f"{folder}/{named}")))
    assert {one.channel for one in whole.receivers["desk"].integrations} == {"email", "webhook"}


def test_prometheus_asks_every_role_at_its_port(services: dict[str, Any]) -> None:
    given = {
        environment.get(f"{PREFIX}OBSERVE_PORT") or environment[f"{PREFIX}HTTP_PORT"]
        for name, service in services.items()
        if (environment := service.get("environment", {})) and f"{PREFIX}KAFKA_URL" in environment and name != "migrate"
    }
    jobs = yaml.safe_load(read("deploy/prometheus.yml"))["scrape_configs"]
    targets = [target for group in jobs[0]["static_configs"] for target in group["targets"]]
    assert {target.split(":")[1] for target in targets} == given


def test_every_image_is_pinned(services: dict[str, Any]) -> None:
    for service in services.values():
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), service["image"]


def test_nothing_is_published_beyond_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_broker_is_the_version_that_runs_embedded(services: dict[str, Any]) -> None:
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([^<]+)", read("embedded/pom.xml"))
    assert found is not None
    assert services["kafka"]["image"] == f"apache/kafka:{found[1]}"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_neither_index_nor_machine(name: str) -> None:
    text = read(f"requirements/{name}")
    assert "://" not in text
    assert not re.search(r"^(-|--)", text, re.MULTILINE)
    assert not re.search(r"(^|[\s@=])/[a-z]", text)
    pins = re.findall(r"^[a-z0-9._-]+==", text, re.MULTILINE)
    assert pins
    assert len(re.findall(r"==[^\n]*\\\n    --hash=sha256:", text)) == len(pins)


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = [item for group in project["optional-dependencies"].values() for item in group]
    for name, wanted in (("runtime.txt", project["dependencies"]), ("dev.txt", project["dependencies"] + extras)):
        locked = set(re.findall(r"^([a-z0-9._-]+)==", read(f"requirements/{name}"), re.MULTILINE))
        assert not {re.split(r"[^A-Za-z0-9._-]", item)[0].lower() for item in wanted} - locked


def test_all_locks_agree() -> None:
    pins = [dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", read(f"requirements/{name}"), re.MULTILINE)) for name in LOCKS]
    for other in pins[1:]:
        assert not set(other.items()) - set(pins[0].items())
