"""How alike two heat maps are: their structure (SSIM) and the order of their places (rank correlation)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxrmodels.radiograph import resize

_SIDE = 48
_SIGMA, _RADIUS = 1.5, 5  # Wang et al.: a Gaussian window of 11 x 11
_C1, _C2 = 0.01**2, 0.03**2  # for values 0-1


@dataclass(frozen=True, slots=True)
class Likeness:
    """SSIM, at most 1, and Spearman's rank correlation, -1 to 1; both 0 where one of the maps is empty."""

    ssim: float
    rank: float


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity (Wang et al. 2004, IEEE Transactions on Image Processing 13, eq. 13).

    Args:
        one, other: float (H, W), 0-1, at least 11 x 11.

    Raises:
        ValueError: they differ in shape or are smaller than the window.
    """
    # Imported here: it takes half a second, which the first paint of a page need not wait for.
    from scipy.ndimage import gaussian_filter

    if one.shape != other.shape or min(one.shape) <= 2 * _RADIUS:
        raise ValueError(f"Expected two maps of one size, at least 11 x 11; got {one.shape} and {other.shape}.")

    def mean(values: np.ndarray) -> np.ndarray:
        blurred: np.ndarray = gaussian_filter(values, _SIGMA, truncate=_RADIUS / _SIGMA)
        return blurred[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]

    one, other = one.astype(np.float64), other.astype(np.float64)
    mean_one, mean_other = mean(one), mean(other)
    spread = mean(one**2) - mean_one**2 + mean(other**2) - mean_other**2
    common = mean(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + _C1) * (2 * common + _C2)
    return float((above / ((mean_one**2 + mean_other**2 + _C1) * (spread + _C2))).mean())


def likeness(one: np.ndarray, other: np.ndarray) -> Likeness:
    """How alike two heat maps are, compared at 48 x 48 px as finer differences mean nothing to a reader.

    Args:
        one, other: float (H, W), 0-1, of whatever sizes.
    """
    from scipy.stats import spearmanr

    first, second = (resize(heat.astype(np.float32), _SIDE, _SIDE) for heat in (one, other))
    if not np.ptp(first) or not np.ptp(second):
        return Likeness(0.0, 0.0)
    return Likeness(ssim(first, second), float(spearmanr(first.ravel(), second.ravel()).statistic))
