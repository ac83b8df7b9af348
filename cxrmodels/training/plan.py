"""What is compared with a paper, fold by fold: whatever learns from labelled films and answers others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrmodels.datasets.manifest import Film
from cxrmodels.training.papers import Report, Trial
from cxrmodels.zoo import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """What is compared.

    Attributes:
        title: for readers.
        network: one of `networks.NETWORKS`.
        channels, preprocessing: as in a `ModelSpec`.
        departures: from the paper, in sentences.
    """

    title: str
    network: str
    channels: int = 3
    preprocessing: str = "unit"
    departures: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Side of the films its network takes last, pixels."""

    @property
    @abstractmethod
    def method(self) -> str:
        """How it learns, for readers."""

    @abstractmethod
    def learn(
        self, spec: ModelSpec, films: Sequence[Film], *, seed: int, work: Path, report: Report
    ) -> Iterator[tuple[Trial, str]]:
        """Learn once a fold, in the order of their names.

        Args:
            spec: see `spec`.
            films: of all folds, each with a finding of the spec.
            work: folder for what is unfinished.
            report: told of progress.

        Yields:
            A fold's films answered by what learnt from the others alone; what those others chose, for readers.

        Raises:
            ModelError: the weights to start from cannot be had.
            ValueError: see `fit.fit`.
        """

    @abstractmethod
    def forget(self, work: Path) -> None:
        """Delete what `learn` has left in `work`: its result is safe."""

    def spec(self, name: str, findings: tuple[str, ...]) -> ModelSpec:
        """The spec of the plan `name`'s networks."""
        return ModelSpec(
            key=name,
            title=self.title,
            network=self.network,
            findings=findings,
            input_size=self.size,
            channels=self.channels,
            preprocessing=self.preprocessing,
            feature_layer="",
            paper="",
            paper_figures="",
            departures=self.departures,
        )
