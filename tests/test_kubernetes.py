"""The manifests: valid by the cluster's own schemas, and fit to what is built."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streams import metrics
from streams.rules_config import load
from streams.settings import PREFIX, Settings

FOLDER = Path(__file__).parent.parent / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")
ROLES = {"gateway", "bridge", "worker", "delivery"}
GIVEN = {"INCIDENTS_DATABASE_URL", "INCIDENTS_REDIS_URL", "INCIDENTS_KAFKA_URL", "INCIDENTS_AMQP_URL"}


def kustomization() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    return made


def resources() -> list[dict[str, Any]]:
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in kustomization()["resources"]]
    return [one for text in texts for one in yaml.safe_load_all(text)]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in resources() if one["kind"] == kind}


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Of each thing that runs, its name, its pod and its container."""
    for name, one in {**of_kind("Deployment"), **of_kind("Job")}.items():
        pod = one["spec"]["template"]["spec"]
        [container] = pod["containers"]
        yield name, pod, container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", resources(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_each_resource_is_valid(one: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_find_what_is_wrong() -> None:
    [*_, wrong] = of_kind("Deployment").values()
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_it_together() -> None:
    made = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True).stdout
    every = list(yaml.safe_load_all(made))
    assert len(every) == len(resources()) + len(kustomization()["configMapGenerator"])
    for one in every:
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
    images = set(re.findall(r"image: (\S+)", made))
    [image] = kustomization()["images"]
    assert images == {f"{image['newName']}:{image['newTag']}"}


def test_every_role_runs_and_is_given_settings_that_exist() -> None:
    assert set(of_kind("Deployment")) == ROLES
    [settings] = [one for one in kustomization()["configMapGenerator"] if one["name"] == "settings"]
    common = dict(pair.split("=", 1) for pair in settings["literals"])
    for _, _, container in pods():
        own = {one["name"]: one.get("value", "w") for one in container["env"] if "value" in one}
        # Where no host is given it is a loopback address, as anywhere.
        made = Settings.from_environ({**common, **own, **dict.fromkeys(GIVEN, "x")})
        assert {f"{PREFIX}{name.upper()}" for name in ("observe_host", "partitions")} <= common.keys()
        assert made.observe_host == "0.0.0.0"
        assert [one["configMapRef" if "configMapRef" in one else "secretRef"]["name"] for one in container["envFrom"]]


def test_nothing_runs_as_root_or_writes_to_its_image() -> None:
    for name, pod, container in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        assert not pod["automountServiceAccountToken"], name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }, name  # fmt: skip
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert "memory" in container["resources"]["limits"], name


def test_probes_ask_the_port_that_answers() -> None:
    for name in ROLES:
        [(_, _, container)] = [one for one in pods() if one[0] == name]
        [port] = container["ports"]
        own = {one["name"]: one.get("value") for one in container["env"]}
        literals = "\n".join(kustomization()["configMapGenerator"][0]["literals"])
        given = own.get("INCIDENTS_HTTP_PORT") or re.findall(r"OBSERVE_PORT=(\d+)", literals)[0]
        assert port["containerPort"] == int(given)
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}, (name, probe)


def test_a_stop_is_longer_than_what_it_waits_for() -> None:
    grace = {name: pod.get("terminationGracePeriodSeconds", 30) for name, pod, _ in pods()}
    settings = Settings()
    assert grace["delivery"] > settings.mail_timeout + 5
    assert min(grace[name] for name in ROLES) >= 30


def test_budgets_and_autoscalers_name_what_runs() -> None:
    deployments = of_kind("Deployment")
    budgets = of_kind("PodDisruptionBudget")
    assert set(budgets) == ROLES
    for name, budget in budgets.items():
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    scalers = of_kind("HorizontalPodAutoscaler")
    for name, scaler in scalers.items():
        assert scaler["spec"]["scaleTargetRef"]["name"] == name
        assert scaler["spec"]["minReplicas"] == deployments[name]["spec"]["replicas"]
    literals = "\n".join(kustomization()["configMapGenerator"][0]["literals"])
    partitions = int(re.findall(r"PARTITIONS=(\d+)", literals)[0])
    assert scalers["worker"]["spec"]["maxReplicas"] == partitions


def test_workers_scale_by_a_metric_that_there_is() -> None:
    rules = yaml.safe_load((FOLDER / "adapter-rules.yml").read_text(encoding="utf-8"))["rules"]["external"]
    named = {one["name"]["as"] for one in rules}
    asked = {
        metric["external"]["metric"]["name"]
        for scaler in of_kind("HorizontalPodAutoscaler").values()
        for metric in scaler["spec"]["metrics"]
        if metric["type"] == "External"
    }
    assert asked == named
    [lag] = [one["seriesQuery"] for one in rules if one["name"]["as"] == "incidents_lag_records"]
    assert lag in {family.name for family in metrics.lag_records.collect()}


def test_the_rules_of_the_cluster_can_be_used() -> None:
    rules = load((FOLDER / "incidents.yml").read_text(encoding="utf-8"))
    assert rules.route.receiver in rules.receivers
