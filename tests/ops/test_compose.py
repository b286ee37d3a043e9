"""docker-compose.yml, read by Compose itself, and what it promises about each service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.ops import OPS, ROOT, compose, refused, run

EXPECTED = {"redis", "worker", "beat", "flower", "metrics", "prometheus", "grafana"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose(env_file=OPS / "sandbox.env")["services"]
    return found


def test_the_file_keeps_to_the_specification() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_without_the_sandbox_the_real_dingtalk_is_spoken_to() -> None:
    found = compose()["services"]

    assert set(found) == EXPECTED
    assert found["worker"]["environment"]["DINGQUEUE_OAPI_URL"] == "https://oapi.dingtalk.com"


def test_the_sandbox_profile_speaks_to_nobody_outside(services: dict[str, Any]) -> None:
    assert set(services) == EXPECTED | {"sandbox"}
    for name in ("worker", "beat"):
        environment = services[name]["environment"]
        assert {environment["DINGQUEUE_OAPI_URL"], environment["DINGQUEUE_API_URL"]} == {"http://sandbox:8025"}
        assert services[name]["depends_on"]["sandbox"]["condition"] == "service_healthy"


def test_the_profile_without_its_env_file_starts_no_worker(tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.write_text("COMPOSE_PROFILES=sandbox\n")

    found = compose(env_file=env)["services"]

    # The workers wait for a sandbox that never gets healthy: nothing is sent to the real DingTalk by mistake.
    assert ".invalid/" in found["sandbox"]["healthcheck"]["test"][-1]
    assert found["worker"]["depends_on"]["sandbox"]["condition"] == "service_healthy"


@pytest.mark.parametrize("name", sorted(EXPECTED | {"sandbox"}))
def test_every_service_is_careful(name: str, services: dict[str, Any]) -> None:
    service = services[name]

    assert service["user"] not in {"", "root", "0"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert ":" in service["image"]
    assert not service["image"].endswith(":latest")
    assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ()))


def test_no_secret_stands_in_the_environment(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert "@" not in value, name
            if "PASSWORD" in name:
                assert value.startswith("/run/secrets/")


def test_every_file_that_is_mounted_is_there() -> None:
    found = compose(env_file=OPS / "sandbox.env")
    made = OPS / "secrets"

    files = [Path(entry["file"]) for kind in ("configs", "secrets") for entry in found[kind].values()]
    files += [
        Path(v["source"]) for s in found["services"].values() for v in s.get("volumes", ()) if v["type"] == "bind"
    ]

    assert files
    for file in files:
        assert file.exists() or file.is_relative_to(made), file
        assert file.is_relative_to(ROOT)


def test_a_misspelt_key_would_be_seen(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text().replace("healthcheck:", "healtcheck:", 1)
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(text)

    assert "healtcheck" in refused("docker-compose", "--file", wrong, "--project-directory", ROOT, "config", "--quiet")
