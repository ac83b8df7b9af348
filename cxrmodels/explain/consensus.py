"""Several models' heat maps of one film for one finding: what they have in common, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrmodels.explain.faithfulness import FIFTH, ranks
from cxrmodels.explain.saliency import SaliencyMap
from cxrmodels.radiograph import resize

CHANCE = FIFTH
"""What the hottest fifths of two maps that know nothing have in common, on average."""

_SIDE = 48


@dataclass(frozen=True, slots=True)
class Consensus:
    """What N heat maps have in common.

    Attributes:
        models: whose maps they are.
        agreed: float32 (H, W), 0-1, the median of the maps: at least half of the models have this much evidence there.
        disputed: float32 (H, W), 0-1, the maps' standard deviation as a share of the greatest there could be (half of
            the models have all their evidence there, half none).
        overlap: float64 (N, N), what the hottest fifths of two maps have in common, 0-1; chance is `CHANCE`. An empty
            map has nothing in common with any, itself included.
    """

    models: tuple[str, ...]
    agreed: np.ndarray
    disputed: np.ndarray
    overlap: np.ndarray

    @property
    def mean_overlap(self) -> float:
        """Of all pairs of models."""
        return float(self.overlap[np.triu_indices(len(self.models), 1)].mean())


def consensus(maps: Sequence[SaliencyMap]) -> Consensus:
    """What several models' maps have in common.

    Raises:
        ValueError: fewer than two maps, or they are not of one film, finding, method and size.
    """
    kinds = {(one.film_sha256, one.finding, one.method, one.heat.shape) for one in maps}
    if len(maps) < 2 or len(kinds) > 1:
        raise ValueError(
            f"Expected two or more heat maps of one film, finding, method and size; got {len(maps)} of {len(kinds)} "
            "kinds."
        )
    heats = np.stack([one.heat for one in maps])
    hottest = np.stack([_hottest(one.heat).ravel() for one in maps]).astype(np.float64)
    common, sizes = hottest @ hottest.T, hottest.sum(1)
    total = (sizes[:, None] + sizes[None]) / 2
    overlap = np.divide(common, total, out=np.zeros_like(common), where=total > 0)
    # Their median, in a third of the time of numpy's own.
    middle = [(len(heats) - 1) // 2, len(heats) // 2]
    agreed = np.partition(heats, middle, axis=0)[middle].mean(axis=0, dtype=np.float32)
    disputed = (2 * heats.std(axis=0)).astype(np.float32)
    for array in (agreed, disputed, overlap):
        array.setflags(write=False)
    return Consensus(tuple(one.model for one in maps), agreed, disputed, overlap)


def _hottest(heat: np.ndarray) -> np.ndarray:
    """The hottest fifth of the film, bool (48, 48); what is not hot at all is no part of it."""
    hot: np.ndarray = (ranks(heat, _SIDE, 0) < FIFTH) & (resize(heat, _SIDE, _SIDE) > 0)
    return hot
