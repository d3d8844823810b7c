"""Parts of the pages that sum up what studies and benchmarks have measured."""


def interval(value: dict, form: str) -> str:
    """A number with its interval; of a form such as `.1%` in per cent, and with a sign in percentage points.

    The interval is missing where nothing varied between resamples.

    Examples
    --------
    >>> interval({"value": 0.047, "low": -0.01, "high": 0.1}, "+.1%")
    '+4.7 points (-1.0 to +10.0)'
    >>> interval({"value": 0.0, "low": None, "high": None}, ".1%")
    '0.0 %'
    >>> interval({"value": -0.001, "low": -0.1, "high": 0.1}, "+.2f")
    '+0.00 (-0.10 to +0.10)'
    """
    form = form.replace(".", "z.")  # no minus before what rounds to 0
    number = f"{value['value']:{form}}"
    if form.endswith("%"):
        number = f"{number[:-1]}{' points' if form.startswith('+') else ' %'}"
    if value["low"] is None:
        return number
    low, high = (f"{value[key]:{form}}" for key in ("low", "high"))
    return f"{number} ({low.removesuffix('%')} to {high.removesuffix('%')})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    first, *others = (f"| {' | '.join(line)} |\n" for line in [header, *rows])
    return "".join(["\n", first, f"{'|---' * len(header)}|\n", *others])
