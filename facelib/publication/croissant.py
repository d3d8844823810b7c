"""The data card for machines: Croissant 1.0, a JSON-LD that data-set search engines and loaders read.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import hashlib
from pathlib import Path

import pandas as pd

from facelib.runs import RunFolder

FORMAT = "http://mlcommons.org/croissant/1.0"
# The context of the specification's appendix, as far as this page uses it.
TERMS = ("citeAs", "column", "extract", "field", "fileObject", "isLiveDataset", "key", "recordSet", "source")
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
} | {term: f"cr:{term}" for term in TERMS}
TYPES = {"i": "sc:Integer", "u": "sc:Integer", "f": "sc:Float", "b": "sc:Boolean"}  # by numpy's kind; else text
MIME = {".parquet": "application/vnd.apache.parquet", ".csv": "text/csv"}


def card(run: RunFolder, published: Path, name: str, description: str, terms: str) -> dict:
    """The published tables of a run as a Croissant data set: a file and a set of records for each.

    `terms` says under which licence; photographs are not among the files.
    """
    files = sorted(path for path in (published / "tables").iterdir() if path.suffix in MIME)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": FORMAT,
        "name": name,
        "description": description,
        "license": terms,
        "url": "https://susanqq.github.io/UTKFace" if "utkface" in name.lower() else ".",
        "version": "1.0.0",
        "datePublished": run.params["created"][:10],
        "isLiveDataset": False,
        "distribution": [_file(path) for path in files],
        "recordSet": [_records(path, run) for path in files],
    }


def _file(path: Path) -> dict:
    content = path.read_bytes()
    facts = {"@type": "cr:FileObject", "@id": path.name, "name": path.name, "contentUrl": f"tables/{path.name}"}
    facts |= {"contentSize": f"{len(content)} B", "encodingFormat": MIME[path.suffix]}
    return facts | {"sha256": hashlib.sha256(content).hexdigest()}


def _records(path: Path, run: RunFolder) -> dict:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    meaning = {a.name: f"label: {', '.join(getattr(a, 'classes', ()) or [a.unit])}" for a in run.attributes}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{path.stem}/{column}",
            "name": column,
            "description": meaning.get(column, column.replace("_", " ")),
            "dataType": TYPES.get(getattr(table[column].dtype, "kind", "O"), "sc:Text"),
            "source": {"fileObject": {"@id": path.name}, "extract": {"column": column}},
        }
        for column in table
    ]
    return {"@type": "cr:RecordSet", "@id": path.stem, "name": path.stem, "field": fields}
