"""The command line keeps its contract: what is printed, in which columns, with which exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrmodels import NOTICE, __version__, cli
from cxrmodels.datasets.manifest import COLUMNS as MANIFEST_COLUMNS
from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.explain.saliency import METHODS
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.radiograph import RadiographError, read_radiograph, to_png
from cxrmodels.zoo import SPECS, WEIGHTS_FILE, load, read_card, shipped, weights_folder
from tests.broken_inputs import broken_inputs

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["file", "model", "finding", "probability", "decision", "gate", "error"]
# The other side reads these names: they are written out here, and not taken from the program.
KEYS = {
    "two_conv_cnn",
    "multi_lung_cnn",
    "mobilenet_v3",
    "vgg16",
    "resnet50",
    "inception_v3",
    "xception",
    "darkcovidnet",
    "lung_aware",
}
COMMANDS = (["models"], ["card"], ["predict"], ["batch"], ["explain"], ["evaluate"], ["benchmark"], ["train"], ["data"])
ACTIONS = (["data", "status"], ["data", "sources"], ["data", "fetch"], ["data", "build"], ["data", "sample"])
Row = dict[str, str]


@pytest.fixture(autouse=True, scope="module")
def _one_load_a_model() -> Iterator[None]:
    """Every command loads its models afresh; here the shipped ones are read from disk once."""
    held: dict[tuple[str, str], Any] = {}

    def once(key: str) -> Any:
        place = (str(weights_folder()), key)
        if place not in held:
            held[place] = load(key)
        return held[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrmodels.zoo.load", once)
        yield


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("films") / "film.png"
    path.write_bytes(phantom("covid19", seed=1, size=128).png())
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; gives its exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main(list(arguments))
        except SystemExit as leaving:  # argparse leaves on wrong usage and after -h
            status = leaving.code if isinstance(leaving.code, int) else 1
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def rows_of(text: str) -> list[Row]:
    limit = csv.field_size_limit(2**30)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
    finally:
        csv.field_size_limit(limit)
    assert reader.fieldnames == COLUMNS
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


def check_answers(rows: Sequence[Row], keys: Sequence[str]) -> None:
    """One film's rows: every model and finding once, probabilities that add up, one decision a model."""
    assert [(row["model"], row["finding"]) for row in rows] == [(k, f) for k in keys for f in SPECS[k].findings]
    for key in keys:
        own = [row for row in rows if row["model"] == key]
        values = [float(row["probability"]) for row in own]
        assert all(0 <= value <= 1 for value in values)
        assert sum(values) == pytest.approx(1, abs=1e-5)
        (decision,) = {row["decision"] for row in own}
        top = max(values)
        called = SPECS[key].findings[values.index(top)]
        assert decision == (called if top >= read_card(key).decision_threshold else NOT_SURE)
        ((gate, error),) = {(row["gate"], row["error"]) for row in own}
        assert gate.startswith(("pass", "refused: ", "not judged: "))
        assert error == ""


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_as_json(run: Any) -> None:
    status, out, _ = run("models", "--json")
    assert status == 0
    rows = json.loads(out)
    assert {row["key"] for row in rows} == KEYS == set(SPECS)
    assert len(rows) == len(KEYS)
    for row in rows:
        assert {
            "key",
            "title",
            "findings",
            "available",
            "weights_sha256",
            "parameters",
            "training_sources",
        } <= set(row)
        assert isinstance(row["title"], str)
        assert isinstance(row["findings"], list)
        assert row["findings"]
        assert all(isinstance(finding, str) for finding in row["findings"])
        assert row["available"] is (row["key"] in shipped())
        if row["available"]:
            card = read_card(row["key"])
            assert row["weights_sha256"] == card.weights_sha256
            assert len(row["weights_sha256"]) == 64
            assert isinstance(row["parameters"], int)
            assert row["parameters"] > 0
            assert row["training_sources"] == list(card.training_sources)
        else:
            assert row["weights_sha256"] is row["parameters"] is row["training_sources"] is None


def test_models_for_a_reader(run: Any) -> None:
    status, out, _ = run("models")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(SPECS)


def test_models_needs_no_tensorflow() -> None:
    # Listing what there is must take no seconds.
    probe = (
        "import sys; from cxrmodels.cli import main; status = main(['models', '--json']); "
        "heavy = {'tensorflow', 'keras', 'streamlit', 'torch', 'jax'} & set(sys.modules); "
        "print(sorted(heavy), file=sys.stderr); sys.exit(status)"
    )
    done = python("-c", probe)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    assert {row["key"] for row in json.loads(done.stdout)} == KEYS


def test_models_are_listed_where_none_is_shipped(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: str
) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    status, out, _ = run("models", "--json")
    assert status == 0
    assert not any(row["available"] for row in json.loads(out))
    status, out, err = run("predict", film)
    assert status != 0
    assert out == ""
    assert "weights" in err


@pytest.mark.parametrize("key", shipped())
def test_card(run: Any, key: str) -> None:
    status, out, _ = run("card", key)
    assert status == 0
    assert json.loads(out)["weights_sha256"] == read_card(key).weights_sha256


# --- predict ---------------------------------------------------------------------------------------------------------


def test_predict(run: Any, film: str) -> None:
    status, out, err = run("predict", film)
    assert status == 0
    rows = rows_of(out)
    assert {row["file"] for row in rows} == {film}
    check_answers(rows, shipped())
    assert NOTICE in err


def test_films_come_in_the_order_given_and_as_often(run: Any, tmp_path: Path, film: str) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(phantom("normal", seed=2, size=128).png())
    given = [film, str(other), film]
    status, out, _ = run("predict", *given)
    assert status == 0
    rows = rows_of(out)
    each = len(rows) // 3
    assert [row["file"] for row in rows[::each]] == given
    for at in range(3):
        check_answers(rows[at * each : (at + 1) * each], shipped())
    strip = [{k: v for k, v in row.items() if k != "file"} for row in rows]
    assert strip[:each] == strip[2 * each :]


@pytest.mark.parametrize("key", shipped())
def test_predict_by_one_model(run: Any, film: str, key: str) -> None:
    status, out, _ = run("predict", film, "--models", f" {key} ,")
    assert status == 0
    check_answers(rows_of(out), [key])


def test_all_is_every_shipped_model(run: Any, film: str) -> None:
    assert run("predict", film, "--models", "all")[:2] == run("predict", film)[:2]


def test_predict_into_a_file(run: Any, film: str, tmp_path: Path) -> None:
    there = tmp_path / "answers.csv"
    status, out, _ = run("predict", film, "--output", str(there))
    assert (status, out) == (0, "")
    assert there.read_bytes().decode() == run("predict", film)[1]


def test_an_output_that_cannot_be_written_is_said(run: Any, film: str, tmp_path: Path) -> None:
    status, _, err = run("predict", film, "--output", str(tmp_path / "no such folder" / "x.csv"))
    assert status != 0
    assert "x.csv" in err


def test_a_bad_file_gets_one_row_and_the_rest_go_on(run: Any, film: str, tmp_path: Path) -> None:
    bad = tmp_path / "text.png"
    bad.write_text("no picture")
    status, out, err = run("predict", str(bad), film, str(tmp_path / "missing.png"))
    assert status == 1
    rows = rows_of(out)
    first, *middle, last = rows
    check_answers(middle, shipped())
    for row, name in ((first, str(bad)), (last, str(tmp_path / "missing.png"))):
        assert row["file"] == name
        assert row["error"]
        assert not any(row[column] for column in COLUMNS[1:-1])
        assert row["error"] in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["predict"],
        ["nonsense"],
        ["predict", "FILM", "--models", "no_such_model"],
        ["predict", "FILM", "--models", "two_conv_cnn,no_such_model"],
        ["predict", "FILM", "--models", ","],
        ["predict", "FILM", "--models", ""],
        ["predict", "FILM", "--models"],
        ["predict", "FILM", "--no-such-option"],
        ["explain", "FILM", "--method", "no_such_method"],
        ["explain", "FILM", "--finding", "no_such_finding"],
        ["explain", "FILM", "--models", "no_such_model"],
        ["evaluate", "no_such_model"],
        ["benchmark", "no_such_model"],
        ["card", "no_such_model"],
        ["train", "no_such_model"],
        ["train"],
        ["data"],
        ["data", "fetch"],
    ],
    ids=" ".join,
)
def test_wrong_usage(
    run: Any, film: str, tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*(film if argument == "FILM" else argument for argument in arguments))
    assert status == 2
    assert out == ""
    assert err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["TF_SET_ONEDNN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE"])
def test_training_in_rougher_arithmetic_is_refused(run: Any, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "BF16")
    status, _, err = run("train", "two_conv_cnn")
    assert status == 2
    assert variable in err
    monkeypatch.setenv(variable, "strict")
    assert variable not in run("train", "no_such_model")[2]


def test_an_unknown_model_is_told_which_there_are(run: Any, film: str) -> None:
    _, _, err = run("predict", film, "--models", "no_such_model")
    assert all(word in err for word in ("no_such_model", *SPECS))


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>.png".replace("/", "\u2215"),
        "two\nlines.png",
        "carriage\rreturn.png",
        'quote",comma.png',
        "=HYPERLINK(1).png",
        "肺 🫁.png",
        "\u202egnp.png",
        "-dash.png",
        "film",
    ],
    ids=ascii,
)
def test_a_file_is_named_as_given(run: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(phantom("normal", seed=3, size=96).png())
    given = f"{tmp_path}/sub/../{name}"
    (tmp_path / "sub").mkdir()
    status, out, _ = run("predict", given)
    assert status == 0
    rows = rows_of(out)
    assert {row["file"] for row in rows} == {given}
    check_answers(rows, shipped())


@pytest.mark.parametrize(
    "name",
    [
        "../../no/such/film.png",
        "<script>alert(1)</script>.png",
        "two\nlines.png",
        "x" * 10_000_000,
        "nul\0inside.png",
        "carriage\rreturn.png",
        "\x1b[31mred",
        "",
        ".",
    ],
    ids=lambda name: ascii(name)[:40],
)
def test_a_file_that_is_not_there_gets_its_row(run: Any, film: str, name: str) -> None:
    status, out, err = run("predict", name, film)
    assert status == 1
    bad, *good = rows_of(out)
    assert bad["file"] == name
    assert bad["error"]
    check_answers(good, shipped())
    # A terminal obeys what it is sent: neither escape sequences nor megabytes of a name.
    assert "\x1b" not in err
    assert len(err) < 5000


def test_a_name_that_is_no_unicode_stops_nothing(run: Any, film: str, tmp_path: Path) -> None:
    # What Python makes of a file name in Latin-1; a file system hands such names out.
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xe4.png")
    try:
        Path(name).write_bytes(Path(film).read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    there = tmp_path / "answers.csv"
    run("predict", name, film, "--output", str(there))
    rows = rows_of(there.read_bytes().decode("utf-8", "surrogateescape"))
    check_answers([row for row in rows if row["file"] == film], shipped())


def test_a_folder_is_no_film(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("predict", str(tmp_path))
    assert status == 1
    (row,) = rows_of(out)
    assert row["file"] == str(tmp_path)
    assert "directory" in row["error"]


def test_every_broken_input_is_answered_or_refused(run: Any, tmp_path: Path) -> None:
    wrote: dict[str, bool] = {}
    for number, (_, data) in enumerate(broken_inputs()):
        path = tmp_path / f"{number:03}"
        path.write_bytes(data)
        try:
            read_radiograph(data)
        except RadiographError:
            wrote[str(path)] = False
        else:
            wrote[str(path)] = True
    assert set(wrote.values()) == {True, False}
    status, out, err = run("predict", *wrote)
    assert status == 1
    rows = rows_of(out)
    for name, readable in wrote.items():
        own = [row for row in rows if row["file"] == name]
        if readable:
            check_answers(own, shipped())
        else:
            (row,) = own
            assert row["error"]
    assert "Plantedname" not in out + err


def test_real_films_and_other_pictures(run: Any, data_dir: Path) -> None:
    found = sorted(
        str(path)
        for folder in ("negatives", "dicom", "originals")
        for path in (data_dir / folder).rglob("*")
        if path.is_file()
    )
    status, out, _ = run("predict", *found)
    assert status == 1  # index.csv is no film, and one DICOM file is cut short
    rows = rows_of(out)
    assert list(dict.fromkeys(row["file"] for row in rows)) == found
    refused = {Path(row["file"]).name for row in rows if row["error"]}
    assert {"index.csv", "emri_small_jpeg_2k_lossless_too_short.dcm"} <= refused
    assert "RG1_J2KI.dcm" not in refused
    for name in found:
        own = [row for row in rows if row["file"] == name]
        if len(own) == 1:
            assert own[0]["error"]
        else:
            check_answers(own, shipped())


@pytest.mark.parametrize("key", shipped())
def test_altered_weights_are_not_used(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: str, key: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights_folder(), folder)
    altered = bytearray((folder / key / WEIGHTS_FILE).read_bytes())
    altered[len(altered) // 2] ^= 1
    (folder / key / WEIGHTS_FILE).write_bytes(altered)
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(folder))
    status, out, err = run("predict", film, "--models", key)
    assert status == 1
    assert "probability" not in out or not rows_of(out)
    assert key in err
    assert "altered" in err
    assert "Restore" in err
    status, out, _ = run("models", "--json")
    assert status == 0
    assert [row["key"] for row in json.loads(out) if row["available"]] == [k for k in shipped() if k != key]


def test_as_a_program(film: str) -> None:
    done = python("-m", "cxrmodels", "predict", film, "no such film.png")
    assert done.returncode == 1
    rows = rows_of(done.stdout)
    check_answers(rows[:-1], shipped())
    assert rows[-1]["file"] == "no such film.png"
    assert "Traceback" not in done.stderr


def test_as_a_program_used_wrongly() -> None:
    done = python("-m", "cxrmodels")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage" in done.stderr


# --- explain ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_explain(run: Any, film: str, tmp_path: Path, method: str) -> None:
    status, out, err = run("explain", film, "--method", method, "--output", str(tmp_path / "maps"))
    assert status == 0
    assert NOTICE in err
    written = [Path(line) for line in out.splitlines()]
    assert sorted(written) == sorted((tmp_path / "maps").iterdir())
    assert len(written) == len(shipped())
    for key, path in zip(shipped(), written, strict=True):
        assert key in path.name
        assert method in path.name
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            # The film with its heat map at its own size at least, and room for what model, method and notice say.
            assert min(picture.size) > 128
            assert np.asarray(picture).ndim == 3


@pytest.mark.parametrize("method", ["occlusion", "random"])
def test_explain_by_a_slow_method_says_where_the_evidence_lies(
    run: Any, film: str, tmp_path: Path, method: str
) -> None:
    status, out, err = run(
        "explain",
        film,
        "--models",
        "two_conv_cnn",
        "--finding",
        "normal",
        "--method",
        method,
        "--output",
        str(tmp_path),
    )
    assert status == 0
    (path,) = (Path(line) for line in out.splitlines())
    assert path.name.endswith(f"-two_conv_cnn-normal-{method}.png")
    assert path.is_file()
    assert "two_conv_cnn: " in err
    assert "of the evidence lies inside the lungs" in err


def test_explain_of_a_finding_skips_who_does_not_answer_it(run: Any, film: str, tmp_path: Path) -> None:
    for finding in PATTERNS:
        folder = tmp_path / finding
        status, out, err = run("explain", film, "--finding", finding, "--output", str(folder))
        able = [key for key in shipped() if finding in SPECS[key].findings]
        assert [Path(line).name.split("-")[1:3] for line in out.splitlines()] == [[key, finding] for key in able]
        for key in shipped():
            assert (f"{key} does not answer {finding}" in err) == (key not in able)
        assert able or status != 0


def test_explain_stays_in_its_folder(run: Any, tmp_path: Path) -> None:
    film = tmp_path / "..\\..\\up.png"
    film.write_bytes(phantom("normal", seed=4, size=96).png())
    folder = tmp_path / "maps"
    status, out, _ = run("explain", str(film), "--output", str(folder))
    assert status == 0
    assert all(Path(line).resolve().parent == folder.resolve() for line in out.splitlines())
    assert {path.name for path in tmp_path.iterdir()} == {film.name, "maps"}


def test_explain_says_why_a_file_cannot_be_read(run: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    status, out, err = run("explain", str(bad), "--output", str(tmp_path / "maps"))
    assert (status, out) == (1, "")
    assert "expected PNG" in err


# --- evaluate, data, help --------------------------------------------------------------------------------------------


def test_evaluate_equals_the_cards(run: Any) -> None:
    status, out, _ = run("evaluate", "--json")
    assert status == 0
    rows = json.loads(out)
    for key in shipped():
        stated = [json.loads(json.dumps(summary)) for summary in read_card(key).metrics]
        own = [{name: value for name, value in row.items() if name != "model"} for row in rows if row["model"] == key]
        assert own == stated
    assert {row["model"] for row in rows} == set(shipped())


def test_evaluate_for_a_reader(run: Any) -> None:
    status, out, _ = run("evaluate", shipped()[0])
    assert status == 0
    assert "unseen" in out
    assert "balanced_accuracy" in out


def write_data(folder: Path) -> Path:
    """A small data folder with a manifest, of drawn films that do not say so."""
    columns = MANIFEST_COLUMNS
    folder.mkdir(parents=True)
    lines = [",".join(columns)]
    for number, finding in enumerate(PATTERNS):
        name = f"{finding}.png"
        (folder / name).write_bytes(to_png(phantom(finding, seed=number, size=96).pixels))
        cells = {"image_id": f"clinic/{number}", "path": name, "source": "clinic", "finding": finding}
        cells |= {"patient_id": str(number), "group_id": str(number), "split": "test", "sha256": f"{number:016x}"}
        lines.append(",".join(cells.get(column, "") for column in columns))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_data_status(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_data(tmp_path / "data")
    status, out, _ = run("data", "status", "--data", str(folder))
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["clinic", "test", finding, "1"] for finding in sorted(PATTERNS)
    ]
    monkeypatch.setenv("CXRMODELS_DATA", str(folder))
    assert run("data", "status")[:2] == (0, out)


def test_data_status_says_what_is_missing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    status, _, err = run("data", "status")
    assert status == 1
    assert "CXRMODELS_DATA" in err
    status, _, err = run("data", "status", "--data", str(tmp_path))
    assert status == 1
    assert "manifest.csv" in err


def test_data_sources(run: Any) -> None:
    status, out, _ = run("data", "sources")
    assert status == 0
    assert "http" in out


def test_nothing_is_fetched_before_the_licence_is_accepted(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxrmodels.datasets.sources import SOURCES

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network before the licence was accepted")

    monkeypatch.setattr("socket.socket.connect", forbidden)
    monkeypatch.setattr("socket.getaddrinfo", forbidden)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # a pipe is nobody who could accept
    downloaded_by_hand = tmp_path / "archive.zip"
    downloaded_by_hand.write_bytes(b"PK")
    for source in SOURCES.values():
        by_hand = ["--archive", str(downloaded_by_hand)] if source.by_hand else []
        status, out, err = run("data", "fetch", source.key, "--data", str(tmp_path / "data"), *by_hand)
        assert status == 1
        assert out == ""
        assert source.licence in err
        assert "--accept-licence" in err
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").rglob("*"))


def test_fetch_of_an_unknown_source_says_which_there_are(run: Any, tmp_path: Path) -> None:
    from cxrmodels.datasets.sources import SOURCES

    status, _, err = run("data", "fetch", "no_such_source", "--data", str(tmp_path))
    assert status != 0
    assert all(key in err for key in SOURCES)


@pytest.mark.parametrize("command", [[], *COMMANDS, *ACTIONS], ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(run: Any, command: list[str], flag: str) -> None:
    status, out, err = run(*command, flag)
    assert (status, err) == (0, "")
    assert "usage: python -m cxrmodels" in out
    if not command:
        assert NOTICE in " ".join(out.split())
        assert all(one in out for (one,) in COMMANDS)


def test_version(run: Any) -> None:
    assert run("--version")[:2] == (0, f"{__version__}\n")
