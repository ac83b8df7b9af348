"""The last step of a recipe that draws findings evenly: the biases of the last layer, by how often findings come."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation.calibration import fit_offsets
from cxrmodels.training.films import answerable, predict_films
from cxrmodels.zoo import ModelSpec

_LAST = "logits"


def add_offsets(network: keras.Model, spec: ModelSpec, validation: Sequence[Film]) -> np.ndarray:
    """Add to the biases of a network's last layer what `calibration.fit_offsets` finds on validation films.

    The difference between two findings' logits changes by the same amount on every film: how well either is told from
    the other (the area under the ROC curve) stays as it was, only where the line between them lies moves.

    Args:
        network: its last layer changes in place.
        validation: films; those it cannot answer are left out.

    Returns:
        What was added, float64 (K,).

    Raises:
        ValueError: a finding has no validation film.
    """
    kept, labels = answerable(validation, spec.findings)
    logits = predict_films(network, spec, kept).logits.astype(np.float64)
    offsets = fit_offsets(logits, labels)
    bias = network.get_layer(_LAST).bias
    bias.assign(np.asarray(bias) + offsets)
    return offsets
