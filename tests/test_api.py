"""The API as another program meets it: a server that really listens, asked over HTTP."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import requests
import uvicorn
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from cxrmodels import NOTICE
from cxrmodels.api import answers, routes
from cxrmodels.api.access import RATE_VARIABLE, TOKEN_VARIABLE, Access, AccessError, access_for, is_loopback
from cxrmodels.cli import main
from cxrmodels.engine import Engine
from cxrmodels.explain.saliency import saliency
from cxrmodels.gate import REFUSED, Gate
from cxrmodels.inference import predict
from cxrmodels.phantom import phantom
from cxrmodels.plots import overlay_png
from cxrmodels.radiograph import MAX_BYTES, read_radiograph
from cxrmodels.service import Service
from cxrmodels.zoo import ModelError, load

KEYS = ("two_conv_cnn", "multi_lung_cnn")
"""Small ones, loaded in no time."""
TOKEN = "a token of tests, but long".replace(" ", "-")
WAIT = 60
ROOT = Path(__file__).parent.parent
FILM = phantom("covid19", seed=3, size=160).png()

Ask = Callable[..., requests.Response]


@contextmanager
def served(service: Service, access: Access) -> Iterator[str]:
    """Address of a server with the API alone."""
    application = Starlette(routes=routes.routes(lambda: service, access))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", ws="none", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(WAIT)


@pytest.fixture(scope="module")
def few_models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("answers", "routes", "numbers"):
            patch.setattr(f"cxrmodels.api.{module}.available", lambda: KEYS)
        yield


@pytest.fixture(scope="module")
def service(few_models: None) -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with served(service, Access("", True, 1_000_000)) as found:
        yield found


@pytest.fixture(scope="module")
def ask(address: str) -> Ask:
    def send(method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"{address}{path}", timeout=WAIT, **options)

    return send


def problem(response: requests.Response, status: int) -> str:
    """The detail of an answer that has to be a problem of this status."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    told = response.json()
    assert set(told) == {"type", "title", "status", "detail", "notice"}
    assert (told["status"], told["notice"]) == (status, NOTICE)
    detail: str = told["detail"]
    return detail


# --- the document -------------------------------------------------------------------------------------------


def test_schemathesis_finds_nothing(address: str, tmp_path: Path) -> None:
    """What it tries: the edges of every parameter, random questions, and such as break the document's rules."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/v1/openapi.json"),
            *("--checks", "all", "--max-examples", "8", "--generation-database", "none", "--seed", "1", "--no-color"),
            *("--suppress-health-check", "all", "--request-timeout", str(WAIT)),
        ],
        cwd=tmp_path,  # where it leaves its notes
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "4 selected / 4 total" in done.stdout


def valid(name: str, content: Any, ask: Ask) -> None:
    document = ask("GET", "/api/v1/openapi.json").json()
    jsonschema.validate(content, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_the_document_lists_every_address(ask: Ask) -> None:
    document = ask("GET", "/api/v1/openapi.json").json()
    assert set(document["paths"]) == {"/api/v1/predict", "/api/v1/models", "/healthz", "/metrics"}
    names = document["paths"]["/api/v1/predict"]["post"]["parameters"]
    assert names[0]["schema"]["items"]["enum"] == list(KEYS)
    assert NOTICE in document["info"]["description"]


# --- films --------------------------------------------------------------------------------------------------


def ways_to_send(film: bytes) -> list[dict[str, Any]]:
    return [
        {"files": {"file": ("a film.png", film, "image/png")}},
        {"data": film, "headers": {"Content-Type": "image/png"}},
        {"data": film},  # without saying what it is
        {"data": iter([film[:1000], film[1000:]])},  # in pieces, without a length
    ]


@pytest.mark.parametrize("way", range(4))
def test_it_says_what_the_library_says(way: int, ask: Ask) -> None:
    response = ask("POST", "/api/v1/predict", params={"models": ",".join(KEYS)}, **ways_to_send(FILM)[way])
    assert response.status_code == 200
    told = response.json()
    valid("Answer", told, ask)
    film = read_radiograph(FILM)
    assert told["notice"] == NOTICE
    assert told["film"]["sha256"] == film.sha256 == hashlib.sha256(FILM).hexdigest()
    assert told["film"]["name"] == ("a film.png" if way == 0 else "unnamed")
    assert told["film"]["synthetic"]
    assert told["errors"] == []
    assert [one["model"] for one in told["models"]] == list(KEYS)
    for one in told["models"]:
        expected, _ = predict(Engine(load(one["model"])), film)
        assert one["decision"] == expected.decision
        assert one["weights_sha256"] == expected.weights_sha256
        assert [entry["finding"] for entry in one["findings"]] == list(expected.findings)
        assert [entry["probability"] for entry in one["findings"]] == pytest.approx(list(expected.probabilities))
        assert one["heat_map"] is None


def test_heat_maps_are_pictures_of_the_film(ask: Ask) -> None:
    query = {"models": KEYS[1], "saliency": "layer_cam", "finding": "viral_pneumonia"}
    told = ask("POST", "/api/v1/predict", params=query, data=FILM).json()
    valid("Answer", told, ask)
    heat = told["models"][0]["heat_map"]
    assert (heat["method"], heat["finding"], heat["layer"]) == ("layer_cam", "viral_pneumonia", "conv3")
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(heat["png"]))))
    film, engine = read_radiograph(FILM), Engine(load(KEYS[1]))
    _, output = predict(engine, film)
    expected = overlay_png(film.pixels, saliency(engine, film, output, "viral_pneumonia", "layer_cam").heat, 0.6)
    assert np.array_equal(drawn, np.asarray(Image.open(io.BytesIO(expected))))


def test_a_model_that_does_not_answer_a_finding_draws_no_map(ask: Ask) -> None:
    query = {"saliency": "grad_cam", "finding": "bacterial_pneumonia"}
    told = ask("POST", "/api/v1/predict", params=query, data=FILM).json()
    assert [one["heat_map"] is None for one in told["models"]] == [True, False]


def test_a_dicom_file_is_read(ask: Ask, data_dir: Path) -> None:
    film = (data_dir / "dicom" / "RG1_J2KI.dcm").read_bytes()
    told = ask("POST", "/api/v1/predict", params={"models": KEYS[0]}, data=film).json()
    valid("Answer", told, ask)
    assert told["film"]["format"] == "DICOM"
    assert told["gate"]["state"] != "synthetic"


def test_what_the_gate_refuses_is_answered_only_when_asked_to(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Gate(REFUSED, "this is a photograph of a cat.", ("It is in colour.",), {"chest": 0.01})
    monkeypatch.setattr("cxrmodels.service.judge", lambda film: verdict)
    told = ask("POST", "/api/v1/predict", data=FILM).json()
    valid("Answer", told, ask)
    assert told["gate"] == {
        "state": "refused",
        "passed": False,
        "reason": verdict.reason,
        "notes": list(verdict.notes),
        "measures": {"chest": 0.01},
    }
    assert told["models"] == []
    told = ask("POST", "/api/v1/predict", params={"gate": "report"}, data=FILM).json()
    assert told["gate"]["state"] == "refused"
    assert len(told["models"]) == len(KEYS)


def test_one_model_that_fails_does_not_silence_the_others(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(radiograph: object, key: str) -> np.ndarray:
        if key == KEYS[0]:
            raise ModelError("The lung network is missing.")
        return prepare(radiograph, key)  # type: ignore[arg-type]

    from cxrmodels.service import _prepare as prepare

    monkeypatch.setattr("cxrmodels.service._prepare", broken)
    told = ask("POST", "/api/v1/predict", data=FILM).json()
    valid("Answer", told, ask)
    assert told["errors"] == [{"model": KEYS[0], "detail": "The lung network is missing."}]
    assert [one["model"] for one in told["models"]] == [KEYS[1]]
    response = ask("POST", "/api/v1/predict", params={"models": KEYS[0]}, data=FILM)
    assert "No model could answer. The lung network is missing." in problem(response, 500)


def test_films_are_forgotten_with_their_answer(ask: Ask, service: Service) -> None:
    for _ in range(2):
        ask("POST", "/api/v1/predict", params={"saliency": "grad_cam"}, data=FILM).raise_for_status()
        assert (service.kept_bytes, service.waiting, service._answers, service._askers) == (0, 0, {}, {})


def test_large_parts_do_not_touch_the_disk(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*arguments: object, **options: object) -> None:
        raise AssertionError("a film was about to be written to disk")

    monkeypatch.setattr("tempfile.TemporaryFile", no_disk)
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=0)
    assert len(out.getvalue()) > 2 * 2**20
    response = ask("POST", "/api/v1/predict", params={"models": KEYS[0]}, files={"file": ("f.png", out.getvalue())})
    assert response.status_code == 200


def test_many_at_once_get_each_their_own_answer(ask: Ask) -> None:
    films = [phantom(finding, seed=5, size=96).png() for finding in ("normal", "covid19", "viral_pneumonia")]

    def send(film: bytes) -> bool:
        told = ask("POST", "/api/v1/predict", params={"models": KEYS[0]}, data=film).json()
        return bool(told["film"]["sha256"] == hashlib.sha256(film).hexdigest() and len(told["models"]) == 1)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(send, itertools.islice(itertools.cycle(films), 24)))


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"models": "nix"}, "models is 'nix'"),
        ({"models": ""}, "models is ''"),
        ({"models": f"{KEYS[0]},nix"}, "expected one of all, two_conv_cnn, multi_lung_cnn"),
        ({"saliency": "rainbow"}, "expected one of grad_cam"),
        ({"finding": "flu"}, "finding is 'flu'"),
        ({"gate": "off"}, "expected one of enforce, report"),
    ],
)
def test_a_question_that_makes_no_sense(query: dict[str, str], named: str, ask: Ask) -> None:
    assert named in problem(ask("POST", "/api/v1/predict", params=query, data=FILM), 400)


@pytest.mark.parametrize(
    ("options", "status", "named"),
    [
        ({"data": b""}, 422, "The file is empty"),
        ({"data": b"%PDF-1.7 and so on"}, 422, "a PDF"),
        ({"data": FILM[:500]}, 422, "cannot be decoded"),
        ({"json": {"file": "x"}}, 422, "unknown format"),
        ({"files": {"film": ("f.png", FILM)}}, 422, "no file named 'file'"),
        ({"files": {"file": (None, "not a file")}}, 422, "no file named 'file'"),
        ({"files": [("file", ("a.png", FILM)), ("file", ("b.png", FILM))]}, 400, "Too many files"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, 400, "multipart"),
    ],
)
def test_a_body_that_is_no_film(options: dict[str, Any], status: int, named: str, ask: Ask) -> None:
    assert named in problem(ask("POST", "/api/v1/predict", **options), status)


def test_a_body_that_is_too_large_is_not_even_received(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    for head in (f"Content-Length: {MAX_BYTES * 2}", "Transfer-Encoding: chunked"):
        with socket.create_connection((host, int(port)), WAIT) as line:
            line.sendall(f"POST /api/v1/predict HTTP/1.1\r\nHost: {host}:{port}\r\n{head}\r\n\r\n".encode())
            if "chunked" in head:
                # A refusal may close the line while more is being sent.
                try:
                    for _ in range(52):
                        line.sendall(b"100000\r\n" + b"x" * 2**20 + b"\r\n")
                except OSError:
                    pass
            assert b"413" in line.recv(100)


def test_unknown_addresses_and_methods(ask: Ask) -> None:
    assert "openapi.json" in problem(ask("GET", "/api/v1/nix"), 404)
    assert "no GET" in problem(ask("GET", "/api/v1/predict"), 405)


def test_a_failure_of_ours_is_told_as_one(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_model", lambda prediction: 1 / 0)
    assert "through no fault of yours" in problem(ask("POST", "/api/v1/predict", data=FILM), 500)


def test_when_too_many_wait_it_says_when_to_come_back(few_models: None) -> None:
    service, go_on = Service(most_waiting=1), threading.Event()
    service._worker.submit(go_on.wait, WAIT)
    other = read_radiograph(phantom("normal", seed=1, size=96).png())
    service.read(other, KEYS[0])
    with served(service, Access("", True)) as address:
        response = requests.post(f"{address}/api/v1/predict", data=FILM, timeout=WAIT)
        assert "busy: 1 films wait" in problem(response, 503)
        assert int(response.headers["Retry-After"]) >= 1
        go_on.set()
        service.read(other, KEYS[0]).result(WAIT)
        assert requests.post(f"{address}/api/v1/predict", data=FILM, timeout=WAIT).status_code == 200
    service.close()


def test_too_many_at_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MOST_AT_ONCE", 0)
    response = ask("POST", "/api/v1/predict", data=FILM)
    assert "films are being answered" in problem(response, 503)
    assert response.headers["Retry-After"] == "1"


# --- who may ask --------------------------------------------------------------------------------------------


def test_with_a_token_only_who_has_it(service: Service) -> None:
    with served(service, Access(TOKEN, False)) as address:
        for head in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}):
            response = requests.get(f"{address}/api/v1/models", headers=head, timeout=WAIT)
            assert TOKEN_VARIABLE in problem(response, 401)
            assert response.headers["WWW-Authenticate"] == "Bearer"
        for path in ("api/v1/models", "api/v1/openapi.json", "metrics"):
            assert requests.get(f"{address}/{path}", timeout=WAIT).status_code == 401
            right = requests.get(f"{address}/{path}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=WAIT)
            assert right.status_code == 200
        assert requests.post(f"{address}/api/v1/predict", data=FILM, timeout=WAIT).status_code == 401
        # What looks after the server has no token.
        assert requests.get(f"{address}/healthz", timeout=WAIT).json()["status"] == "ok"


def test_reachable_from_elsewhere_and_without_token_it_is_off(service: Service) -> None:
    with served(service, Access("", False)) as address:
        for path in ("api/v1/models", "api/v1/openapi.json", "metrics"):
            assert "The API is off" in problem(requests.get(f"{address}/{path}", timeout=WAIT), 403)
        assert "The API is off" in problem(requests.post(f"{address}/api/v1/predict", data=FILM, timeout=WAIT), 403)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "10.0.0.1:8501", "", "[::2]:80", "127.0.0.1.nip.io"]
)
def test_without_a_token_foreign_names_are_refused(host: str, ask: Ask) -> None:
    assert "localhost" in problem(ask("GET", "/api/v1/models", headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8501", "127.0.0.1:1", "[::1]:8501", "LOCALHOST"])
def test_without_a_token_this_machines_names_are_answered(host: str, ask: Ask) -> None:
    assert ask("GET", "/api/v1/models", headers={"Host": host}).status_code == 200


def test_who_asks_too_often_is_told_when_to_come_back(service: Service) -> None:
    with served(service, Access("", True, 3)) as address:
        statuses = [requests.get(f"{address}/api/v1/models", timeout=WAIT) for _ in range(5)]
        assert [one.status_code for one in statuses] == [200, 200, 200, 429, 429]
        assert "More than 3 requests in a minute" in problem(statuses[-1], 429)
        assert 1 <= int(statuses[-1].headers["Retry-After"]) <= 20
        assert requests.get(f"{address}/healthz", timeout=WAIT).status_code == 200


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True)]
    + [
        (host, False) for host in ("", "0.0.0.0", "::", "192.168.1.5", "example.org", "unix:///run/x", "localhost.evil")
    ],
)
def test_what_can_be_reached_from_elsewhere(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(RATE_VARIABLE, raising=False)
    assert access_for("127.0.0.1") == Access("", True, 600)
    assert access_for("").off
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setenv(RATE_VARIABLE, "30")
    assert access_for("") == Access(TOKEN, False, 30)
    assert not access_for("").off
    assert access_for("", 7).per_minute == 7
    for name, value in ((TOKEN_VARIABLE, "short"), (TOKEN_VARIABLE, "twenty letters, spaces"), (RATE_VARIABLE, "fast")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(AccessError, match=name):
                access_for("127.0.0.1")
    with pytest.raises(AccessError, match="at least one request"):
        access_for("127.0.0.1", 0)


def test_the_command_does_not_serve_everybody_without_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert TOKEN_VARIABLE in capsys.readouterr().err
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, host, port, **options: ran.append((host, port)))
    assert main(["serve", "--port", "8777"]) == 0
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert main(["serve", "--host", "0.0.0.0"]) == 0
    assert ran == [("127.0.0.1", 8777), ("0.0.0.0", 8502)]


# --- the rest -----------------------------------------------------------------------------------------------


def test_models(ask: Ask) -> None:
    told = ask("GET", "/api/v1/models").json()
    valid("Models", told, ask)
    assert [one["model"] for one in told["models"]] == list(KEYS)
    for one in told["models"]:
        card = load(one["model"]).card
        assert (one["weights_sha256"], one["parameters"]) == (card.weights_sha256, card.parameters)


def test_metrics_are_read_by_prometheus_own_parser(ask: Ask) -> None:
    def read() -> dict[tuple[str, str, str], float]:
        text = ask("GET", "/metrics").text
        assert text.startswith(f"# {NOTICE}")
        return {
            (sample.name, sample.labels.get("route", ""), sample.labels.get("status", "")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    counted = ("cxrmodels_requests_total", "/v1/predict", "422")
    before = read()
    ask("POST", "/api/v1/predict", data=b"nothing")
    after = read()
    assert after[counted] == before.get(counted, 0) + 1
    assert after["cxrmodels_models", "", ""] == len(KEYS)
    assert after["cxrmodels_kept_bytes", "", ""] == 0
    assert after["cxrmodels_waiting", "", ""] == 0
    assert after["process_resident_memory_bytes", "", ""] > 50 * 2**20


def test_health_without_any_model(few_models: None, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "available", tuple)
    response = ask("GET", "/healthz")
    assert (response.status_code, response.json()["status"]) == (503, "no models")
    valid("Health", response.json(), ask)
