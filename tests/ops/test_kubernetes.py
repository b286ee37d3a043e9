"""ops/k8s: built by Kustomize, checked against Kubernetes' own schemas. No cluster is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.ops import OPS, refused, run, tool

OVERLAYS = ["example", "sandbox"]
#: The oldest Kubernetes that is still looked after, and the newest that the schemas know.
VERSIONS = ["1.34", "1.37"]


@pytest.fixture(scope="module", params=OVERLAYS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("k8s") / f"{request.param}.yaml"
    tool("kubectl")
    file.write_text(run("kubectl", "kustomize", OPS / "k8s" / "overlays" / request.param))
    return file


def _pods(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in yaml.safe_load_all(file.read_text()):
        if document["kind"] in {"Deployment", "StatefulSet"}:
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_its_schema(built: Path, version: str) -> None:
    run("kubernetes-validate", "--strict", "--kubernetes-version", version, built)


def test_a_misspelt_probe_would_be_seen(built: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(built.read_text().replace("livenessProbe", "livenesProbe", 1))

    assert "livenesProbe" in refused("kubernetes-validate", "--strict", wrong)


def test_every_pod_fits_the_restricted_standard(built: Path) -> None:
    for name, pod in _pods(built):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert "livenessProbe" in container
            assert "readinessProbe" in container


def test_every_pod_sees_only_its_own_redis_user(built: Path) -> None:
    for name, pod in _pods(built):
        shown = [
            v["secret"]["items"] for v in pod["volumes"] if v.get("secret", {}).get("secretName") == "dingqueue-redis"
        ]
        assert shown in ([], [[{"key": name.removeprefix("dingqueue-"), "path": name.removeprefix("dingqueue-")}]])


def test_nothing_is_named_that_is_not_there(built: Path) -> None:
    documents = list(yaml.safe_load_all(built.read_text()))
    maps = {document["metadata"]["name"] for document in documents if document["kind"] == "ConfigMap"}
    deployments = {document["metadata"]["name"] for document in documents if document["kind"] == "Deployment"}

    for _, pod in _pods(built):
        assert {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume} <= maps
    for document in documents:
        if document["kind"] == "HorizontalPodAutoscaler":
            assert document["spec"]["scaleTargetRef"]["name"] in deployments


def test_the_scaler_counts_jobs_that_may_go_now() -> None:
    scaled = yaml.safe_load((OPS / "k8s/components/keda/scaledobject.yaml").read_text())["spec"]
    hpa = yaml.safe_load((OPS / "k8s/components/hpa/hpa.yaml").read_text())["spec"]

    assert scaled["triggers"][0]["metadata"]["query"] == "sum(dingqueue_lane_jobs_out)"
    assert hpa["metrics"][0]["external"]["metric"]["name"] == "dingqueue_lane_jobs_out"
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])


@pytest.mark.parametrize("component", ["keda", "hpa"])
def test_the_scaler_alone_says_how_many_workers_there_are(component: str, tmp_path: Path) -> None:
    built = _with(component, tmp_path)

    replicas = {one["metadata"]["name"]: one["spec"].get("replicas") for one in built if one["kind"] == "Deployment"}
    assert replicas["dingqueue-worker"] is None
    assert replicas["dingqueue-beat"] == 2


@pytest.mark.parametrize("component", ["keda", "hpa", "prometheus-operator", "valkey"])
def test_every_component_can_be_put_on(component: str, tmp_path: Path) -> None:
    assert any("dingqueue" in one["metadata"]["name"] for one in _with(component, tmp_path))


def _with(component: str, tmp_path: Path) -> list[dict[str, Any]]:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        f"resources: [{_relative(overlay, OPS / 'k8s/base')}]\n"
        f"components: [{_relative(overlay, OPS / 'k8s/components' / component)}]\n"
    )

    return list(yaml.safe_load_all(run("kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", overlay)))


def _relative(start: Path, to: Path) -> str:
    import os

    return os.path.relpath(to, start)


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("example/redis.conf", "redis.conf"),
        ("sandbox/redis.conf", "redis.conf"),
        ("example/dingqueue.toml", "dingqueue.example.toml"),
        ("sandbox/dingqueue.toml", "sandbox.toml"),
    ],
)
def test_copies_that_kustomize_needs_are_copies(copy: str, original: str) -> None:
    assert (OPS / "k8s/overlays" / copy).read_text() == (OPS / original).read_text()
