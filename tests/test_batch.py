"""Many films: what is in the table, what happens to bad films, and that a stopped run goes on where it was."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyarrow import parquet
from sklearn.metrics import accuracy_score, roc_auc_score

from cxrmodels import cli
from cxrmodels.batch.command import evaluate
from cxrmodels.batch.films import BatchError, Source, folder_sources, sources
from cxrmodels.batch.labels import folder_label, label_finder, read_labels
from cxrmodels.batch.reading import read_films
from cxrmodels.batch.table import Progress, run
from cxrmodels.engine import Engine
from cxrmodels.inference import inputs_of, network_input, predict
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.preprocessing import prepare
from cxrmodels.radiograph import MAX_BYTES, read_radiograph
from cxrmodels.zoo import SPECS, LoadedModel, load
from tests.bad_days import full_disk

ROOT = Path(__file__).resolve().parent.parent
KEYS = ("two_conv_cnn", "multi_lung_cnn")
Row = dict[str, str]


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    return {key: load(key) for key in KEYS}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve films, three of them in folders below, a file that is none and one that is broken."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "ward" / "b").mkdir(parents=True)
    for number in range(12):
        finding = tuple(PATTERNS)[number % len(PATTERNS)]
        home = folder / "ward" / "b" if number % 4 == 0 else folder
        (home / f"{number:02}-{finding}.png").write_bytes(phantom(finding, seed=number, size=96).png())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "list.txt").write_text("not a film")
    (folder / ".hidden.png").write_bytes(b"x")
    return folder


def rows_of(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_table_says_what_single_predictions_say(films: Path, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    reports: list[Progress] = []
    done = run(sources([films]), models, output, report=reports.append)
    assert done == reports[-1] == Progress(13, 13, 1, output.stat().st_size)
    assert [(one.done, one.total) for one in reports] == [(number, 13) for number in range(14)]
    rows = rows_of(output)
    assert [row["file"] for row in rows] == sorted(map(str, films.rglob("[!.]*.png")))
    for row in rows:
        if row["file"].endswith("broken.png"):
            assert "PNG" in row["error"]
            assert {row[f"{key}:decision"] for key in KEYS} == {row["doubt"], row["disagreement"]} == {""}
            continue
        assert row["error"] == ""
        covid, sure = [], []
        for key, loaded in models.items():
            radiograph = read_radiograph(Path(row["file"]).read_bytes(), row["file"])
            prediction, _ = predict(Engine(loaded), radiograph)
            said = [float(row[f"{key}:{finding}"]) for finding in SPECS[key].findings]
            assert said == pytest.approx(prediction.probabilities.tolist(), abs=1e-6)
            assert row[f"{key}:decision"] == prediction.decision
            assert f"{key}@{prediction.weights_sha256[:12]}" in row["models"].split()
            covid.append(float(row[f"{key}:covid19"]))
            sure.append((1 - max(said)) / (1 - 1 / len(said)))
        assert float(row["disagreement"]) == pytest.approx(abs(covid[0] - covid[1]), abs=2e-6)
        assert float(row["doubt"]) == pytest.approx(np.mean(sure), abs=2e-6)


def test_an_archive_gives_what_its_folder_gives(films: Path, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    archive = tmp_path / "films.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in films.rglob("*"):
            packed.write(path, path.relative_to(films))
        packed.writestr("__MACOSX/._a.png", "x")
    tables = []
    for name, source in (("a", films), ("b", archive)):
        run(sources([source]), models, tmp_path / f"{name}.csv")
        rows = rows_of(tmp_path / f"{name}.csv")
        tables.append({row.pop("file").removeprefix(f"{source}/"): row for row in rows})
    assert tables[0] == tables[1]
    (tmp_path / "bad.zip").write_bytes(b"PK no")
    with pytest.raises(BatchError, match=r"bad\.zip cannot be opened"):
        sources([tmp_path / "bad.zip"])


def test_parquet_holds_what_csv_holds(films: Path, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        run(sources([films]), models, tmp_path / f"out.{kind}")
    written, stored = rows_of(tmp_path / "out.csv"), parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.parquet"]
    for text, row in zip(written, stored, strict=True):
        assert list(text) == list(row)
        for name, value in row.items():
            assert text[name] == ("" if value is None else f"{value:.6f}" if isinstance(value, float) else value)
    with pytest.raises(BatchError, match="there already"):
        run(sources([films]), models, tmp_path / "out.parquet")


@pytest.mark.parametrize("kept", [0, 1, 40, 200, 900, -1, -30])
def test_a_cut_table_is_gone_on_with(films: Path, models: dict[str, LoadedModel], tmp_path: Path, kept: int) -> None:
    """Wherever a killed process stopped writing, nothing is lost, doubled or half there."""
    output = tmp_path / "out.csv"
    listed = sources([films])
    run(listed, models, output)
    whole = output.read_bytes()
    output.write_bytes(whole[:kept])
    there = max(whole[:kept].count(b"\n") - 1, 0)
    read: list[str] = []

    def noting(source: Source) -> Source:
        return Source(source.name, lambda: read.append(source.name) or source.read())  # type: ignore[func-returns-value]

    assert run(list(map(noting, listed)), models, output).failed == 1
    assert output.read_bytes() == whole
    assert len(read) == len(listed) - there


def test_another_table_is_left_alone(films: Path, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    output, listed = tmp_path / "out.csv", sources([films])
    for content in (b"my notes", b"a,b\n1,2\n", b"\xff\xfe\x00", b"file,label\r\n"):
        output.write_bytes(content)
        with pytest.raises(BatchError, match="left as it is"):
            run(listed, models, output)
        assert output.read_bytes() == content
    output.unlink()
    run(listed[:2], models, output)
    with pytest.raises(BatchError, match="other models"):
        run(listed, {KEYS[0]: models[KEYS[0]]}, output)
    with pytest.raises(BatchError, match=r"ends in \.csv or \.parquet"):
        run(listed, models, tmp_path / "out.xlsx")


def test_without_the_gate_the_rest_is_the_same(films: Path, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    gated, plain = tmp_path / "gated.csv", tmp_path / "plain.csv"
    run(sources([films]), models, gated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrmodels.batch.reading.judge", None)
        command = ["batch", str(films), "--output", str(plain), "--models", ",".join(models), "--no-gate"]
        assert cli.main(command) == (1 if any(row["error"] for row in rows_of(gated)) else 0)
    with_it, without = list(rows_of(gated)), list(rows_of(plain))
    assert {row.pop("gate") for row in without if not row["error"]} == {"not judged: not asked for"}
    for row in (*with_it, *without):
        row.pop("gate", None)
    assert with_it == without
    for output, other in ((gated, False), (plain, True)):
        before = output.read_bytes()
        with pytest.raises(BatchError, match="the gate, and is left as it is"):
            run(sources([films]), models, output, gated=other)
        assert output.read_bytes() == before


def test_names_may_be_anything(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    content = phantom("normal", seed=1, size=64).png()
    names = [b"=1+1.png", b"with, comma.png", b'"quoted".png', b"two\nlines.png", b"caf\xe9.png", "größe.png".encode()]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(content)
    films = folder_sources(folder)
    output = tmp_path / "out.csv"
    for count in (3, 6, 6):  # gone on with, and then nothing left to do
        run(films[:count], models, output)
        rows = rows_of(output)
        assert len(rows) == count
    assert not [row for row in rows if row["error"]]
    assert {row["file"] for row in rows} == {
        "'=1+1.png",
        "with, comma.png",
        '"quoted".png',
        "two\nlines.png",
        "caf\\xe9.png",
        "größe.png",
    }


def test_few_films_are_in_memory_at_a_time(models: dict[str, LoadedModel]) -> None:
    content, ahead, read = phantom("normal", seed=1, size=64).png(), [], 0

    def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield Source(f"{read}.png", lambda: content)

    answers = read_films(endless(), models, workers=2)
    for number in range(20):
        assert next(answers).file == f"{number + 1}.png"
        ahead.append(read - number - 1)
    answers.close()
    assert max(ahead) <= 8


def test_files_that_cannot_be_read_are_rows(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    with big.open("wb") as stream:
        stream.truncate(MAX_BYTES + 10)
    rows = list(read_films(sources([tmp_path / "missing.png", big]), models))
    assert "No such file" in rows[0].error
    assert "at most 50 MB" in rows[1].error
    big.unlink()
    with pytest.raises(BatchError, match="No film"):
        sources([tmp_path])
    with pytest.raises(BatchError, match="named twice"):
        sources(["a.png", "a.png"])


def test_labels_give_figures(
    films: Path, models: dict[str, LoadedModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    names = {path.name: path.stem.partition("-")[2] for path in films.rglob("[0-9]*.png")}
    labels.write_text("label,file\n" + "".join(f"{finding},{name}\n" for name, finding in names.items()))
    for kind in ("csv", "parquet"):
        output = tmp_path / f"out.{kind}"
        run(sources([films]), models, output, label_of=label_finder(read_labels(labels.read_bytes(), "labels.csv")))
        for key, summary in evaluate(output, models):
            findings = SPECS[key].findings
            rows = [row for row in rows_of(tmp_path / "out.csv") if row["label"] in findings]
            assert summary.films == len(rows) > 4
            called = [max(findings, key=lambda finding: float(row[f"{key}:{finding}"])) for row in rows]
            accuracy, area = summary.metrics["accuracy"], summary.metrics["auc_covid19"]
            assert accuracy is not None
            assert area is not None
            assert accuracy.value == pytest.approx(accuracy_score([row["label"] for row in rows], called), abs=1e-4)
            score = [float(row[f"{key}:covid19"]) for row in rows]
            assert area.value == pytest.approx(
                roc_auc_score([row["label"] == "covid19" for row in rows], score), abs=1e-4
            )
            assert accuracy.low <= accuracy.value <= accuracy.high
    status = cli.main(
        [
            "batch",
            str(films),
            "--output",
            str(tmp_path / "out.csv"),
            "--models",
            ",".join(KEYS),
            "--labels",
            str(labels),
        ]
    )
    out, err = capsys.readouterr()
    assert status == 1, "one film is broken"
    assert out.count("AUC of COVID-19 against the rest 0.") + out.count("rest 1.") == len(KEYS)
    assert "13 of 13 films were there already" in err


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("file,finding\na.png,normal\n", "no column label"),
        ("file,label\na.png,gout\n", "'gout' is no finding"),
        ("file,label\na.png,normal\na.png,covid19\n", "twice"),
    ],
)
def test_bad_labels_are_refused(text: str, fault: str) -> None:
    with pytest.raises(BatchError, match=fault):
        read_labels(text.encode(), "labels.csv")


def test_wrong_words_are_wrong_usage(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["batch", str(films), "--output", str(tmp_path / "out.txt"), "--models", KEYS[0]]) == 2
    assert cli.main(["batch", str(tmp_path), "--output", str(tmp_path / "out.csv")]) == 2
    assert "No film is there" in capsys.readouterr().err


def test_a_full_disk_loses_no_film(films: Path, models: dict[str, LoadedModel], tmp_path: Path) -> None:
    there, output = sources([films]), tmp_path / "out.csv"
    run(there, models, output)
    whole = output.read_bytes()
    output.unlink()
    with full_disk(len(whole) // 2), pytest.raises(OSError, match="too large"):
        run(there, models, output)
    assert whole.startswith(output.read_bytes())
    assert 0 < output.stat().st_size < len(whole)
    run(there, models, output)
    assert output.read_bytes() == whole


def test_a_killed_run_is_gone_on_with(tmp_path: Path) -> None:
    """By SIGKILL, in the midst of it; a Parquet file is only there when it is whole."""
    folder = tmp_path / "films"
    folder.mkdir()
    content = phantom("covid19", seed=2, size=900).png()
    for number in range(150):
        (folder / f"{number:03}.png").write_bytes(content)
    output = tmp_path / "out.parquet"
    command = [sys.executable, "-m", "cxrmodels", "batch", str(folder), "--output", str(output), "--models", KEYS[0]]
    journal = tmp_path / "out.parquet.unfinished.csv"
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while (not journal.exists() or journal.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    there = journal.read_bytes().count(b"\n") - 1
    assert 0 < there < 150
    assert not output.exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert f"{there} of 150 films were there already" in done.stderr
    rows = parquet.read_table(output).to_pylist()
    assert [Path(row["file"]).name for row in rows] == [f"{number:03}.png" for number in range(150)]
    assert len({row["two_conv_cnn:covid19"] for row in rows}) == 1
    assert not journal.exists()


def test_memory_does_not_grow_with_the_films(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    contents = [phantom("normal", seed=seed, size=300).png() for seed in range(4)]
    films = [Source(f"{number}.png", lambda number=number: contents[number % 4]) for number in range(400)]  # type: ignore[misc]
    process, held = psutil.Process(), {}

    def report(progress: Progress) -> None:
        if progress.done in (150, 400):
            held[progress.done] = process.memory_info().rss

    run(films, models, tmp_path / "out.csv", report=report)
    # All of them decoded would be 144 MB, and their outputs alone 30.
    assert held[400] - held[150] < 15 * 2**20


def test_labels_may_be_folders_names_and_usual_spellings() -> None:
    assert folder_label("COVID-19/a.png") == "covid19"
    assert folder_label("test/Viral Pneumonia/images/a.png") == "viral_pneumonia"
    assert folder_label("normal/covid/a.png") == "covid19", "the innermost"
    assert folder_label("normal.png") == folder_label("ward/a.png") == ""
    labels = read_labels(b"\xef\xbb\xbffile,label\nward/a.png,COVID-19\nb.png,Normal\nc.png,\n", "labels.csv")
    assert labels == {"ward/a.png": "covid19", "b.png": "normal", "c.png": ""}
    label_of = label_finder({"x/a.png": "covid19", "y/a.png": "normal", "b.png": "normal"})
    assert [label_of(name) for name in ("x/a.png", "films/a.png", "films/b.png", "c.png")] == [
        "covid19",
        "",
        "normal",
        "",
    ]


def test_a_broken_member_of_an_archive_is_a_row(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    archive = tmp_path / "films.zip"
    content = phantom("normal", seed=1, size=96).png()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", content)
        packed.writestr("b.png", content)
    data = bytearray(archive.read_bytes())
    at = data.index(b"a.png") + len("a.png")
    data[at : at + 40] = bytes(range(40))
    archive.write_bytes(data)
    rows = list(read_films(sources([archive]), models))
    assert [bool(row.error) for row in rows] == [True, False]
    assert "cannot be opened" in rows[0].error


def test_what_several_models_see_alike_is_made_once_and_is_what_each_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []

    def prepared(pixels: np.ndarray, how: str, size: int, *rest: Any) -> np.ndarray:
        made.append((how, size))
        return prepare(pixels, how, size, *rest)

    film = phantom("covid19", seed=3, size=300).radiograph()
    specs = list(SPECS.values())
    alone = [network_input(film, spec) for spec in specs]
    monkeypatch.setattr("cxrmodels.inference.prepare", prepared)
    together = inputs_of(film, specs)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(made) == len({(spec.preprocessing, spec.input_size, spec.channels) for spec in specs}) < len(specs)
