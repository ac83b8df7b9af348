"""What lies in the archives of the public sources, and which film in them is what."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType

from cxrmodels.datasets.sources import FetchError

MAX_MEMBERS = 200_000
MAX_MEMBER_BYTES = 256 * 1024**2
MAX_TOTAL_BYTES = 64 * 1024**3
"""The largest of these sources unpacks to a few GB and some thousand files: beyond this it is a zip bomb."""
MAX_RATIO = 200
"""Unpacked size over packed size of one member. Images hardly shrink; deflate can reach about 1000."""
_RATIO_MATTERS_FROM = 10 * 1024**2

_FRONTAL_VIEWS = {"PA": "PA", "AP": "AP", "AP SUPINE": "AP Supine", "AP ERECT": "AP Erect"}
_IMAGES = (".png", ".jpg", ".jpeg")
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One film as its source describes it. `member` names it inside `Upstream`; `stem` ends its image_id.

    The other fields are the manifest's columns of the same name.
    """

    member: str
    stem: str
    finding: str
    patient_id: str
    age_group: str
    split: str
    licence: str
    upstream_name: str
    view: str = ""
    fold: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The films of a source, how many others were left out and why, and which it names but does not hold."""

    entries: tuple[Entry, ...]
    left_out: Mapping[str, int]
    missing: tuple[tuple[str, str], ...] = ()


class Upstream:
    """The files in a source's archives, read in place: nothing is ever written under a name from an archive.

    Links are not followed, they are simply no files. Names are as in the archives, with `/` between folders.

    Raises:
        FetchError: a file is not what it should be, a name leads out of the archive, or it holds more files
            or bytes than any of these sources does.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._zips: list[zipfile.ZipFile] = []
        self._members: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo] | Path] = {}
        try:
            for path in paths:
                self._add(path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Upstream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archives."""
        for archive in self._zips:
            archive.close()

    def _add(self, path: Path) -> None:
        if path.suffix == ".csv":
            self._members[path.name] = path
            return
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise FetchError(
                f"{path} is not a zip archive that can be read ({error}). Expected the archive as its publisher "
                "serves it; delete the file and fetch again."
            ) from error
        self._zips.append(archive)
        infos = [info for info in archive.infolist() if not info.is_dir() and not _is_link(info)]
        _refuse_traps(path, infos)
        for info in infos:
            self._members.setdefault(info.filename, (archive, info))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._members))

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            OSError: it is broken (wrong CRC, cut off, encrypted or packed in an unknown way).
        """
        member = self._members[name]
        if isinstance(member, Path):
            return member.read_bytes()
        archive, info = member
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise OSError(f"broken in the archive: {error}") from error

    def find(self, file_name: str) -> str:
        """The shortest member path that ends in `file_name`.

        Raises:
            FetchError: there is none.
        """
        found = [name for name in self if PurePosixPath(name).name == file_name]
        if not found:
            raise FetchError(
                f"The archive holds no {file_name}, which says what its films are. Expected the archive as its "
                "publisher serves it; the layout may have changed since this program was written."
            )
        return min(found, key=len)

    def table(self, file_name: str) -> list[dict[str, str]]:
        """The rows of the CSV file `file_name`, cells stripped, missing cells empty.

        Raises:
            FetchError: there is no such file, or it is broken.
        """
        name = self.find(file_name)
        try:
            text = self.read(name).decode("utf-8-sig", errors="replace")
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        except (OSError, csv.Error) as error:
            raise FetchError(f"{name} cannot be read ({error}). Delete the archive, fetch again.") from error
        return [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in rows]


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _refuse_traps(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Refuse the whole archive for one bad member: nobody packs such a thing by accident."""

    def refuse(what: str) -> FetchError:
        return FetchError(f"{path} {what}; nothing was taken from it. Delete it and check where it is from.")

    if len(infos) > MAX_MEMBERS:
        raise refuse(f"holds {len(infos):,} files, expected at most {MAX_MEMBERS:,}")
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL_BYTES:
        raise refuse(f"unpacks to {total:,} bytes, expected at most {MAX_TOTAL_BYTES:,}")
    for info in infos:
        name = info.filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
            raise refuse(f"holds {info.filename!r}, a name that leads out of the archive")
        # zipfile stops at the declared size, so the declared size is the one to judge.
        ratio = info.file_size / max(info.compress_size, 1)
        if info.file_size > MAX_MEMBER_BYTES or (info.file_size > _RATIO_MATTERS_FROM and ratio > MAX_RATIO):
            raise refuse(f"holds {info.filename!r}, which unpacks to {info.file_size:,} bytes")


def _images(upstream: Upstream) -> Iterator[tuple[str, PurePosixPath]]:
    """Member name and path of every image; macOS resource forks (`__MACOSX`, `._x`) only look like images."""
    for name in upstream:
        path = PurePosixPath(name)
        if path.suffix.lower() in _IMAGES and "__MACOSX" not in path.parts and not path.name.startswith("."):
            yield name, path


def _age_group(years: float | None) -> str:
    """Under 18 is pediatric. An age that is not given counts as adult: these are adult clinics' sets."""
    return "pediatric" if years is not None and years < 18 else "adult"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _ieee8023(upstream: Upstream) -> Listing:
    by_name = {path.name: name for name, path in _images(upstream) if "images" in path.parts}
    entries: list[Entry] = []
    missing: list[tuple[str, str]] = []
    left_out: Counter[str] = Counter()
    for row in upstream.table("metadata.csv"):
        file_name = row.get("filename", "")
        finding = _ieee8023_finding(row.get("finding", ""))
        view = _FRONTAL_VIEWS.get(row.get("view", "").upper())
        if row.get("modality") != "X-ray":
            left_out["not a radiograph (CT)"] += 1
        elif view is None:
            left_out["not a frontal view"] += 1
        elif finding is None:
            left_out["no finding given"] += 1
        elif file_name not in by_name:
            missing.append((file_name, "listed in metadata.csv, but not in the archive"))
        else:
            entries.append(
                Entry(
                    member=by_name[file_name],
                    stem=PurePosixPath(file_name).stem,
                    finding=finding,
                    patient_id=row.get("patientid", ""),
                    age_group=_age_group(_number(row.get("age", ""))),
                    split="external",
                    licence=row.get("license", "") or "not stated",
                    upstream_name=file_name,
                    view=view,
                )
            )
    return Listing(tuple(entries), left_out, tuple(missing))


def _ieee8023_finding(text: str) -> str | None:
    """`Pneumonia/Viral/COVID-19` and the like -> this program's finding; None where upstream gives none."""
    parts = text.split("/")
    if text.lower() in ("", "todo", "unknown"):
        return None
    for word, finding in (
        ("COVID-19", "covid19"),
        ("Viral", "viral_pneumonia"),
        ("Bacterial", "bacterial_pneumonia"),
        ("Tuberculosis", "tuberculosis"),
        ("No Finding", "normal"),
    ):
        if word in parts:
            return finding
    return "pneumonia" if parts == ["Pneumonia"] else "other"


def _hannover(upstream: Upstream) -> Listing:
    by_stem = {path.stem: name for name, path in _images(upstream) if path.parent.name == "png"}
    entries: list[Entry] = []
    missing: list[tuple[str, str]] = []
    left_out: Counter[str] = Counter()
    for row in upstream.table("data.csv"):
        stem = row.get("image_id", "")
        view = _FRONTAL_VIEWS.get(row.get("projection", "").upper())
        if view is None:
            left_out["not a frontal view"] += 1
        elif stem not in by_stem:
            missing.append((stem, "listed in data.csv, but not in the archive"))
        else:
            entries.append(
                Entry(
                    member=by_stem[stem],
                    stem=stem,
                    finding="covid19",
                    patient_id=row.get("patient_id", ""),
                    age_group="adult",
                    split="external",
                    licence="CC BY 3.0",
                    upstream_name=PurePosixPath(by_stem[stem]).name,
                    view=view,
                )
            )
    return Listing(tuple(entries), left_out, tuple(missing))


_KERMANY_SICK = re.compile(r"person(\d+)_(bacteria|virus)_\d+(?:_\d+)?")
_KERMANY_NORMAL = re.compile(r"(NORMAL2-)?IM-(\d+)-\d+(?:-\d+)?")


def _kermany(upstream: Upstream) -> Listing:
    validation = {
        f"{kind}{number}" if kind == "P" else f"{kind}-{int(number):04d}"
        for kind, numbers in _KERMANY_VALIDATION.items()
        for number in numbers.split()
    }
    entries: dict[str, Entry] = {}
    left_out: Counter[str] = Counter()
    for name, path in _images(upstream):
        parts = path.parts
        test = "test" in parts
        if not test and "train" not in parts:
            left_out["neither in train nor in test"] += 1
            continue
        # Some copies of this archive hold the whole tree a second time, one folder further down.
        if path.stem in entries:
            left_out["the same name twice"] += 1
            continue
        if sick := _KERMANY_SICK.fullmatch(path.stem):
            # Upstream counts its test patients from 1 again: person1 in test is not person1 in train.
            patient = f"P{sick[1]}t" if test else f"P{sick[1]}"
            finding = "bacterial_pneumonia" if sick[2] == "bacteria" else "viral_pneumonia"
        elif healthy := _KERMANY_NORMAL.fullmatch(path.stem):
            patient = f"{'N2' if healthy[1] else 'N1'}-{healthy[2]}"
            finding = "normal"
        else:
            left_out["a name that says neither patient nor finding"] += 1
            continue
        entries[path.stem] = Entry(
            member=name,
            stem=path.stem,
            finding=finding,
            patient_id=patient,
            age_group="pediatric",
            split="test" if test else "val" if patient in validation else "train",
            licence="CC BY 4.0",
            upstream_name=path.name,
        )
    return Listing(tuple(entries.values()), left_out)


_NLM_NAME = re.compile(r"(?:CHN|MCU)CXR_(\d{4})_([01])")
_NLM_AGE = re.compile(r"(\d+)\s*-?\s*(y|month|mo|week|wk|day|d)", re.IGNORECASE)


def _tuberculosis(upstream: Upstream) -> Listing:
    readings = {
        PurePosixPath(name).stem: name
        for name in upstream
        if name.endswith(".txt") and PurePosixPath(name).parent.name == "ClinicalReadings"
    }
    entries: list[Entry] = []
    left_out: Counter[str] = Counter()
    for name, path in _images(upstream):
        if path.parent.name != "CXR_png":
            left_out["not in CXR_png (lung masks and others)"] += 1
        elif match := _NLM_NAME.fullmatch(path.stem):
            entries.append(
                Entry(
                    member=name,
                    stem=path.stem,
                    finding="tuberculosis" if match[2] == "1" else "normal",
                    patient_id=match[1],
                    age_group=_age_group(_reading_age(upstream, readings.get(path.stem))),
                    split="external",
                    licence="NLM; free with citation",
                    upstream_name=path.name,
                    view="PA",
                )
            )
        else:
            left_out["a name that says neither patient nor finding"] += 1
    return Listing(tuple(entries), left_out)


def _reading_age(upstream: Upstream, member: str | None) -> float | None:
    """Age in years out of a clinical reading (`male 45yrs`, `Patient's Age: 027Y`); None without one."""
    if member is None:
        return None
    try:
        match = _NLM_AGE.search(upstream.read(member).decode("utf-8", errors="replace"))
    except OSError:
        return None
    if match is None:
        return None
    return float(match[1]) if match[2].lower() == "y" else 0.0


_DARKCOVIDNET_FINDINGS = {"Covid-19": "covid19", "No_findings": "normal", "Pneumonia": "pneumonia"}
_SERIES_SUFFIX = re.compile(r"(?:-(?:day-?\d+|PA|AP|[a-z]\d?))+$")


def _darkcovidnet(upstream: Upstream) -> Listing:
    patients: dict[str, str] = {}
    if "ieee8023-metadata.csv" in upstream:
        patients = {
            PurePosixPath(row.get("filename", "")).stem: row.get("patientid", "")
            for row in upstream.table("ieee8023-metadata.csv")
        }
    entries: dict[str, Entry] = {}
    left_out: Counter[str] = Counter()
    for name, path in _images(upstream):
        folder = path.parent.name
        stem = f"{folder}-{path.stem}"
        if folder not in _DARKCOVIDNET_FINDINGS:
            left_out["not in a class folder"] += 1
        elif stem in entries:
            left_out["the same name twice"] += 1
        else:
            # NIH names are patient_number. A COVID-19 film that ieee8023 does not know goes by its name without
            # what tells the films of one series apart, so that a series stays in one fold.
            nih = folder != "Covid-19"
            patient = path.stem.split("_")[0] if nih else patients.get(path.stem, "")
            entries[stem] = Entry(
                member=name,
                stem=stem,
                finding=_DARKCOVIDNET_FINDINGS[folder],
                patient_id=patient or _SERIES_SUFFIX.sub("", path.stem),
                age_group="adult",
                split="benchmark",
                licence="NIH ChestX-ray14 / ieee8023",
                upstream_name=f"{folder}-{path.name}",
            )
    folds = _deal({entry.patient_id: entry.finding for entry in entries.values()})
    return Listing(tuple(replace(entry, fold=str(folds[entry.patient_id])) for entry in entries.values()), left_out)


def _deal(finding_of: Mapping[str, str]) -> dict[str, int]:
    """Patient -> fold, 0 to 4: the patients of each finding dealt round in an order fixed by a hash."""
    order = sorted(finding_of, key=lambda patient: (finding_of[patient], hashlib.sha256(patient.encode()).hexdigest()))
    return {patient: index % _FOLDS for index, patient in enumerate(order)}


_RADIOGRAPHY_NAME = re.compile(r"(COVID|Normal)-(\d+)")
# COVID-19 films before the first index overlap other sources; these 1,341 normal ones are kermany's children.
_RADIOGRAPHY_REPEATED = {"COVID": range(1, 1895), "Normal": range(63, 1404)}


def _radiography(upstream: Upstream) -> Listing:
    held_out = {
        f"{kind}-{number}": split
        for (kind, split), numbers in _RADIOGRAPHY_HELD_OUT.items()
        for number in numbers.split()
    }
    absent = {f"COVID-{number}" for number in _RADIOGRAPHY_ABSENT.split()}
    entries: dict[str, Entry] = {}
    left_out: Counter[str] = Counter()
    for name, path in _images(upstream):
        match = _RADIOGRAPHY_NAME.fullmatch(path.stem)
        if "masks" in path.parts:
            left_out["a lung mask"] += 1
        elif match is None:
            left_out["neither COVID-19 nor normal"] += 1
        elif int(match[2]) in _RADIOGRAPHY_REPEATED[match[1]] or path.stem in absent:
            left_out["repeats another source or another film"] += 1
        elif path.stem in entries:
            left_out["the same name twice"] += 1
        else:
            entries[path.stem] = Entry(
                member=name,
                stem=path.stem,
                finding="covid19" if match[1] == "COVID" else "normal",
                patient_id=path.stem,
                age_group="adult",
                split=held_out.get(path.stem, "train"),
                licence="COVID-19 Radiography Database (original authors)",
                upstream_name=path.name,
            )
    return Listing(tuple(entries.values()), left_out)


LAYOUTS: Mapping[str, Callable[[Upstream], Listing]] = MappingProxyType(
    {
        "ieee8023": _ieee8023,
        "hannover": _hannover,
        "kermany": _kermany,
        "shenzhen": _tuberculosis,
        "montgomery": _tuberculosis,
        "darkcovidnet": _darkcovidnet,
        "radiography": _radiography,
    }
)
"""Source key -> what lists its films. Each raises FetchError when the archive is not laid out as expected."""

# Which films the project's models were validated and tested on, by their number upstream: no rule gives them
# (they were drawn once), and another draw would have the models tested on films they were trained on. The
# absent ones are COVID-19 films the project dropped as overlapping other sets or as near-duplicates.
_RADIOGRAPHY_HELD_OUT = {
    ("COVID", "val"): """
1906 1917 1940 1949 1955 1958 1960 1965 1979 1988 2011 2023 2025 2027 2054 2062 2066 2074 2077 2099
2101 2107 2114 2115 2128 2138 2140 2147 2186 2197 2204 2217 2221 2242 2248 2257 2273 2278 2279 2282
2299 2316 2319 2320 2324 2329 2337 2357 2369 2395 2398 2399 2431 2432 2433 2445 2476 2478 2497 2507
2526 2528 2531 2534 2539 2540 2559 2598 2603 2608 2624 2630 2635 2637 2640 2652 2656 2674 2679 2712
2727 2729 2752 2777 2792 2816 2820 2849 2851 2853 2879 2884 2908 2913 2917 2934 2947 2949 2967 2976
3005 3020 3026 3033 3059 3074 3088 3089 3100 3116 3130 3157 3163 3220 3240 3256 3258 3259 3260 3264
3266 3278 3309 3314 3340 3381 3387 3417 3440 3450 3463 3495 3512 3529 3533 3567 3568 3569 3578 3586
3606 3608
""",
    ("COVID", "test"): """
1896 1897 1899 1901 1910 1920 1921 1924 1927 1931 1944 1946 1957 1963 1972 1974 1981 1983 1985 1989
1990 1993 1997 2003 2007 2010 2029 2033 2037 2042 2059 2076 2090 2091 2106 2120 2121 2125 2131 2132
2139 2144 2149 2150 2152 2161 2166 2170 2183 2184 2191 2195 2198 2199 2201 2211 2213 2216 2230 2234
2263 2267 2271 2274 2275 2281 2286 2291 2295 2302 2315 2323 2328 2333 2342 2349 2352 2359 2367 2373
2375 2377 2379 2382 2390 2396 2401 2429 2437 2438 2448 2453 2460 2463 2468 2475 2486 2487 2490 2498
2519 2527 2541 2552 2553 2557 2563 2565 2566 2569 2579 2587 2589 2594 2607 2615 2625 2633 2643 2653
2655 2659 2672 2693 2695 2709 2726 2730 2737 2740 2754 2759 2760 2764 2767 2771 2785 2787 2788 2798
2802 2821 2827 2832 2834 2835 2837 2839 2842 2855 2858 2859 2861 2870 2877 2881 2882 2888 2905 2909
2939 2941 2942 2944 2950 2951 2955 2960 2969 2987 2998 3003 3004 3013 3027 3029 3032 3045 3062 3076
3079 3094 3101 3105 3106 3115 3150 3152 3160 3169 3182 3187 3191 3196 3207 3208 3209 3221 3222 3223
3224 3227 3237 3244 3262 3274 3276 3290 3300 3303 3305 3313 3319 3327 3333 3335 3338 3341 3351 3353
3365 3366 3391 3393 3394 3397 3405 3406 3423 3431 3442 3449 3453 3469 3471 3473 3477 3485 3492 3501
3509 3511 3518 3521 3526 3528 3531 3537 3538 3545 3556 3557 3563 3565 3576 3589 3600 3604 3610 3612
3615
""",
    ("Normal", "val"): """
1458 1473 1491 1517 1528 1541 1544 1581 1591 1611 1652 1654 1737 1753 1765 1778 1810 1822 1834 1853
1854 1856 1884 1965 1980 1986 2041 2118 2220 2333 2351 2361 2438 2463 2489 2587 2616 2645 2657 2711
2803 2894 2912 2940 2988 3010 3030 3048 3074 3087 3104 3117 3206 3214 3216 3238 3244 3290 3293 3316
3346 3352 3360 3380 3384 3416 3436 3438 3469 3521 3552 3569 3577 3618 3621 3627 3641 3643 3710 3760
3765 3781 3792 3795 3811 3822 3841 3854 3888 3924 3989 3990 4013 4147 4183 4191 4222 4248 4251 4282
4323 4382 4456 4459 4466 4490 4497 4533 4562 4645 4671 4699 4761 4912 4929 4935 4963 4973 5023 5030
5057 5072 5189 5207 5220 5240 5283 5287 5311 5312 5330 5339 5381 5390 5424 5470 5479 5512 5519 5591
5615 5621 5622 5661 5668 5671 5728 5745 5754 5769 5790 5808 5815 5819 5879 5905 5970 6100 6113 6124
6142 6189 6207 6290 6291 6338 6352 6370 6384 6465 6466 6476 6506 6512 6517 6566 6653 6667 6803 6828
6861 6936 6987 7033 7048 7113 7184 7190 7198 7251 7253 7284 7306 7332 7483 7535 7541 7552 7565 7594
7622 7649 7656 7660 7661 7767 7770 7772 7796 7808 7822 7830 7870 7892 7911 7930 7948 7953 7969 7987
8019 8040 8065 8188 8196 8224 8226 8243 8274 8283 8290 8340 8370 8376 8400 8412 8494 8554 8557 8570
8602 8612 8631 8663 8668 8690 8707 8710 8715 8748 8834 8859 8902 8908 8916 8947 8955 9014 9018 9048
9094 9105 9109 9141 9154 9188 9203 9216 9277 9307 9327 9417 9464 9549 9622 9633 9646 9647 9672 9688
9692 9710 9745 9751 9755 9767 9791 9796 9811 9895 9897 9902 9916 9936 9944 9956 9983 10074 10123
10183
""",
    ("Normal", "test"): """
1404 1421 1425 1434 1439 1460 1472 1496 1501 1521 1524 1533 1549 1554 1575 1596 1602 1617 1723 1743
1746 1748 1754 1773 1785 1797 1850 1894 1904 1915 1917 1920 1941 1956 2006 2043 2047 2064 2087 2097
2113 2117 2124 2138 2183 2185 2221 2272 2273 2282 2294 2296 2298 2330 2337 2348 2349 2355 2400 2419
2420 2422 2451 2461 2510 2524 2529 2546 2569 2594 2608 2614 2641 2652 2661 2674 2675 2707 2708 2718
2729 2743 2772 2776 2787 2812 2829 2854 2868 2890 2922 2923 2946 2947 2950 2964 2967 3020 3023 3031
3061 3066 3078 3096 3147 3154 3157 3161 3177 3191 3204 3241 3269 3272 3322 3418 3483 3502 3508 3559
3578 3607 3667 3692 3734 3742 3780 3809 3817 3828 3851 3863 3882 3884 3887 3889 3896 3907 3928 3958
3974 3988 4021 4052 4058 4061 4096 4100 4117 4133 4140 4160 4164 4178 4190 4240 4252 4268 4276 4316
4327 4336 4343 4359 4361 4388 4402 4413 4414 4419 4425 4427 4443 4447 4496 4520 4530 4532 4552 4556
4590 4595 4612 4634 4638 4695 4711 4712 4714 4727 4728 4740 4775 4786 4789 4805 4814 4822 4825 4832
4838 4858 4906 4907 4908 4915 4931 4968 4969 5017 5064 5067 5073 5085 5136 5151 5159 5167 5196 5209
5215 5256 5273 5274 5302 5316 5320 5358 5368 5391 5394 5400 5404 5422 5426 5431 5451 5458 5462 5471
5496 5508 5582 5598 5614 5626 5628 5659 5665 5670 5688 5725 5729 5742 5747 5771 5779 5807 5876 5896
5907 5922 5923 5930 5932 5937 5946 5956 5981 6023 6030 6031 6035 6054 6073 6075 6136 6140 6164 6226
6230 6233 6236 6242 6243 6244 6250 6252 6266 6277 6293 6306 6314 6329 6393 6409 6422 6456 6461 6495
6498 6529 6537 6552 6579 6615 6619 6645 6664 6674 6685 6687 6690 6693 6695 6716 6720 6722 6750 6757
6800 6802 6841 6858 6864 6878 6888 6901 6912 6913 6951 6957 6974 6984 7034 7049 7059 7070 7085 7110
7117 7134 7142 7144 7150 7171 7199 7228 7233 7243 7250 7282 7286 7297 7366 7368 7378 7405 7416 7433
7434 7458 7459 7469 7493 7509 7518 7538 7545 7566 7579 7593 7599 7612 7641 7643 7648 7678 7689 7696
7727 7774 7780 7785 7800 7812 7814 7887 7890 7905 7908 7916 7933 7937 7939 7951 7959 8008 8075 8079
8103 8117 8131 8136 8137 8141 8184 8193 8230 8239 8245 8251 8291 8294 8295 8297 8303 8312 8341 8396
8404 8430 8438 8455 8481 8530 8598 8608 8611 8633 8670 8681 8763 8766 8773 8795 8807 8815 8827 8842
8853 8860 8864 8905 8913 8937 8970 8983 9003 9033 9058 9060 9081 9087 9099 9100 9242 9314 9334 9369
9386 9387 9390 9400 9408 9434 9491 9497 9529 9551 9559 9592 9609 9625 9684 9701 9721 9725 9753 9786
9790 9818 9829 9842 9853 9861 9924 9941 9948 9987 10011 10016 10042 10047 10061 10067 10153 10156
10173 10185
""",
}
_RADIOGRAPHY_ABSENT = """
1905 1932 1945 1948 1951 1952 1966 1969 1976 1980 2015 2016 2024 2026 2041 2050 2055 2061 2070 2082
2084 2085 2089 2095 2100 2110 2122 2133 2135 2145 2155 2177 2223 2225 2235 2236 2239 2247 2250 2256
2266 2276 2283 2293 2296 2306 2335 2336 2380 2383 2391 2406 2411 2430 2443 2444 2446 2447 2449 2456
2462 2481 2489 2494 2495 2503 2505 2506 2520 2529 2536 2537 2543 2555 2562 2570 2573 2596 2609 2612
2649 2670 2671 2682 2684 2691 2694 2702 2710 2715 2716 2717 2718 2719 2724 2742 2751 2766 2768 2779
2782 2783 2784 2791 2796 2800 2807 2808 2809 2810 2811 2812 2813 2833 2846 2848 2850 2860 2880 2885
2890 2894 2901 2915 2931 2932 2945 2946 2952 2964 2966 2974 2991 2992 3024 3035 3043 3050 3054 3055
3057 3071 3078 3090 3091 3102 3107 3109 3113 3114 3119 3134 3136 3153 3165 3168 3189 3190 3202 3232
3245 3247 3251 3252 3261 3280 3288 3293 3298 3299 3301 3307 3323 3330 3347 3348 3349 3350 3356 3358
3364 3367 3370 3410 3411 3416 3436 3447 3452 3455 3459 3498 3500 3515 3516 3523 3534 3536 3542 3551
3570 3581 3588 3592 3595 3596
"""
_KERMANY_VALIDATION = {
    "P": """
31 34 36 50 69 71 95 102 123 134 137 161 279 284 293 310 312 318 320 336 338 348 354 376 398 402 403
411 413 416 417 424 431 459 465 480 483 505 513 522 525 526 537 568 577 580 614 620 652 654 664 670
702 704 711 714 745 746 754 781 806 816 819 861 862 876 888 891 899 908 945 949 952 967 984 1018
1026 1035 1066 1083 1101 1114 1127 1145 1185 1188 1191 1198 1204 1216 1226 1233 1255 1272 1290 1295
1298 1300 1301 1311 1325 1327 1328 1342 1363 1388 1391 1397 1414 1416 1432 1444 1451 1463 1474 1483
1491 1502 1511 1513 1534 1554 1571 1588 1591 1596 1625 1663 1667 1697 1707 1712 1721 1731 1735 1737
1777 1787 1866 1875 1886 1941 1945
""",
    "N1": """
133 140 141 162 176 182 189 203 205 219 234 268 277 312 318 371 384 385 392 394 399 403 413 421 433
441 444 457 495 510 514 523 524 540 570 579 590 593 621 641 643 648 652 658 665 680 692 714 717 739
740
""",
    "N2": """
385 406 407 418 435 443 454 473 478 479 482 486 501 525 554 555 619 620 621 645 661 663 730 736 741
811 814 826 847 849 855 887 911 925 932 960 1037 1041 1044 1045 1051 1058 1086 1105 1147 1148 1174
1181 1188 1190 1192 1202 1209 1258 1305 1307 1308 1329 1332 1334 1342 1350 1356 1357 1412 1422
""",
}
