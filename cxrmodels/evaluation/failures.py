"""Where a model fails: groups of films it does worse on, and whether its answers give the source of a film away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from cxrmodels.evaluation.metrics import RESAMPLES, Estimate, auc, estimate, figures, recalls, shared_weights
from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.evaluation.questions import Answers
from cxrmodels.findings import TITLES

_ENOUGH, _ENOUGH_OF_CLASS = 20, 10
_HARDLY = 0.6
"""AUC below which two sources are hardly told apart, even if 0.5 lies outside the interval: see `source_check`."""
_SIZES = (256, 512, 1024)
"""Longer side of a film, in pixels: up to what the networks see, and then in doublings."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """How a model does on some of the films.

    Attributes:
        kind: what the films were divided by: "source", "age group", "view", "exposure" or "size".
        name: which of its groups this is, for readers.
        films, patients: how many there are, at least 1.
        accuracy: share of films called right, with its interval by bootstrap over patients, as all figures here.
        sensitivity, specificity: for questions with a positive class; None for others and where the group has no
            film of the class.
        worst: whether this is the group the model does worst on and more than chance may explain, see `subgroups`.
    """

    kind: str
    name: str
    films: int
    patients: int
    accuracy: Estimate
    sensitivity: Estimate | None
    specificity: Estimate | None
    worst: bool


def _named(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for value in np.unique(values):
        yield str(value) or "not stated", values == value


def _by_exposure(exposures: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if len(np.unique(exposures)) < 2:
        yield from ((f"all alike (mean grey {value:.2f})", exposures == value) for value in exposures[:1])
        return
    lower, upper = np.quantile(exposures, (1 / 3, 2 / 3))
    yield f"dark (mean grey up to {lower:.2f})", exposures <= lower
    yield f"middle (mean grey {lower:.2f} to {upper:.2f})", (exposures > lower) & (exposures <= upper)
    yield f"bright (mean grey above {upper:.2f})", exposures > upper


def _by_size(sides: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    names = [f"longer side up to {_SIZES[0]:,} pixels"]
    names += [f"longer side {low + 1:,} to {high:,} pixels" for low, high in pairwise(_SIZES)]
    names += [f"longer side above {_SIZES[-1]:,} pixels"]
    for number, name in enumerate(names):
        yield name, np.searchsorted(_SIZES, sides) == number


def _divisions(films: Evaluation) -> Iterator[tuple[str, str, np.ndarray]]:
    """Kind, name and films, bool (N,), of every group that has any."""
    kinds = {
        "source": _named(films.sources),
        "age group": _named(films.age_groups),
        "view": _named(films.views),
        "exposure": _by_exposure(films.exposures),
        "size": _by_size(np.maximum(films.widths, films.heights)),
    }
    for kind, groups in kinds.items():
        yield from ((kind, name, mask) for name, mask in groups if mask.any())


def _against_the_rest(
    group: Answers, rest: Answers, threshold: float, resamples: int, seed: int
) -> tuple[float, bool] | None:
    """Mean recall over a group's classes, and whether its interval lies below the value of the rest.

    None when the group has too few films.
    """
    classes, films = np.unique(group.y_true, return_counts=True)
    classes = classes[films >= _ENOUGH_OF_CLASS]
    if len(group) < _ENOUGH or not len(classes):
        return None
    weights = shared_weights(group.films.groups, resamples, seed)
    inside = estimate(recalls(weights, group.y_true, group.called(threshold), classes).mean(1))
    # NaN, and so no verdict, where the rest lacks one of the classes.
    outside = recalls(np.ones((1, len(rest))), rest.y_true, rest.called(threshold), classes).mean()
    assert inside is not None, "the classes are those of the group"
    return inside.value, bool(inside.high < outside)


def subgroups(answers: Answers, threshold: float = 0.5, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Subgroup]:
    """How a model does by source, age group, view, exposure (thirds of these films) and size.

    Groups of a kind are compared by their mean recall over the classes they hold 10 films or more of (an interval of
    fewer means little), so that a source with ill people alone is set against the ill elsewhere. `worst` marks the
    lowest of the groups with 20 films or more, if the upper end of its 95 % interval lies below the value of all
    films outside it over the same classes. Nothing is corrected for the number of groups looked at: a model that does
    equally well everywhere gets a group marked in about one of five kinds.

    Args:
        threshold: probability from which a film is called positive; without meaning for more than two classes.
    """
    found: list[Subgroup] = []
    standing: dict[str, list[tuple[float, bool, int]]] = {}
    for kind, name, mask in _divisions(answers.films):
        group = answers.where(mask)
        of_group = figures(group, threshold, resamples=resamples, seed=seed)
        accuracy = of_group.estimates["accuracy"]
        assert accuracy is not None, "a group holds at least one film"
        compared = _against_the_rest(group, answers.where(~mask), threshold, resamples, seed)
        if compared:
            standing.setdefault(kind, []).append((*compared, len(found)))
        found.append(
            Subgroup(
                kind=kind,
                name=name,
                films=len(group),
                patients=of_group.patients,
                accuracy=accuracy,
                sensitivity=of_group.estimates.get("sensitivity"),
                specificity=of_group.estimates.get("specificity"),
                worst=False,
            )
        )
    for _, below, position in map(min, standing.values()):
        found[position] = replace(found[position], worst=below)
    return found


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """How well a model's answers on films with one label tell which source a film is from.

    Attributes:
        label: the films' label.
        sources: the sources compared, each with 20 patients or more.
        films, patients: how many there are.
        auc: of telling the sources apart, 0.5 = cannot tell, 1 = gives away the scanner; with more than two sources
            the mean over each against the rest.
        sentence: the same in words.
    """

    label: str
    sources: tuple[str, ...]
    films: int
    patients: int
    auc: Estimate
    sentence: str


def source_check(evaluation: Evaluation, *, resamples: int = RESAMPLES) -> list[SourceCheck]:
    """Whether a model's logits give the source away among films with the same label.

    Among films with one label an honest classifier has little to tell hospitals apart by. A logistic regression on
    the standardised logits tries to, on patients it was not fitted to (five folds). It measures what the logits hold,
    not what the model used: age, severity or exposure may differ between sources too (see Zech et al. 2018 and
    DeGrave et al. 2021 on such shortcuts). The interval is over patients for the regressions as they were fitted;
    near 0.5 it is too narrow (it misses 0.5 in about one of five cases without any leak), so that the sentence makes
    nothing of an AUC below 0.6.

    Returns:
        One check for each label that at least two sources have with 20 patients or more, in the order of the labels.
    """
    found = []
    for label in np.unique(evaluation.labels):
        of_label = evaluation.where(evaluation.labels == label)
        sources = [
            source
            for source in np.unique(of_label.sources)
            if len(np.unique(of_label.groups[of_label.sources == source])) >= _ENOUGH
        ]
        if len(sources) > 1:
            films = of_label.where(np.isin(of_label.sources, sources))
            areas = _told_apart(films, resamples)
            assert areas is not None, "each source has films"
            found.append(
                SourceCheck(
                    label=str(label),
                    sources=tuple(map(str, sources)),
                    films=len(films),
                    patients=len(np.unique(films.groups)),
                    auc=areas,
                    sentence=_verdict(str(label), list(map(str, sources)), areas),
                )
            )
    return found


def _told_apart(films: Evaluation, resamples: int) -> Estimate | None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sources, y_true = np.unique(films.sources, return_inverse=True)
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression()),
        films.logits.astype(np.float64),
        y_true,
        groups=films.groups,
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
        method="predict_proba",
    )
    weights = shared_weights(films.groups, resamples, 0)
    # Of two sources the one is as well told from the other as the other from the one.
    asked = range(len(sources)) if len(sources) > 2 else [1]
    return estimate(np.mean([auc(weights, y_true == source, scores[:, source]) for source in asked], axis=0))


def _verdict(label: str, sources: list[str], found: Estimate) -> str:
    between = f"{', '.join(sources[:-1])} and {sources[-1]}"
    if found.low <= 0.5:
        said = f"do not tell {between} apart"
    elif found.value < _HARDLY:
        said = f"hardly tell {between} apart"
    else:
        said = f"tell {between} apart {'in part' if found.value < 0.8 else 'well'}"
    sign = ": a sign of a shortcut, not a proof" if found.value >= _HARDLY and found.low > 0.5 else ""
    return (
        f'On films labelled "{TITLES[label]}" the model\'s answers {said} (AUC {found.value:.2f}, 95 % '
        f"{found.low:.2f} to {found.high:.2f}; 0.5 = cannot tell, 1 = gives away the scanner){sign}."
    )
