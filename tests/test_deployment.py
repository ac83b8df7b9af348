"""Dockerfile, compose file and health check, as far as they can be checked without Docker."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxrmodels import health

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# The keys of the Compose Specification that are used here, or likely to be: a misspelt one would be ignored or refused.
TOP = {"name", "services", "volumes", "networks", "configs", "secrets"}
SERVICE = {
    *("build", "cap_drop", "command", "deploy", "environment", "healthcheck", "image", "init", "logging", "ports"),
    *("profiles", "read_only", "restart", "secrets", "security_opt", "stop_grace_period", "tmpfs", "user", "volumes"),
}


def instructions() -> Iterator[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    assert program, "pip install -r tests/requirements.txt"
    done = subprocess.run([program, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular() -> None:
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users
    assert users[-1].isdecimal()
    assert int(users[-1]) > 0
    assert f"--uid {users[-1]} " in DOCKERFILE


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the repository out of the image: the last line that fits counts."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        parents = [path, *map(str, Path(path).parents)]
        if any(Path(one).match(pattern.removeprefix("**/")) if "**" in pattern else one == pattern for one in parents):
            out = not line.startswith("!")
        elif pattern == "*":
            out = True
    return out


def test_what_is_copied_exists_and_nothing_private_goes_along() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert not ignored(source), f"{source} is left out by .dockerignore"
    for private in (
        ".git/config",
        ".streamlit/secrets.toml",
        "films/a.dcm",
        "cxrmodels/__pycache__/x.pyc",
        "tests/a.py",
    ):
        assert ignored(private), private
    assert not ignored("weights/two_conv_cnn/card.json")


def test_the_image_starts_the_program_as_the_readme_does() -> None:
    (command,) = [rest for name, rest in instructions() if name == "CMD"]
    arguments = yaml.safe_load(command)
    assert arguments[1:5] == ["-m", "streamlit", "run", "app.py"]
    # Every option is one that Streamlit knows.
    from streamlit import config

    known = config.get_config_options()
    for option in arguments[5:]:
        assert option.removeprefix("--").partition("=")[0] in known


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def test_compose_file_holds_to_the_specification(compose: dict[str, Any]) -> None:
    assert {key for key in compose if not key.startswith("x-")} <= TOP
    for service in compose["services"].values():
        assert set(service) <= SERVICE
        assert service["build"]
        for port in service["ports"]:
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), "open to this machine only"
        for mount in service["volumes"]:
            assert mount.split(":")[0] in compose["volumes"]
        assert all(isinstance(value, str) for value in service["environment"].values())
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert re.fullmatch(r"\d+s", service["stop_grace_period"])
        assert all(isinstance(value, str) for value in service["logging"]["options"].values())


def test_volumes_are_where_the_image_writes(compose: dict[str, Any]) -> None:
    (declared,) = [yaml.safe_load(rest) for name, rest in instructions() if name == "VOLUME"]
    (settings,) = [rest for name, rest in instructions() if name == "ENV"]
    for service in compose["services"].values():
        places = [mount.split(":")[1] for mount in service["volumes"]]
        assert sorted(places) == sorted(declared)
        for variable in ("CXRMODELS_RUNS", "CXRMODELS_CACHE", "KERAS_HOME", "MPLCONFIGDIR"):
            (place,) = re.findall(rf"{variable}=(\S+)", settings)
            assert any(Path(place).is_relative_to(volume) for volume in places)


def test_the_gpu_build_is_asked_for_as_the_dockerfile_takes_it(compose: dict[str, Any]) -> None:
    declared = {rest.partition("=")[0] for name, rest in instructions() if name == "ARG"}
    assert set(compose["services"]["gpu"]["build"]["args"]) == declared
    assert "build" in compose["services"]["app"]
    assert compose["services"]["app"]["build"] == "."


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/cxr/_stcore/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not among the tests' output."""


def test_health_is_asked_where_the_server_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with http.server.HTTPServer(("127.0.0.1", 0), _Answer) as server:
        monkeypatch.setenv("STREAMLIT_SERVER_PORT", str(server.server_port))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", "/cxr/")
            assert health.main() == 0
            monkeypatch.delenv("STREAMLIT_SERVER_BASE_URL_PATH")
            assert health.main() == 1
        finally:
            server.shutdown()
    assert health.main() == 1
    assert capsys.readouterr().err.count("does not answer") == 2


def test_the_changelog_begins_with_what_is_next() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Changes"
    assert [line for line in lines if line.startswith("## ")]
