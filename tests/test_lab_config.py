"""Configurations of the training lab: what is refused, and that a run comes back from text as it was."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from dataclasses import fields, replace
from typing import Any

import pytest

from cxrmodels.lab.config import (
    BREAKAGES,
    OPTIMIZERS,
    SCHEDULES,
    ConfigError,
    ConfigurableCnn,
    FolderData,
    ManifestData,
    PhantomData,
    RunConfig,
    cross_validation,
    differences,
    from_json,
    from_query,
)
from cxrmodels.lab.presets import PRESETS

TWO = ("normal", "covid19")

CONFIGS: dict[str, RunConfig] = {
    **{key: preset.config for key, preset in PRESETS.items()},
    **{f"{key} on films": preset.films for key, preset in PRESETS.items() if preset.films},
    "folder": RunConfig(name="Mine é", data=FolderData("0a1b", ("healthy", "ill — really"))),
    "all else": RunConfig(
        name="x" * 80,
        data=ManifestData(TWO, ("one source", "another"), 7),
        network=ConfigurableCnn(5, 8, False, 0.123456789, True, 0),
        input_size=32,
        optimizer="sgd",
        learning_rate=1 / 3,
        schedule="cosine",
        batch_size=1,
        epochs=500,
        augmentation=1,
        class_weights=True,
        label_noise=0.1,
        seed=2**31 - 1,
        mixed_precision=True,
        breakage="border only",
        validation=0.5,
        folds=10,
        fold=10,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_comes_back_from_text(name: str) -> None:
    config = CONFIGS[name]
    assert from_json(config.to_json()) == config
    text = config.to_query()
    assert re.fullmatch(r"[A-Za-z0-9_-]{50,900}", text), "needs no escaping in an address"
    assert from_query(text) == config
    assert hash(config) == hash(from_query(text))


def test_every_field_makes_a_difference_in_text() -> None:
    plain, other = RunConfig(), CONFIGS["all else"]
    for one in fields(RunConfig):
        if one.name in ("folds", "fold"):
            continue
        changed = replace(plain, **{one.name: getattr(other, one.name)})
        assert changed != plain
        assert from_query(changed.to_query()) == changed != from_query(plain.to_query())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": " "}, "name"),
    "name of control characters": ({"name": "a\nb"}, "name"),
    "name too long": ({"name": "x" * 81}, "name"),
    "other data": ({"data": "phantoms"}, "data"),
    "network unknown": ({"network": "vgg16"}, "network.*two_conv_cnn"),
    "network of many classes": ({"network": "two_conv_cnn"}, "2 classes.*4"),
    "network and small film": ({"network": "multi_lung_cnn", "input_size": 84}, "85 px"),
    "size small": ({"input_size": 31}, "input_size.*32 to 256"),
    "size large": ({"input_size": 257}, "input_size"),
    "size no whole number": ({"input_size": 64.0}, "input_size"),
    "optimizer": ({"optimizer": "lion"}, "optimizer.*adamw"),
    "rate zero": ({"learning_rate": 0}, "learning_rate"),
    "rate nan": ({"learning_rate": float("nan")}, "learning_rate"),
    "rate text": ({"learning_rate": "0.1"}, "learning_rate"),
    "schedule": ({"schedule": "linear"}, "schedule"),
    "batch": ({"batch_size": 0}, "batch_size"),
    "epochs": ({"epochs": 501}, "epochs"),
    "epochs true": ({"epochs": True}, "epochs"),
    "augmentation": ({"augmentation": 1.01}, "augmentation"),
    "weights": ({"class_weights": 1}, "class_weights"),
    "noise": ({"label_noise": -0.1}, "label_noise"),
    "seed": ({"seed": -1}, "seed"),
    "precision": ({"mixed_precision": None}, "mixed_precision"),
    "breakage": ({"breakage": "all"}, "breakage"),
    "validation": ({"validation": 0.6}, "validation"),
    "folds": ({"folds": 11}, "folds"),
    "fold": ({"folds": 3, "fold": 4}, "fold"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_field_is_refused(name: str) -> None:
    given, says = WRONG[name]
    with pytest.raises(ConfigError, match=says) as caught:
        RunConfig(**given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


PARTS: dict[str, tuple[type, dict[str, Any], str]] = {
    "films": (PhantomData, {"films": 3}, "films"),
    "difficulty": (PhantomData, {"difficulty": 2}, "difficulty"),
    "phantom noise": (PhantomData, {"noise": -1}, "noise"),
    "no such phantom": (PhantomData, {"findings": ("normal", "tuberculosis")}, "tuberculosis"),
    "one class": (PhantomData, {"findings": ("normal",)}, "2 to 20"),
    "twice": (PhantomData, {"findings": ("normal", "normal")}, "different"),
    "text for a list": (PhantomData, {"findings": "normal"}, "list"),
    "no such finding": (ManifestData, {"findings": ("normal", "gout")}, "gout"),
    "per class": (ManifestData, {"per_class": -1}, "per_class"),
    "leaves the folder": (FolderData, {"name": "../x", "classes": TWO}, "name"),
    "folder of one class": (FolderData, {"name": "x", "classes": ("a",)}, "classes"),
    "blocks": (ConfigurableCnn, {"blocks": 6}, "blocks"),
    "filters": (ConfigurableCnn, {"filters": 3}, "filters"),
    "too wide": (ConfigurableCnn, {"blocks": 5, "filters": 128}, "2048 filters.*1024"),
    "dropout": (ConfigurableCnn, {"dropout": 0.9}, "dropout"),
    "dense": (ConfigurableCnn, {"dense": -1}, "dense"),
}


@pytest.mark.parametrize("name", PARTS)
def test_wrong_part_is_refused(name: str) -> None:
    kind, given, says = PARTS[name]
    with pytest.raises(ConfigError, match=says):
        kind(**given)


def _packed(text: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(text)).decode().rstrip("=")


GOOD = RunConfig().to_query()
TEXTS = {
    "empty": "",
    "no base64": "&&&&",
    "cut short": GOOD[: len(GOOD) // 2],
    "changed": GOOD[:20] + ("A" if GOOD[20] != "A" else "B") + GOOD[21:],
    "long": "A" * 5000,
    "a bomb": _packed(b" " * 2_000_000),
    "no JSON": _packed(b"{"),
    "a list": _packed(b"[1]"),
    "unknown field": _packed(b'{"nmae": "x"}'),
    "unknown data": _packed(b'{"data": {"kind": "films"}}'),
    "data without kind": _packed(b'{"data": {}}'),
    "data with a strange field": _packed(b'{"data": {"kind": "phantoms", "count": 3}}'),
    "data that lacks a field": _packed(b'{"data": {"kind": "folder", "name": "x"}}'),
    "deep": _packed(b"[" * 20_000),
}


@pytest.mark.parametrize("name", TEXTS)
def test_broken_address_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        from_query(TEXTS[name])


def test_every_choice_is_possible() -> None:
    for optimizer in OPTIMIZERS:
        assert RunConfig(optimizer=optimizer).optimizer == optimizer
    for schedule in SCHEDULES:
        assert RunConfig(schedule=schedule).schedule == schedule
    for breakage in BREAKAGES:
        assert RunConfig(breakage=breakage).breakage == breakage


def test_missing_fields_have_their_default() -> None:
    assert from_json('{"epochs": 3}') == RunConfig(epochs=3)


def test_presets_are_the_papers() -> None:
    assert next(iter(PRESETS)) == "phantoms"
    shape = {key: (one.config.network, one.config.epochs, one.config.optimizer) for key, one in PRESETS.items()}
    assert shape["papers_25_25"] == ("two_conv_cnn", 25, "adam")
    assert shape["paper_130_18"] == ("two_conv_cnn", 100, "adam")
    assert shape["five_class_head"] == ("multi_lung_cnn", 50, "rmsprop")
    for preset in PRESETS.values():
        assert len(preset.shows) > 40
        assert isinstance(preset.config.data, PhantomData), "starts on any machine"
        if preset.films:
            assert preset.films.classes == preset.config.classes


def test_cross_validation_differs_in_fold_and_name_only() -> None:
    runs = cross_validation(RunConfig(name="y" * 80), 5)
    assert [run.fold for run in runs] == [1, 2, 3, 4, 5]
    assert len({run.name for run in runs}) == 5
    table = differences({str(run.fold): run for run in runs})
    assert table == {"fold": ("1", "2", "3", "4", "5")}
    with pytest.raises(ConfigError, match="folds"):
        cross_validation(RunConfig(), 1)


def test_differences_name_the_parts() -> None:
    data = PhantomData(films=10, findings=TWO)
    one = RunConfig(data=data)
    two = replace(one, network="two_conv_cnn", data=replace(data, films=20))
    table = differences({"one": one, "two": two})
    assert table["data.films"] == ("10", "20")
    assert table["network"] == ("configurable", "two_conv_cnn")
    assert table["network.blocks"] == ("3", "-")
    assert "data.findings" not in table
    assert differences({"one": one, "same": replace(one, name="other")}) == {}


@pytest.mark.parametrize(
    "module", ["config", "presets", "events", "history", "control", "store", "process", "signs", "pictures", "imports"]
)
def test_what_a_page_imports_is_light(module: str) -> None:
    code = f"import sys, json, cxrmodels.lab.{module}\n"
    code += "print(json.dumps([n for n in ('keras', 'tensorflow', 'sklearn') if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
