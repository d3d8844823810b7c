"""A finding: one sentence of a run with the number behind it, worded once and quoted everywhere."""

import html
from collections.abc import Iterable
from dataclasses import dataclass

from facelib.statistics import Estimate


@dataclass(frozen=True)
class Finding:
    """What an analysis found, in one or two plain sentences without markup.

    `key`, such as `test.age`, is unique within a run; `estimate` is the number that the text is about, `n` the rows
    behind it where there is none.
    """

    key: str
    text: str
    estimate: Estimate | None = None
    n: int | None = None

    def __str__(self) -> str:
        """The text."""
        return self.text

    def _repr_markdown_(self) -> str:
        # Names in a text may come from data: they are no markup.
        return html.escape(self.text, quote=False).replace("*", r"\*").replace("_", r"\_")

    def to_dict(self) -> dict:
        """The finding as JSON holds it."""
        estimate = None if self.estimate is None else self.estimate.to_dict()
        return {"key": self.key, "text": self.text, "estimate": estimate, "n": self.n}

    @classmethod
    def from_dict(cls, stored: dict) -> "Finding":
        """The finding that `to_dict` stored."""
        estimate = None if stored["estimate"] is None else Estimate.from_dict(stored["estimate"])
        return cls(str(stored["key"]), str(stored["text"]), estimate, stored["n"])


class Findings(list):
    """Several findings, shown by a notebook as paragraphs; none are shown as nothing."""

    def _repr_markdown_(self) -> str:
        return "\n\n".join(finding._repr_markdown_() for finding in self)

    def __add__(self, other: Iterable[Finding]) -> "Findings":
        return Findings([*self, *other])


def listed(names: Iterable[str]) -> str:
    """Names as a sentence lists them.

    Examples
    --------
    >>> listed(["age"]), listed(["age", "shape", "hair"]), listed([])
    ('age', 'age, shape and hair', 'none')
    """
    *first, last = list(names) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last
