"""Packs the Numenta Anomaly Benchmark into the few files of tests/data/nab.

    python pack_nab.py SOURCE          write the files
    python pack_nab.py SOURCE --check  compare with the committed ones

SOURCE holds NAB 1.1: data/GROUP/NAME.csv, windows.csv (combined_windows.json flattened), LICENSE.txt, profiles.json,
published_final_results.json and scorer_check/DETECTOR.csv.gz (file,row,anomaly_score of every row).
"""

import argparse
import csv
import gzip
import io
import json
from pathlib import Path

from telemetry import DATA

NAB = DATA / "nab"
# Published scores below these are left out: far below the best threshold (0.542 and 1.0), so that no better threshold is
# among them, and most of the bytes.
SCORES_FROM = {"numenta": 0.1, "windowedGaussian": 0.95}


def packed(header, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), 9, mtime=0)


def corpus(source):
    for path in sorted(source.glob("data/*/*.csv")):
        name = f"{path.parent.name}/{path.name}"
        with path.open(newline="") as text:
            for timestamp, value in list(csv.reader(text))[1:]:
                yield name, timestamp, value


def scores(source, detector):
    with gzip.open(source / "scorer_check" / f"{detector}.csv.gz", "rt", newline="") as text:
        for row in list(csv.reader(text))[1:]:
            if float(row[2]) >= SCORES_FROM[detector]:
                yield row


def files(source):
    """All files of tests/data/nab but its README: name -> bytes."""
    published = json.loads((source / "published_final_results.json").read_text())
    made = {
        "corpus.csv.gz": packed(["file", "timestamp", "value"], corpus(source)),
        "expected.json": json.dumps({name: published[name] for name in SCORES_FROM}, indent=1).encode() + b"\n",
    }
    for detector in SCORES_FROM:
        made[f"scores_{detector}.csv.gz"] = packed(["file", "row", "score"], scores(source, detector))
    for name in ("windows.csv", "profiles.json"):
        made[name] = (source / name).read_bytes()
    made["LICENSE.NAB"] = (source / "LICENSE.txt").read_bytes()
    return made


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    chosen = arguments.parse_args()
    for name, content in files(chosen.source).items():
        if not chosen.check:
            (NAB / name).write_bytes(content)
            print(f"{name:32} {len(content):9} bytes")
        elif (NAB / name).read_bytes() != content:
            raise SystemExit(f"{name} differs from what this script makes")


if __name__ == "__main__":
    main()
