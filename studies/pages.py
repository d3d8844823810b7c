"""Parts of the pages that sum up what studies and benchmarks have measured."""


def interval(value: dict, form: str) -> str:
    """A number with its interval."""
    return f"{value['value']:{form}} ({value['low']:{form}} to {value['high']:{form}})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
