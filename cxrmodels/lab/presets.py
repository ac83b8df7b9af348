"""Runs that start with one click, each with a sentence about what it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cxrmodels.lab.config import ManifestData, PhantomData, RunConfig
from cxrmodels.phantom import FINDINGS

_TWO = ("normal", "covid19")


@dataclass(frozen=True, slots=True)
class Preset:
    """A configuration to start from.

    Attributes:
        title: name shown.
        shows: what there is to see, in a sentence or two.
        config: the run, on phantoms: it works on any machine.
        films: the same run on real films of a manifest; None where phantoms are the point.
    """

    title: str
    shows: str
    config: RunConfig
    films: RunConfig | None


def _paper(title: str, shows: str, config: RunConfig, per_class: int) -> Preset:
    return Preset(
        title, shows, config, replace(config, data=ManifestData(findings=config.classes, per_class=per_class))
    )


PRESETS: dict[str, Preset] = {
    "phantoms": Preset(
        "Quick start on synthetic films",
        "A small CNN learns to tell four findings apart within a minute: watch both curves, then the heat maps move "
        "onto the lungs.",
        RunConfig(),
        None,
    ),
    "papers_25_25": _paper(
        "25 + 25 films, 25 epochs",
        "The set-up of the 25 + 25-film papers (which had a VGG16) with a small CNN: ten validation films, so one film "
        "is ten points of accuracy, and the figure jumps from seed to seed.",
        RunConfig(
            name="25 + 25 films",
            data=PhantomData(films=50, difficulty=0.5, noise=0.5, findings=_TWO),
            network="two_conv_cnn",
            batch_size=8,
            epochs=25,
            augmentation=0.5,
        ),
        25,
    ),
    "paper_130_18": _paper(
        "130 + 18 films, 100 epochs",
        "The two-layer CNN as its paper trained it: after 100 epochs on 130 films it knows them by heart, which the "
        "gap between the curves shows and 18 validation films can hide.",
        RunConfig(
            name="130 + 18 films",
            data=PhantomData(films=148, difficulty=0.5, noise=0.5, findings=_TWO),
            network="two_conv_cnn",
            epochs=100,
            augmentation=0.4,
            validation=0.125,
        ),
        74,
    ),
    "five_class_head": _paper(
        "Multi-lung CNN, RMSprop, 50 epochs",
        "The small CNN of the multi-lung-disease report (its text says five neurons, its scores are over four "
        "classes): which of the pneumonias does it mistake for which?",
        RunConfig(
            name="Multi-lung CNN",
            data=PhantomData(films=1800, difficulty=0.5, noise=0.5, findings=FINDINGS),
            network="multi_lung_cnn",
            input_size=150,
            optimizer="rmsprop",
            epochs=50,
            augmentation=0.3,
            validation=1 / 6,
        ),
        450,
    ),
}
"""Key -> preset; the first is the one to start with."""
