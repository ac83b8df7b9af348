"""Networks that were kept stand beside the shipped models: found, described, loaded, compared, and gone again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cxrmodels import models
from cxrmodels.engine import Engine
from cxrmodels.evaluation.board import Films, compare_on, contender
from cxrmodels.evaluation.metrics import SEEN
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.inference import network_input, predict
from cxrmodels.lab import store
from cxrmodels.lab.config import ConfigurableCnn, PhantomData, RunConfig
from cxrmodels.lab.data import load
from cxrmodels.lab.kept import HELD_OUT_FILE, KEPT_FILE, is_kept, keep, kept, key_of, let_go, note_held_out
from cxrmodels.lab.network import CHANNELS, build_network, feature_layer
from cxrmodels.lab.report import write_report
from cxrmodels.lab.store import MODEL_FILE, REPORT_FILE, Run, RunError, create
from cxrmodels.phantom import phantom
from cxrmodels.training.films import predict_logits
from cxrmodels.zoo import ModelError, shipped
from tests.test_board import evaluation, rows

CONFIG = RunConfig(
    name="Two blocks",
    data=PhantomData(films=40, findings=("normal", "covid19")),
    network=ConfigurableCnn(blocks=2, filters=4, dense=0),
    input_size=48,
)


def ended(config: RunConfig = CONFIG) -> Run:
    """A run as its worker leaves it, but for the training."""
    run, data = create(config), load(replace(config, name="films"))
    network = build_network(config)
    network.save(run.folder / MODEL_FILE)
    write_report(
        run,
        data,
        predict_logits(network, data.films[data.validation], CHANNELS),
        step=0,
        outcome="finished",
        extra={
            "data_sha256": data.digest(),
            "parameters": network.count_params(),
            "feature_layer": feature_layer(config),
            "device": "CPU",
            "backend": keras.backend.backend(),
        },
    )
    return run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(store.RUNS_VARIABLE, str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_looking_makes_no_folder(home: Path) -> None:
    assert kept() == ()
    assert not home.exists()


def test_only_kept_networks_stand_beside_the_shipped() -> None:
    run, other = ended(), ended()
    assert models.available() == shipped()
    keep(other)
    assert models.available() == (*shipped(), key_of(other))
    assert is_kept(other)
    assert not is_kept(run)
    let_go(other)
    assert models.available() == shipped()
    keep(other)
    other.delete()
    assert models.available() == shipped()


def test_it_answers_as_its_file_does() -> None:
    run = ended()
    keep(run)
    key = key_of(run)
    spec, card = models.spec(key), models.card(key)
    assert spec.title == card.title == "Two blocks (yours)"
    assert (spec.findings, spec.input_size, spec.channels) == (CONFIG.classes, 48, 1)
    assert card.training_sources == ("synthetic films",)
    film = phantom("covid19", seed=3, size=96).radiograph()
    engine = Engine(models.load(key))
    prediction, output = predict(engine, film)
    network = keras.saving.load_model(run.folder / MODEL_FILE)
    expected = np.asarray(network(network_input(film, spec)[None]))
    np.testing.assert_allclose(output.logits, expected, atol=1e-5)
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert np.abs(engine.gradient(output.features, 1)).max() > 0


def test_it_takes_part_in_the_comparison_by_the_films_it_read() -> None:
    run = ended()
    keep(run)
    # So far it answered no film that the others were asked about.
    board = compare_on([contender(key_of(run))], QUESTIONS["covid_normal"], Films())
    assert not board.standings
    assert "no films of unseen sources" in board.unable[0][1]
    note_held_out(run, evaluation(rows(), CONFIG.classes, seed=4))
    one = contender(key_of(run))
    (standing,) = compare_on([one], QUESTIONS["covid_normal"], Films()).standings
    assert standing.figures.films > 0
    assert not compare_on([one], QUESTIONS["covid_normal"], Films(SEEN)).standings
    let_go(run)
    assert not (run.folder / HELD_OUT_FILE).exists()


def test_an_unfinished_run_cannot_be_kept() -> None:
    with pytest.raises(RunError, match="no network yet"):
        keep(create(CONFIG))


def test_classes_that_nobody_else_knows_are_said() -> None:
    run = ended()
    config = json.loads((run.folder / "config.json").read_text())
    config["data"] = {"kind": "folder", "name": "abc", "classes": ["cats", "dogs"]}
    (run.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=r"cats, dogs.*normal, covid19"):
        keep(run)
    assert not is_kept(run)


@pytest.mark.parametrize("harm", ["model", "no model", "kept", "kept fields"])
def test_what_was_changed_is_not_used(harm: str) -> None:
    run = ended()
    keep(run)
    key, about = key_of(run), run.folder / KEPT_FILE
    if harm == "model":
        data = bytearray((run.folder / MODEL_FILE).read_bytes())
        data[len(data) // 2] ^= 1
        (run.folder / MODEL_FILE).write_bytes(data)
    elif harm == "no model":
        (run.folder / MODEL_FILE).unlink()
    elif harm == "kept":
        about.write_text("{")
    else:
        found = json.loads(about.read_text())
        del found["card"]["temperature"]
        about.write_text(json.dumps(found))
    with pytest.raises(ModelError):
        models.load(key)
    # The page leaves out what it cannot describe, and says of the others why they do not answer.
    assert (key in models.available()) == ("model" in harm)
    assert (run.folder / REPORT_FILE).is_file()


def test_an_unknown_key_is_said() -> None:
    for ask in (models.spec, models.card, models.load, models.predictions_file):
        with pytest.raises(ModelError, match="no run"):
            ask("run-20200101-000000-000000")
