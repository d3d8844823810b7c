"""The two panels of the notebooks in JupyterLab, by keyboard: `make test-browser` makes their run first.

`FACELIB_PICTURES=figures make test-browser` also saves their pictures, as docs/ shows them. Those in docs/ are of
the run `smoke`, which has the attribute expression too.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from facelib import runs
from facelib.runs import RunFolder
from tests.rendered.conftest import PATIENCE, Browser

pytestmark = pytest.mark.slow

RUN = os.environ.get("FACELIB_RUN", "")
SWITCHES = {"02_clean": "review", "07_error_clusters": "browse"}
EXECUTED = """window.jupyterapp.shell.currentWidget.content.widgets
  .every(cell => cell.model.type !== 'code' || cell.model.executionCount)"""
SCROLL = """{
  const cells = window.jupyterapp.shell.currentWidget.content;
  cells.scrollToItem(cells.widgets.findIndex(cell => cell.model.sharedModel.getSource().includes('if SWITCH else')));
}"""
EXECUTION_S = 240  # until a notebook of a small run has shown its panel


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over both notebooks, their panels switched on: its address, and the run that the first opens."""
    if not os.environ.get("FACELIB_RUN"):
        pytest.skip("FACELIB_RUN names no run: `make test-browser` makes one")
    run = RunFolder(runs.runs_root() / RUN)
    assert run.is_synthetic
    folder = tmp_path_factory.mktemp("lab")
    for name, switch in SWITCHES.items():
        source = (runs.project_root() / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        settings = {f"{switch} = False": f"{switch} = True", r"run = \"\"": rf"run = \"{name}\""}
        for old, new in settings.items():
            assert source.count(old) == 1
            source = source.replace(old, new)
        (folder / f"{name}.ipynb").write_text(source, encoding="utf-8")
        shutil.copytree(run.path, folder / "runs" / name)  # a run each: what the first changes, the second would refuse
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"FACELIB_RUNS": folder / "runs", "JUPYTER_CONFIG_DIR": folder, "JUPYTERLAB_SETTINGS_DIR": folder / "lab"}
    environment = os.environ | {name: str(path) for name, path in places.items()}
    options = "--no-browser --allow-root --ip=127.0.0.1 --ServerApp.port_retries=0 --IdentityProvider.token="
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", "--expose-app-in-browser", f"--port={port}", *options.split()],
            cwd=folder, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE
        while "is running at" not in (folder / "log").read_text():
            assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/workspaces", RunFolder(folder / "runs" / "02_clean")
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def wait_for(browser: Browser, condition: str, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not browser.value(f"!!({condition})"):
        assert time.monotonic() < end, f"JupyterLab shows no {what}"
        time.sleep(0.3)


def open_panel(browser: Browser, address: str, name: str, shown: str) -> None:
    """Open a notebook and run it to its panel, an element of which is `shown`."""
    browser.open(f"{address}/{name}/tree/{name}.ipynb", width=1280, height=1300)
    ready = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    wait_for(browser, ready, PATIENCE, f"kernel of {name}")
    browser.value("window.jupyterapp.commands.execute('application:set-mode', {mode: 'single-document'})")
    browser.value("window.jupyterapp.commands.execute('application:toggle-left-area')")
    browser.value("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    wait_for(browser, EXECUTED, EXECUTION_S, f"end of {name}")
    browser.value(SCROLL.replace("SWITCH", SWITCHES[name]))  # cells out of sight are not drawn
    wait_for(browser, f"document.querySelector({json.dumps(shown)})", PATIENCE, f"panel in {name}")
    browser.value("document.head.insertAdjacentHTML('beforeend', '<style>.Toastify {display: none}</style>')")
    time.sleep(1)  # a picture is drawn


@pytest.fixture(autouse=True)
def left(browser):
    """Notebooks are saved in the end: JupyterLab holds a page with changes."""
    yield
    browser.value("window.jupyterapp.commands.execute('docmanager:save-all')")
    wait_for(browser, "!document.querySelector('.jp-mod-dirty')", PATIENCE, "saved notebook")


def press(browser: Browser, key: str, code: int, text: str) -> None:
    facts = {"key": key, "code": key, "windowsVirtualKeyCode": code}
    browser.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
    browser.ask("Input.dispatchKeyEvent", type="keyUp", **facts)


def keep_picture(browser: Browser, name: str) -> None:
    """Save a picture of the panel, if pictures are asked for."""
    if not (folder := os.environ.get("FACELIB_PICTURES")):
        return
    box = browser.value(
        "(() => {const b = document.querySelector('.jp-OutputArea-output .widget-vbox').getBoundingClientRect();"
        "const end = document.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect().bottom;"
        "return {x: b.x, y: b.y, width: b.width, height: Math.min(b.bottom, end) - b.y}})()"
    )
    browser.picture(Path(folder) / name, clip=box | {"scale": 1})


def test_the_review_panel_writes_a_decision_by_keyboard(browser, lab):
    address, run = lab
    open_panel(browser, address, "02_clean", "button.mod-success")
    waiting = pd.read_csv(run.table_path("decisions.csv"))["action"].isna().sum()
    assert waiting
    keep_picture(browser, "review_panel.png")
    browser.value("document.querySelector('button.mod-success').focus()")
    press(browser, "Enter", 13, "\r")
    end = time.monotonic() + PATIENCE
    while (decided := pd.read_csv(run.table_path("decisions.csv")))["action"].isna().sum() == waiting:
        assert time.monotonic() < end, "nothing was written"
        time.sleep(0.2)
    assert decided["action"].dropna().tolist()[-1] == "keep" and decided["action"].isna().sum() == waiting - 1


def test_the_error_browser_turns_pages_by_keyboard(browser, lab):
    open_panel(browser, lab[0], "07_error_clusters", ".widget-dropdown select")
    keep_picture(browser, "error_browser.png")
    table = "document.querySelector('.jp-OutputArea-output .widget-vbox table').innerText"
    first = browser.value(table)
    browser.value("document.querySelector('.widget-inline-hbox input[type=number]').select()")
    browser.ask("Input.insertText", text="2")
    press(browser, "Enter", 13, "\r")
    wait_for(browser, f"{table} !== {json.dumps(first)}", PATIENCE, "other page of errors")
