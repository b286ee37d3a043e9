"""ops/Dockerfile and what goes into the image. No engine is needed, so no image is built."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.ops import OPS, ROOT, run

DOCKERFILE = (OPS / "Dockerfile").read_text()


def pins(name: str) -> dict[str, str]:
    """Package to version, each with at least one hash."""
    text = (OPS / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all("--hash=sha256:" in line for line in lines)
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1].split()[0] for line in lines}


def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    run("hadolint", "--failure-threshold", "info", "ops/Dockerfile")


def test_the_image_is_nobody_and_stops_warmly() -> None:
    final = DOCKERFILE.rsplit("FROM ", 1)[1]

    assert "USER 10001:10001" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert 'ENTRYPOINT ["dingqueue"]' in final


def test_every_base_image_is_pinned() -> None:
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert {line for line in DOCKERFILE.splitlines() if line.startswith("FROM")} == {
        "FROM python:${PYTHON} AS build",
        "FROM python:${PYTHON}",
    }


def test_what_the_dockerfile_copies_is_let_in_and_nothing_else() -> None:
    rows = [row for row in (ROOT / ".dockerignore").read_text().splitlines() if row and not row.startswith("#")]
    let_in = {row[1:].rstrip("/") for row in rows if row.startswith("!")}
    copied = {
        word.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }

    assert rows[0] == "*"
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


def test_everything_the_fleet_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted += [Requirement(text) for name in ("worker", "sandbox", "monitor") for text in extras[name]]
    pinned = pins("requirements.txt")
    seen: set[str] = set()

    while wanted:
        need = wanted.pop()
        name = canonicalize_name(need.name)
        if name == "dingqueue" or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        assert name in pinned, f"{name} is missing in ops/requirements.txt: run the command in its first lines again"
        assert need.specifier.contains(pinned[name]), f"{need} does not allow the pinned {pinned[name]}"
        for extra in ("", *need.extras):
            if (key := f"{name}[{extra}]") in seen:
                continue
            seen.add(key)
            try:
                below = [Requirement(text) for text in requires(name) or ()]
            except PackageNotFoundError:
                continue
            wanted += [one for one in below if not one.marker or one.marker.evaluate({"extra": extra})]

    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]:
        assert canonicalize_name(Requirement(text).name) in pins("requirements-build.txt")
