"""Several data sets read as one: each row knows its source, attributes of one name are one."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from facelib.data.readers import Crop, FaceSource
from facelib.errors import UnreadableData
from facelib.schema import Attribute, ClassAttribute, label_columns


@dataclass(frozen=True)
class JoinedSource(FaceSource):
    """Data sets read as one; `path` and `image_id` open with the name of the source.

    Attributes
    ----------
    members : tuple of FaceSource
    starts : tuple of int
        The position of each member's first row.
    """

    members: tuple[FaceSource, ...] = field(default=(), repr=False)
    starts: tuple[int, ...] = ()

    def items(self, positions) -> list[os.PathLike | Crop | np.ndarray]:
        """The image files, the faces within them, or the grey pixels, of some rows."""
        positions = np.asarray(positions)
        member = np.searchsorted(self.starts, positions, side="right") - 1
        found: list = [None] * len(positions)
        for number in np.unique(member):
            places = np.flatnonzero(member == number)
            own = self.members[number].items(positions[places] - self.starts[number])
            for place, item in zip(places, own, strict=True):
                found[place] = item
        return found


def join(sources: Sequence[FaceSource]) -> JoinedSource:
    """Data sets as one. Attributes of one name are one, with the classes of all of them in the order of their first.

    Raises
    ------
    UnreadableData
        If two give one name to labels of different kinds.
    """
    names = _names(sources)
    attributes = _joined_attributes(sources)
    faces, rejected, unusable, notes, starts, start = [], [], [], [], [], 0
    for source, name in zip(sources, names, strict=True):
        table = _recoded(source, attributes)
        table = table.assign(source=name, path=name + "/" + table["path"], image_id=name + "/" + table["image_id"])
        if "session" in table:
            table["session"] = (name + "/" + table["session"]).where(table["session"] != "", "")
        table.index = table.index + start
        starts.append(start)
        start = int(table.index.max()) + 1
        faces.append(table)
        rejected.append(source.rejected.assign(item=name + "/" + source.rejected["item"]))
        unusable.append(source.unusable.assign(item=name + "/" + source.unusable["item"]))
        notes += [f"{name}: {note}" for note in source.notes]
    table = pd.concat(faces)
    columns = ["image_id", "path", *label_columns(table, attributes), "source", "sha256"]
    for attribute in attributes:
        table[attribute.name] = table[attribute.name].fillna(attribute.unknown).astype(attribute.dtype)
    for name in ("box", "collected", "session"):
        if name in table:
            columns, table[name] = [*columns, name], table[name].fillna("")
    parts = (pd.concat(tables, ignore_index=True) for tables in (rejected, unusable))
    return JoinedSource(
        table[columns], next(parts), sources[0].root, attributes, None, next(parts), tuple(notes), tuple(sources),
        tuple(starts),
    )  # fmt: skip


def _names(sources: Sequence[FaceSource]) -> list[str]:
    """A name for each source: its form, or where two are of one form its folder's name, or its number."""
    forms = [source.faces["source"].iloc[0] for source in sources]
    names = [
        form if forms.count(form) == 1 else source.root.resolve().name
        for form, source in zip(forms, sources, strict=True)
    ]
    if len(set(names)) < len(names):
        names = [f"{name}{number}" for number, name in enumerate(names, 1)]
    return ["".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name) for name in names]


def _joined_attributes(sources: Sequence[FaceSource]) -> tuple[Attribute, ...]:
    """The attributes of all sources, in the order of their first, classes of one name united."""
    joined: dict[str, Attribute] = {}
    for attribute in (attribute for source in sources for attribute in source.attributes):
        before = joined.setdefault(attribute.name, attribute)
        if before.kind != attribute.kind:
            raise UnreadableData(f"{attribute.name} is {before.kind} in one data set and {attribute.kind} in another")
        if isinstance(before, ClassAttribute) and isinstance(attribute, ClassAttribute):
            known = {name.lower() for name in before.classes}
            further = tuple(name for name in attribute.classes if name.lower() not in known)
            if further:
                joined[attribute.name] = replace(before, classes=before.classes + further)
    return tuple(joined.values())


def _recoded(source: FaceSource, attributes: Sequence[Attribute]) -> pd.DataFrame:
    """A source's faces with class codes as the joined attributes number them."""
    faces, own = source.faces.copy(), {attribute.name: attribute for attribute in source.attributes}
    for attribute in attributes:
        before = own.get(attribute.name)
        if isinstance(before, ClassAttribute) and before.classes != attribute.classes:
            code = {name.lower(): number for number, name in enumerate(attribute.classes)}
            codes = np.array([code[name.lower()] for name in before.classes] + [attribute.unknown])  # -1 is the last
            faces[attribute.name] = codes[faces[attribute.name].to_numpy()].astype(attribute.dtype)
    return faces
