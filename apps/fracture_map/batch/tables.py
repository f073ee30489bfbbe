"""results.csv and results.parquet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cspine.errors import OutputError
from fracture_map.batch.rows import COLUMNS, Row

CSV: Final = "results.csv"
PARQUET: Final = "results.parquet"


def write_tables(rows: Sequence[Row], out: Path) -> None:
    """Write both tables, each at once or not at all.

    Args:
        rows: in the order of the tables.
        out: folder.

    Raises:
        OutputError: they cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    try:
        with (out / f".{CSV}").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(COLUMNS))
            writer.writeheader()
            writer.writerows(rows)
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), out / f".{PARQUET}")
        for name in (CSV, PARQUET):
            (out / f".{name}").replace(out / name)
    except OSError as error:
        raise OutputError(
            f"The tables cannot be written into '{out}' ({error.strerror}); make room there and run again."
        ) from None
