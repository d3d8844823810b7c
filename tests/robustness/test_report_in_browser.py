"""A report opened in Chromium: its own style is used, and no script in names or labels runs."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from facelib.doctor import chromium
from facelib.finding import Finding
from facelib.reporting.findings import QUESTIONS
from facelib.reporting.site import build_report
from facelib.runs import start_run
from facelib.schema import UTKFACE_ATTRIBUTES
from facelib.statistics import Estimate
from facelib.storage import write_text

CHROMIUM = chromium()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
RUN = "document.documentElement.setAttribute('pwned','1')"
ATTACKS = [
    f"<script>{RUN}</script>",
    f'<img src="x" onerror="{RUN}">',
    f'<svg onload="{RUN}"><script>{RUN}</script></svg>',
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f'<body onload="{RUN}"><details open ontoggle="{RUN}">x</details>',
    f'<object data="data:text/html,<script>parent.{RUN}</script>"></object>',
    f'<input autofocus onfocus="{RUN}">',
    '<meta http-equiv="refresh" content="0;url=data:text/html,<html pwned=1>">',
    '<META http-equiv=refresh content="0;url=gone.html">',
]


def dom_of(page: Path, profile: Path) -> tuple[str, str]:
    """What a browser makes of a page after its scripts have had their time, and what it complained of."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=3000 --dump-dom"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


def test_the_attacks_are_real_ones(tmp_path):
    for number, attack in enumerate(ATTACKS[:2]):
        (tmp_path / f"{number}.html").write_text(f"<!DOCTYPE html><html><body>{attack}</body></html>")
        assert 'pwned="1"' in dom_of(tmp_path / f"{number}.html", tmp_path / f"profile{number}")[0]


def test_a_report_of_hostile_data_runs_nothing(empty_runs, tmp_path):
    run = start_run("small", "smoke")
    run.set_attributes(UTKFACE_ATTRIBUTES, UTKFACE_ATTRIBUTES)
    run.notebook("05_evaluate").save({"test.age.mae": Estimate(4, 3, 5, 9, ATTACKS[0])})
    claim = {"claim": " ".join(ATTACKS), "measure": ATTACKS[0], "answer": ATTACKS[1], "n": 3}
    claim |= dict.fromkeys(("value", "low", "high", "smallest_effect"), 0.1)
    quoted = [Finding(row.lead, " ".join(ATTACKS), n=3) for row in QUESTIONS]
    groups = {"gender_name": [{"gender_name": attack, "n": 3, "age_mae": 2.0} for attack in ATTACKS]}
    run.notebook("06_groups").save({}, quoted, claims=[claim], groups=groups)
    run.update_params(commit=ATTACKS[0], device=ATTACKS[1])
    hostile = '06_" onerror=alert(1) x="_by_age.svg'
    write_text(run.path / "figures" / hostile, "<svg/>")
    write_text(
        run.path / "figures" / "04_two_stage_errors.svg", f"<svg xmlns='http://www.w3.org/2000/svg'>{ATTACKS[0]}</svg>"
    )
    outputs = [v4.new_output("display_data", {kind: attack}) for attack in ATTACKS
               for kind in ("text/html", "text/markdown", "image/svg+xml")]  # fmt: skip
    outputs.append(v4.new_output("display_data", {"application/javascript": RUN}))
    cells = [v4.new_markdown_cell("\n\n".join(ATTACKS)), v4.new_code_cell("1", outputs=outputs)]
    (run.path / "notebooks").mkdir()
    nbformat.write(v4.new_notebook(cells=cells), run.path / "notebooks" / "01_explore.ipynb")
    front = build_report(run, [run.path / "notebooks" / "01_explore.ipynb"])
    for page in sorted(front.parent.glob("*.html")):
        dom, complaints = dom_of(page, tmp_path / page.stem)
        assert "Facial demographics" in dom, "the page was left for another"
        assert "pwned=" not in dom.split(">", 2)[1], page.name  # the tag <html>
        assert "style.css" not in complaints, complaints  # the report's own style is allowed
