"""Makes test/fixtures/data: small excerpts of two public intent sets, and parquet files as the datasets library writes them.

Usage: python make-data-fixtures.py BANKING77/train.csv CLINC150/data_small.json OUT     (needs pyarrow)

BANKING77 is from PolyAI-LDN/task-specific-datasets, CLINC150 from clinc/oos-eval. Origin, licences and what each file is for stand
in OUT/README.md. Everything is picked by position, so the same sources give the same rows.
"""

import csv
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def banking(source: Path, out: Path) -> None:
    with source.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with (out / "banking77.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows[::50])


def clinc(source: Path, out: Path) -> None:
    rows = json.loads(source.read_text(encoding="utf-8"))["train"][::50]
    names = sorted({intent for _, intent in rows})
    table = pa.table(
        {"text": [text for text, _ in rows], "intent": pa.array([names.index(intent) for _, intent in rows], pa.int64())}
    )
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "intent": {"names": names, "_type": "ClassLabel"},
    }
    named = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    # Three row groups, the last one not full.
    pq.write_table(named, out / "clinc150.parquet", compression="snappy", row_group_size=64)


def chats(out: Path) -> None:
    turns = [
        [("user", "What is 2 + 2?"), ("assistant", "4.")],
        [("system", "Be brief."), ("user", "Größe von π?"), ("assistant", "Etwa 3,14.")],
    ]
    messages = [[{"role": role, "content": content} for role, content in turn] for turn in turns]
    table = pa.table({"id": [1, 2], "messages": messages})
    for codec in ("gzip", "brotli", "zstd", "lz4"):
        pq.write_table(table, out / f"chat-{codec}.parquet", compression=codec)


if __name__ == "__main__":
    out = Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    banking(Path(sys.argv[1]), out)
    clinc(Path(sys.argv[2]), out)
    chats(out)
