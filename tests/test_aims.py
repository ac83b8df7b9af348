"""What each model was to reach: said on its card, with what was tried where it does not."""

from __future__ import annotations

import pytest

from cxrmodels.evaluation.aims import AIMS, outcomes
from cxrmodels.zoo import LUNGS, SPECS, read_card


@pytest.mark.parametrize("key", AIMS)
def test_card_says_what_was_aimed_at(key: str) -> None:
    """Every aim has a figure on the card it speaks of; one that is not reached says what was tried."""
    card = read_card(key)
    assert [aim["what"] for aim in card.aims] == [aim.what for aim in AIMS[key]]
    groups = {group["name"]: group["metrics"] for group in [*card.metrics, *card.left_out]}
    for told, aim in zip(card.aims, AIMS[key], strict=True):
        figure = groups[aim.group][aim.metric]
        assert (told["value"], told["low"], told["high"]) == (figure["value"], figure["low"], figure["high"])
        assert told["reached"] == (figure["value"] >= told["least"])
        assert told["reached"] or told["tried"], f"{key} does not say what was tried for {aim.what}"


def test_every_aim_is_of_a_model() -> None:
    assert set(AIMS) <= {*SPECS, LUNGS.key}


def test_an_aim_whose_figure_is_not_there_is_not_told() -> None:
    assert outcomes("two_conv_cnn", []) == ()
    assert outcomes("no_such_model", []) == ()
    only = [{"name": "test films of seen sources", "metrics": {"accuracy": {"value": 0.94, "low": 0.9, "high": 0.96}}}]
    (told,) = outcomes("two_conv_cnn", only)
    assert not told["reached"]
    assert told["least"] == 0.95
