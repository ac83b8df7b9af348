"""How each shipped model is trained. A recipe and a seed reproduce it."""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    stages: tuple[Stage, ...]
    batch_size: int = 32
    optimizer: str = "adamw"
    weight_decay: float = 1e-3
    label_smoothing: float = 0.02


RECIPES: dict[str, Recipe] = {
    "two_conv_cnn": Recipe((Stage(64, 60, 1e-3, 0.4),), weight_decay=1e-2),
    "multi_lung_cnn": Recipe((Stage(150, 30, 1e-3, 0.3),), optimizer="rmsprop"),
    "mobilenet_v3": Recipe((Stage(128, 16, 1e-3, 0.3), Stage(224, 4, 3e-4, 0.3)), weight_decay=2e-2),
    "vgg16": Recipe((Stage(128, 14, 2e-4), Stage(224, 3, 5e-5)), batch_size=16),
    "resnet50": Recipe((Stage(128, 16, 1e-3), Stage(224, 3, 2e-4)), weight_decay=2e-2),
    "inception_v3": Recipe((Stage(128, 16, 1e-3), Stage(224, 3, 2e-4)), weight_decay=2e-2),
    "xception": Recipe((Stage(128, 16, 1e-3), Stage(224, 3, 2e-4)), weight_decay=2e-2),
    "darkcovidnet": Recipe((Stage(128, 8, 1e-3, 0.3), Stage(256, 3, 5e-4, 0.3)), weight_decay=1e-2),
    "lung_aware": Recipe((Stage(128, 16, 2e-3, 1.0), Stage(224, 6, 5e-4, 1.0)), weight_decay=2e-2),
}
"""Model key -> recipe."""
