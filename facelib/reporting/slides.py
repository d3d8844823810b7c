"""The slides: typeset with typst from a run's results and figures."""
