"""From logits to probabilities that mean what they say, and from those to a decision."""

from __future__ import annotations

import numpy as np

NOT_SURE = "not sure"
ANSWERED_ACCURACY = 0.95
"""What the decision threshold aims at on validation films: so many of the answers given are right."""

_LEAST_TEMPERATURE, _MOST_TEMPERATURE, _MOST_OFFSET = 0.05, 20.0, 10.0
"""A network that is always right, or always wrong, on the films at hand would have them without end."""


def fit_temperature(logits: np.ndarray, y_true: np.ndarray) -> float:
    """The temperature that makes softmax(logits / T) most likely (Guo et al. 2017, arXiv 1706.04599).

    Args:
        logits: float (N, K).
        y_true: int (N,), 0 to K - 1.

    Returns:
        T, between 0.05 and 20.

    Raises:
        ValueError: no film.
    """
    if not len(y_true):
        raise ValueError("No film to fit a temperature on; it needs validation films the model can answer.")
    # Imported here: only whoever calibrates needs them, and they take half a second.
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(y_true))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, y_true].mean())

    found = minimize_scalar(loss, bounds=(np.log(_LEAST_TEMPERATURE), np.log(_MOST_TEMPERATURE)), method="bounded")
    return float(np.exp(found.x))


def fit_offsets(logits: np.ndarray, y_true: np.ndarray) -> np.ndarray:
    """What to add to each class's logit so that classes come as often as they do among films that nobody evened out.

    Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020, arXiv 1901.06852): offsets and a
    temperature are fitted together by maximum likelihood. The temperature is not given back: `fit_temperature` on the
    logits with their offsets finds it again.

    Args:
        logits: float (N, K).
        y_true: int (N,), 0 to K - 1.

    Returns:
        float64 (K,), the first one 0, the others between -10 and 10.

    Raises:
        ValueError: a class has no film.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    classes = logits.shape[1]
    lacking = sorted(set(range(classes)) - set(y_true.tolist()))
    if lacking:
        raise ValueError(
            f"No validation film of class {', '.join(map(str, lacking))}; an offset needs some of every class."
        )
    rows = np.arange(len(y_true))

    def loss(numbers: np.ndarray) -> float:
        scaled = (logits + np.append(0.0, numbers[1:])) / np.exp(numbers[0])
        return float(-log_softmax(scaled, axis=1)[rows, y_true].mean())

    limits = [(np.log(_LEAST_TEMPERATURE), np.log(_MOST_TEMPERATURE)), *[(-_MOST_OFFSET, _MOST_OFFSET)] * (classes - 1)]
    found = minimize(loss, np.zeros(classes), method="L-BFGS-B", bounds=limits)
    return np.append(0.0, found.x[1:])


def fit_decision_threshold(probabilities: np.ndarray, y_true: np.ndarray) -> float:
    """The probability below which the top finding is called "not sure".

    The least threshold, between 0.6 and 0.95, at which at least `ANSWERED_ACCURACY` of the films that are
    still answered are right.

    Args:
        probabilities: float (N, K), calibrated.
        y_true: int (N,).
    """
    top, right = probabilities.max(1), probabilities.argmax(1) == y_true
    for threshold in np.arange(0.60, 0.95, 0.01):
        answered = top >= threshold
        if answered.any() and right[answered].mean() >= ANSWERED_ACCURACY:
            return round(float(threshold), 2)
    return 0.95


def decide(probabilities: np.ndarray, findings: tuple[str, ...], threshold: float) -> str:
    """The likeliest finding, or `NOT_SURE` when its probability is below the threshold.

    Args:
        probabilities: float (K,).
    """
    top = int(probabilities.argmax())
    return findings[top] if probabilities[top] >= threshold else NOT_SURE


def operating_points(score: np.ndarray, positive: np.ndarray) -> dict[str, dict[str, float]]:
    """Thresholds on a score, with the sensitivity and specificity they gave on the films they were chosen on.

    Args:
        score: float (N,), higher means positive.
        positive: bool (N,), with both values.

    Returns:
        `balanced` (greatest Youden index), `sensitivity_95` (the highest threshold with sensitivity of at least
        0.95) and `specificity_95` (the lowest with specificity of at least 0.95).
    """
    from sklearn.metrics import roc_curve

    false_positive, sensitivity, thresholds = roc_curve(positive, score, drop_intermediate=False)
    specificity = 1 - false_positive
    points = {
        "balanced": int((sensitivity + specificity).argmax()),
        "sensitivity_95": int(np.flatnonzero(sensitivity >= 0.95)[0]),
        "specificity_95": int(np.flatnonzero(specificity >= 0.95)[-1]),
    }
    return {
        name: {
            "threshold": round(min(float(thresholds[i]), 1.0), 4),
            "sensitivity": round(float(sensitivity[i]), 4),
            "specificity": round(float(specificity[i]), 4),
        }
        for name, i in points.items()
    }
