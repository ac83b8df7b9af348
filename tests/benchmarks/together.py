"""How often the networks together answer, and are right, by their stored predictions; each of them alone beside it."""

from __future__ import annotations

from collections.abc import Sequence

from cxrmodels.council import together
from cxrmodels.evaluation.calibration import NOT_SURE, decide
from cxrmodels.evaluation.predictions import read_predictions
from cxrmodels.zoo import PREDICTIONS_FILE, read_card, shipped, weights_folder

Calls = dict[str, dict[str, str]]
"""Film -> model -> `covid19`, `other` or `not sure`. A model that learnt from a film's source is not asked."""


def stored() -> tuple[Calls, dict[str, tuple[str, bool]]]:
    """What every shipped model called every held-out film; and each film's split, and whether it is of COVID-19."""
    calls: Calls = {}
    films: dict[str, tuple[str, bool]] = {}
    for key in shipped():
        card, kept = read_card(key), read_predictions(weights_folder() / key / PREDICTIONS_FILE)
        rows = zip(
            kept.image_ids, kept.splits, kept.labels, kept.sources, kept.probabilities(card.temperature), strict=True
        )
        for film, split, label, source, probabilities in rows:
            if split == "external" and source in card.training_sources:
                continue
            decision = decide(probabilities, kept.findings, card.decision_threshold)
            calls.setdefault(film, {})[key] = decision if decision in (NOT_SURE, "covid19") else "other"
            films[film] = (split, label == "covid19")
    return calls, films


def measured(answers: Sequence[tuple[str, bool]]) -> tuple[float, float]:
    """Shares of films that got an answer, and of these a right one, from answers and whether they are of COVID-19."""
    given = [(answer == "covid19") == covid for answer, covid in answers if answer != NOT_SURE]
    return len(given) / len(answers), sum(given) / max(1, len(given))


def answers_of(split: str) -> dict[str, list[tuple[str, bool]]]:
    """Together (under the empty key), and each model that was asked: answers on a split's films, and what is true."""
    calls, films = stored()
    of_split = [film for film, (its, _) in films.items() if its == split]
    found = {"": [(together(list(calls[film].values())), films[film][1]) for film in of_split]}
    for key in shipped():
        own = [(calls[film][key], films[film][1]) for film in of_split if key in calls[film]]
        found |= {key: own} if own else {}
    return found


def main() -> None:
    """`python -m tests.benchmarks.together`"""
    for split in ("val", "test", "external"):
        for key, answers in answers_of(split).items():
            answered, right = measured(answers)
            print(
                f"{split}, {key or 'together'}: {len(answers)} films, answered {100 * answered:.1f} %, of these right "
                f"{100 * right:.1f} %"
            )


if __name__ == "__main__":
    main()
