"""What the README states is what the files say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrmodels.cli import main
from cxrmodels.datasets.manifest import NEVER
from cxrmodels.evaluation.metrics import SEEN, UNSEEN, summarise
from cxrmodels.evaluation.predictions import read_predictions
from cxrmodels.findings import TITLES
from cxrmodels.zoo import PREDICTIONS_FILE, read_card, shipped, weights_folder
from tests.benchmarks.together import answers_of, measured

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _said(summary: dict[str, Any]) -> str:
    return "{value:.2f} ({low:.2f} to {high:.2f})".format(**summary["metrics"]["auc_covid19_normal"])


def model_table() -> str:
    """The README's table of shipped models, from their cards and stored predictions."""
    rows = [
        "| model | answers | parameters | AUC, seen sources | AUC, its unseen sources | AUC, unseen by all |",
        "|---|---|---|---|---|---|",
    ]
    for key in shipped():
        card = read_card(key)
        figures = {summary["name"]: summary for summary in card.metrics}
        stored = read_predictions(weights_folder() / key / PREDICTIONS_FILE)
        nobodys = summarise("", False, stored.where(np.isin(stored.sources, NEVER)), card.temperature)
        assert nobodys is not None
        findings = ", ".join(TITLES[finding] for finding in card.findings)
        rows.append(
            f"| {card.title} `{key}` | {findings} | {card.parameters / 1e6:.2f} M | {_said(figures[SEEN])} | "
            f"{_said(figures[UNSEEN])} | {_said(nobodys.to_dict())} |"
        )
    return "\n".join(rows)


def test_the_readme_shows_the_cards_figures() -> None:
    assert model_table() in README, f"The README's table should be:\n\n{model_table()}"


@pytest.mark.parametrize(
    ("row", "split", "key", "digits"),
    [
        ("validation, seen sources", "val", "", 1),
        ("test, seen sources", "test", "", 1),
        ("external, unseen sources", "external", "", 0),
        ("for comparison, external: Multi-lung CNN alone", "external", "multi_lung_cnn", 0),
        ("Xception alone", "external", "xception", 0),
    ],
)
def test_the_docs_say_how_often_the_networks_together_are_right(row: str, split: str, key: str, digits: int) -> None:
    answered, right = measured(answers_of(split)[key])
    line = f"| {row} | {100 * answered:.0f} % | {100 * right:.{digits}f} % |"
    assert line in (ROOT / "docs" / "trust.md").read_text(encoding="utf-8"), line


def test_the_readme_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^python -m cxrmodels (\w+)", README, re.MULTILINE))))
def test_the_readmes_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert command in capsys.readouterr().out


if __name__ == "__main__":
    print(model_table())
