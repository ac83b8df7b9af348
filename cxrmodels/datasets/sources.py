"""The public sets of chest radiographs this program can fetch: where they are, and under which terms."""

from __future__ import annotations

from dataclasses import dataclass


class FetchError(RuntimeError):
    """A source could not be fetched; the message says what came, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a source as its publisher serves it.

    `sha256` (64 hex digits) and `size` (bytes) are as published by somebody else than us, None where nobody
    publishes them: then the first complete download is trusted and recorded, and later ones held against it.
    """

    url: str
    file_name: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One public set. No `archives` means that plain HTTP cannot reach it; `notes` then say what to do."""

    key: str
    title: str
    licence: str
    licence_url: str
    citation: str
    home: str
    archives: tuple[Archive, ...]
    notes: str

    @property
    def by_hand(self) -> bool:
        """Whether a person has to download the archive in a browser first."""
        return not self.archives

    def terms(self) -> str:
        """What a person has to read before accepting: title, licence, citation and caveats, as plain text."""
        return "\n".join(
            (
                self.title,
                f"  Licence:  {self.licence}",
                f"            {self.licence_url}",
                f"  Cite:     {self.citation}",
                f"  Home:     {self.home}",
                f"  Note:     {self.notes}",
            )
        )


_IEEE8023_COMMIT = "6a4242344473ccb5ed0d2148d8c7bfb1691e4ed8"
_IEEE8023 = "https://github.com/ieee8023/covid-chestxray-dataset"
_HANNOVER_COMMIT = "4025ea15f2987f03cf368a893f37121b7a43bd87"
_HANNOVER = "https://github.com/ml-workgroup/covid-19-image-repository"
_JAEGER = (
    "Jaeger S, Candemir S, Antani S, Wang YX, Lu PX, Thoma G. Two public chest X-ray datasets for "
    "computer-aided screening of pulmonary diseases. Quant Imaging Med Surg 2014;4(6):475-477."
)

# Where each fact comes from. GitHub serves its archives made on the fly and publishes no checksum for them;
# commits are pinned where one is known to hold all films. The Montgomery checksum is the one that torch-em
# (a public library with a loader for this set) holds the same address against. Nobody was found to publish
# one for the others.
SOURCES: dict[str, Source] = {
    source.key: source
    for source in (
        Source(
            key="ieee8023",
            title="COVID-19 image data collection (Cohen et al. 2020)",
            licence="Per image, see metadata.csv (often not stated); the collection CC BY-NC-SA 4.0",
            licence_url="https://github.com/ieee8023/covid-chestxray-dataset#license",
            citation=(
                "Cohen JP, Morrison P, Dao L, Roth K, Duong TQ, Ghassemi M. COVID-19 Image Data Collection: "
                "Prospective Predictions Are the Future. arXiv:2006.11988, 2020."
            ),
            home=_IEEE8023,
            archives=(Archive(f"{_IEEE8023}/archive/{_IEEE8023_COMMIT}.zip", "covid-chestxray-dataset.zip"),),
            notes=(
                "External test set: never train on it and test on it. All frontal films are taken, which is more "
                "than the 303 adult ones behind this project's own figures."
            ),
        ),
        Source(
            key="hannover",
            title="COVID-19 image repository (Hannover Medical School)",
            licence="CC BY 3.0",
            licence_url="https://creativecommons.org/licenses/by/3.0/",
            citation=(
                "Winther HB, Laser H, Gerbel S, et al. COVID-19 Image Repository. figshare 2020. "
                "doi:10.6084/m9.figshare.12275009"
            ),
            home=_HANNOVER,
            archives=(Archive(f"{_HANNOVER}/archive/{_HANNOVER_COMMIT}.zip", "covid-19-image-repository.zip"),),
            notes="External test set, COVID-19 only. No model of this project has seen it.",
        ),
        Source(
            key="kermany",
            title="Chest X-ray images of children (Kermany et al. 2018)",
            licence="CC BY 4.0",
            licence_url="https://creativecommons.org/licenses/by/4.0/",
            citation=(
                "Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images "
                "for Classification. Mendeley Data, V2, 2018. doi:10.17632/rscbjbr9sj.2"
            ),
            home="https://data.mendeley.com/datasets/rscbjbr9sj/2",
            archives=(
                Archive(
                    "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
                    "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
                    "ChestXRay2017.zip",
                ),
            ),
            notes=(
                "Children of one hospital: a network can tell age and scanner apart instead of disease. "
                "The upstream test set is kept; validation is this project's, by patient."
            ),
        ),
        Source(
            key="shenzhen",
            title="Shenzhen Hospital chest X-ray set (NLM, tuberculosis)",
            licence="NLM; free with citation",
            licence_url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
            citation=_JAEGER,
            home="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Shenzhen-Hospital-CXR-Set/index.html",
            archives=(
                Archive(
                    "https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip",
                    "ChinaSet_AllFiles.zip",
                ),
            ),
            notes="External test set: never train on it and test on it.",
        ),
        Source(
            key="montgomery",
            title="Montgomery County chest X-ray set (NLM, tuberculosis)",
            licence="NLM; free with citation",
            licence_url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
            citation=_JAEGER,
            home="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Montgomery-County-CXR-Set/MontgomerySet/index.html",
            archives=(
                Archive(
                    "https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip",
                    "NLM-MontgomeryCXRSet.zip",
                    sha256="54601e952315d8f67383e9202a6e145997ade429f54f7e0af44b4e158714f424",
                ),
            ),
            notes="External test set. No model of this project has seen it. Lung masks are not fetched.",
        ),
        Source(
            key="darkcovidnet",
            title="DarkCovidNet data set (Ozturk et al. 2020)",
            licence="NIH ChestX-ray14 / ieee8023",
            licence_url="https://github.com/muhammedtalo/COVID-19",
            citation=(
                "Ozturk T, Talo M, Yildirim EA, Baloglu UB, Yildirim O, Acharya UR. Automated detection of COVID-19 "
                "cases using deep neural networks with X-ray images. Comput Biol Med 2020;121:103792."
            ),
            home="https://github.com/muhammedtalo/COVID-19",
            archives=(
                Archive(
                    "https://github.com/muhammedtalo/COVID-19/archive/refs/heads/master.zip",
                    "COVID-19-master.zip",
                ),
                # Its COVID-19 films come from ieee8023, which knows whose they are; without the patients, films
                # of one person would land in several folds.
                Archive(
                    f"https://raw.githubusercontent.com/ieee8023/covid-chestxray-dataset/{_IEEE8023_COMMIT}/metadata.csv",
                    "ieee8023-metadata.csv",
                ),
            ),
            notes=(
                "Only for the 5-fold comparison with DarkCovidNet. Its COVID-19 films are also in ieee8023: never "
                "train on one and test on the other. Folds are dealt anew by patient, so they differ from those "
                "behind this project's stored figures: compare only networks trained on these folds."
            ),
        ),
        Source(
            key="radiography",
            title="COVID-19 Radiography Database (Chowdhury et al. 2020, Rahman et al. 2021)",
            licence="COVID-19 Radiography Database (original authors)",
            licence_url="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
            citation=(
                "Chowdhury MEH, et al. Can AI help in screening viral and COVID-19 pneumonia? IEEE Access "
                "2020;8:132665-132676. Rahman T, et al. Exploring the effect of image enhancement techniques on "
                "COVID-19 detection using chest X-ray images. Comput Biol Med 2021;132:104319."
            ),
            home="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
            archives=(),
            notes=(
                "Kaggle asks for an account, so download the zip in a browser from the address above, then run "
                "'python -m cxrmodels data fetch radiography --archive FILE'. Left out are COVID-19 films before "
                "index 1895 and normal ones 63 to 1403, which repeat other sources (the latter children). Films "
                "that this project validated and tested on keep that split; all others are training."
            ),
        ),
    )
}
