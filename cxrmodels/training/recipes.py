"""How each shipped model is trained. A recipe and a seed reproduce it."""

from __future__ import annotations

from dataclasses import dataclass, replace

FRESH, IMAGENET = "fresh", "imagenet"
"""`Recipe.init` of a network that starts from random weights, or from ImageNet's."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of a training.

    Attributes:
        size: side of the films, pixels.
        epochs: passes over as many films as there are.
        learning_rate: its peak.
        augmentation: strength, 0 (none) to 1 (as far as a chest allows); see `augment`.
    """

    size: int
    epochs: int
    learning_rate: float
    augmentation: float = 0.6


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one training.

    Attributes:
        stages: run in turn; weights carry over wherever their shapes agree, so small films can come first.
        batch_size: films a step.
        optimizer: `adamw` or `rmsprop`.
        weight_decay: decoupled, per step times learning rate (`adamw` only).
        label_smoothing: 0 to 1.
        precision: Keras' dtype policy while learning. `mixed_bfloat16` multiplies in bfloat16 and keeps the weights in
            float32 (Kalamkar et al. 2019, arXiv 1905.12322): on processors that have it up to twice as fast. What is
            shipped, measured and served is float32 always.
        augmentation: `expose` (moved, exposed otherwise, noisier), `restyle` (moved, and in its looks as if another
            hospital had made it) or `reframe` (that, and showing more of the body, or less).
        sources: sources of the `external` split that the model may learn from as well. It then gets no figure on them.
        even_sources: draw the sources of a finding more evenly than they come, so that finding and source go together
            less.
        init: what the first weights are: see `initial.first_weights`. Fresh ones unless given.
        normalised: whether a network with batch normalisation learns in the place of one without, which gets what was
            learnt at the end: see `networks.folded`. Only from fresh weights.
        offsets: whether the biases of the last layer are fitted on the validation films when all else is learnt: see
            `calibration.fit_offsets`. Training draws the findings equally often, and they do not come so.
    """

    stages: tuple[Stage, ...]
    batch_size: int = 32
    optimizer: str = "adamw"
    weight_decay: float = 1e-3
    label_smoothing: float = 0.02
    precision: str = "float32"
    augmentation: str = "expose"
    sources: tuple[str, ...] = ()
    even_sources: bool = False
    init: str = FRESH
    normalised: bool = False
    offsets: bool = False


_LONG = Recipe(
    (Stage(160, 40, 1e-3, 0.5),),
    batch_size=64,
    weight_decay=2e-2,
    precision="mixed_bfloat16",
    augmentation="restyle",
)
"""Minutes on a graphics card, hours on two cores."""

_REFRAMED = replace(_LONG, augmentation="reframe", even_sources=True)

RECIPES: dict[str, Recipe] = {
    "two_conv_cnn": Recipe((Stage(64, 60, 1e-3, 0.4),), weight_decay=1e-2),
    "multi_lung_cnn": Recipe((Stage(150, 30, 1e-3, 0.3),), optimizer="rmsprop"),
    "mobilenet_v3": replace(_REFRAMED, stages=(Stage(224, 60, 1e-3, 0.8),), offsets=True),
    "vgg16": replace(_REFRAMED, stages=(Stage(160, 50, 1e-3, 0.8),), normalised=True, offsets=True),
    "resnet50": _LONG,
    "inception_v3": replace(_REFRAMED, stages=(Stage(128, 40, 1e-3, 0.8),)),
    "xception": Recipe((Stage(72, 4, 1e-3, 0.3), Stage(128, 1, 4e-4, 0.3)), weight_decay=2e-2),
    "darkcovidnet": Recipe((Stage(128, 5, 1e-3, 0.3), Stage(256, 2, 5e-4, 0.3)), weight_decay=1e-2),
    "lung_aware": Recipe(
        (Stage(192, 16, 5e-4, 0.9), Stage(192, 2, 1.5e-4, 0.9)),
        batch_size=64,
        weight_decay=2e-2,
        label_smoothing=0.05,
        precision="mixed_bfloat16",
        augmentation="restyle",
        sources=("ieee8023", "shenzhen"),
        even_sources=True,
        init=IMAGENET,
        offsets=True,
    ),
}
"""Model key -> recipe."""
