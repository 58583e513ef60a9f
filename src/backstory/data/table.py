"""CSV files: rows of numbers with a target column."""

from __future__ import annotations

import csv as reader
from pathlib import Path
from typing import Any

import numpy as np

from backstory.data.dataset import TensorDataset
from backstory.errors import DataError
from backstory.promotion import get_default_dtype

__all__ = ["Table", "csv"]


class Table(TensorDataset):
    """Features (samples, columns) and a target, with the names that the file gives them.

    ``classes`` are the target's words by label, if it was of words; ``None`` if it was of numbers.
    """

    def __init__(
        self, features: Any, target: Any, columns: list[str], target_name: str, classes: list[str] | None
    ) -> None:
        super().__init__(features, target)
        self.columns, self.target_name, self.classes = columns, target_name, classes


def csv(path: str | Path, target: str | int = -1, delimiter: str = ",", dtype: Any = None) -> Table:
    """Read a CSV file: every column but ``target`` (a name or number) is a feature, and all are numbers.

    A first row with a word where the row below has a number is taken as the names. Whole numbers in the
    target become labels (int64), others floats; words become labels in alphabetical order. Features are of
    ``dtype``, the default dtype unless told otherwise.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "iris.csv"
    ...     _ = file.write_text("length,width,kind\\n5.1,3.5,setosa\\n6.3,3.3,virginica\\n")
    ...     table = csv(file)
    >>> table.columns, table.classes, table[1]
    (['length', 'width'], ['setosa', 'virginica'], (tensor([6.3, 3.3]), tensor(1)))
    """
    file = Path(path)
    lines, rows = _rows(file, delimiter)
    header = _is_header(rows)
    names = [cell.strip() for cell in rows[0]] if header else [str(i) for i in range(len(rows[0]))]
    if header:
        lines, rows = lines[1:], rows[1:]
    place = _place(file, target, names)
    features = np.empty((len(rows), len(names) - 1), get_default_dtype() if dtype is None else dtype)
    for line, row, values in zip(lines, rows, features, strict=True):
        cells = row[:place] + row[place + 1 :]
        for i, cell in enumerate(cells):
            values[i] = _number(file, line, (names[:place] + names[place + 1 :])[i], cell)
    labels, classes = _target(file, lines, [row[place].strip() for row in rows], names[place])
    if labels.dtype.kind == "f":
        labels = labels.astype(features.dtype)
    return Table(features, labels, names[:place] + names[place + 1 :], names[place], classes)


def _rows(file: Path, delimiter: str) -> tuple[list[int], list[list[str]]]:
    """The rows that are not empty, of one length each, and their line numbers."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as source:
            found = reader.reader(source, delimiter=delimiter)
            numbered = [(found.line_num, row) for row in found if row]
    except (OSError, UnicodeDecodeError, reader.Error) as error:
        raise DataError(
            f"csv({str(file)!r})", why=f"it cannot be read: {error}", instead="a text file in UTF-8"
        ) from error
    if len(numbered) < 1 or len(numbered[0][1]) < 2:
        raise DataError(
            f"csv({str(file)!r}, delimiter={delimiter!r})",
            why="it has no rows, or rows of one column, which would be the target alone",
            instead="rows of at least two columns, or another delimiter",
        )
    width = len(numbered[0][1])
    for line, row in numbered:
        if len(row) != width:
            raise DataError(
                f"{file.name}, line {line}: {len(row)} columns",
                why=f"the first row has {width}; the file may be cut off or a delimiter missing",
                instead="rows of one length",
            )
    return [line for line, _ in numbered], [row for _, row in numbered]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_header(rows: list[list[str]]) -> bool:
    """A word above a number in the second row; or, in a row of its own, words alone."""
    if len(rows) == 1:
        return False
    return any(not _is_number(a) and _is_number(b) for a, b in zip(rows[0], rows[1], strict=True))


def _place(file: Path, target: str | int, names: list[str]) -> int:
    if isinstance(target, int) and -len(names) <= target < len(names):
        return target % len(names)
    if target in names:
        return names.index(str(target))
    raise DataError(
        f"csv({file.name!r}, target={target!r})",
        why=f"its columns are {', '.join(names)}",
        instead=f"target={names[-1]!r}, or a number from 0 to {len(names) - 1}",
    )


def _number(file: Path, line: int, column: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise DataError(
            f"{file.name}, line {line}, column {column}: {cell!r}",
            why="a feature is a number" + ("; this one is missing" if not cell.strip() else ""),
            instead="a file without that row or column, or words replaced by numbers",
        ) from None


def _target(file: Path, lines: list[int], cells: list[str], name: str) -> tuple[np.ndarray, list[str] | None]:
    for line, cell in zip(lines, cells, strict=True):
        if not cell:
            raise DataError(
                f"{file.name}, line {line}, column {name}: empty",
                why="it is the target, and a sample without one teaches nothing",
                instead="a file without that row",
            )
    if not all(map(_is_number, cells)):
        classes = sorted(set(cells))
        places = {word: i for i, word in enumerate(classes)}
        return np.array([places[cell] for cell in cells], np.int64), classes
    values = np.array([float(cell) for cell in cells])
    whole = all(cell.lstrip("+-").isdigit() for cell in cells)
    return (values.astype(np.int64), None) if whole else (values, None)
