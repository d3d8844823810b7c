"""Finished runs by a published split, beside published numbers on it.

usage: python -m studies.protocols RUN

It writes what it read into reports/protocols, beside the runs from other weights, and makes its page and the table of
docs/method.md anew. The page names the commands that made the runs.
"""

import argparse
import shlex

from facelib.config import resolve
from facelib.formats import read_json, write_json
from facelib.publication.publish import update_page
from facelib.publication.published_numbers import CORAL_21_60, published
from facelib.runs import RunFolder, open_run, project_root
from facelib.storage import write_text
from studies import PROTOCOL_RESULTS
from studies.pages import interval, table

FOLDER = project_root() / PROTOCOL_RESULTS
STARTS = {"none": "none", "face": "face recognition"}
NETWORKS = {"resnet18": "ResNet-18", "face_resnet": "face ResNet"}
PAGE = """# Numbers that others can compare

The lists of `{name}`: trained and tested by the published file names, ages 21 to 60; validation and calibration
were carved out of the training list. *As published* counts every test image; {copied} of the {n_test:,} have a
copy in the training list, as each run detected them; the second row of each network leaves them out. The age error
is of ages in whole years, as everywhere in this project. Within 5 years is counted before ages are rounded, as in other
work; in whole years it is {whole}. Intervals are 95 %, by bootstrap over groups of copies.

{rows}
Made by these commands, each with `--data path/to/UTKFace --run NAME --protocol path/to/{name}`, then
`python -m studies.protocols NAME`; `published.json` holds every setting.

{commands}"""


def facts_of(run: RunFolder) -> dict:
    """Settings, notebook parameters, code and test results of a finished run."""
    notebooks = list(read_json(run.path / "progress.json").values())
    parameters = {key: value for notebook in notebooks for key, value in notebook["parameters"].items()}
    results = {
        key: value.to_dict() for key, value in run.results().items() if key.startswith(("test.", "test_unseen."))
    }
    asked = {"settings": {"profile": run.settings.profile, **run.settings.flat()}, "parameters": parameters}
    about = {"data": run.params["data"]["fingerprint"], "commit": run.params["commit"]}
    about["code"] = sorted({notebook["package"] for notebook in notebooks})
    return {"run": run.name, **asked, **about, "results": results}


def options(found: dict) -> str:
    """The options of `facelib run` that repeat a run: its profile, and the settings that differ from it."""
    profile = found["settings"]["profile"]
    recipe = found["settings"].get("recipe")
    usual = resolve(profile, {"recipe": recipe} if recipe else {}).flat() | {"profile": profile, "recipe": None}
    changed = {key: value for key, value in found["settings"].items() if value != usual.get(key, value)}
    texts = {key: " ".join(value) if key == "attributes" else str(value) for key, value in changed.items()}
    given = "".join(f" -p {key} {shlex.quote(text)}" for key, text in (texts | found["parameters"]).items())
    return f"--profile {profile}{given}"


def made(found: dict) -> str:
    """The state of the project that a run was made with."""
    code = f", by the code {' and '.join(found['code'])}" if "code" in found else ""
    return f"Begun at commit {found['commit']}{code}."


def published_rows(found: dict[str, dict]) -> list[list[str]]:
    """One row per method: name, pretraining, age error, share within 5 years."""
    rows = []
    for start, run in found.items():
        settings = run["settings"]
        name = f"**this project**, {NETWORKS[settings['architecture']]}, {settings['image_px']} px"
        for prefix, which in (("test", "as published"), ("test_unseen", "without copies of training images")):
            age, within = (run["results"][f"{prefix}.{key}"] for key in ("age.mae", "age.cs5"))
            cells = interval(age, ".2f"), interval(within, ".1%")
            rows.append([f"{name}, {which}, n = {age['n']:,}", STARTS[start], *cells])
    return rows + published(CORAL_21_60)[["who", "start", "age", "cs5"]].to_numpy().tolist()


def published_table(found: dict[str, dict]) -> str:
    """Runs by published lists, by what they started from, beside others."""
    return table(["", "pretraining", "age MAE (years)", "within 5 years"], published_rows(found)).lstrip("\n")


def page(found: dict[str, dict]) -> str:
    """The whole page."""
    *_, last = found.values()
    tested = last["results"]["test.age.mae"]["n"]
    copied = [tested - run["results"]["test_unseen.age.mae"]["n"] for run in found.values()]
    whole = " and ".join(f"{100 * run['results']['test.age.cs5_whole_years']['value']:.1f} %" for run in found.values())
    commands = "".join(f"- from {start}: `facelib run {options(run)}`. {made(run)}\n" for start, run in found.items())
    facts = {
        "name": last["protocol"],
        "n_test": tested,
        "copied": " and ".join(f"{n:,}" for n in copied),
        "whole": whole,
    }
    return PAGE.format(rows=published_table(found), commands=commands, **facts)


def main() -> None:
    """Read a run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    run, path = open_run(parser.parse_args().run), FOLDER / "published.json"
    if not run.protocol:
        raise SystemExit(f"run {run.name} follows no published split")
    known = read_json(path) if path.exists() else {}
    found = known | {run.settings.training.start_weights: facts_of(run) | {"protocol": run.protocol["name"]}}
    write_json(path, found)
    found = read_json(path)
    update_page(project_root() / "docs" / "method.md", "published split", published_table(found))
    write_text(FOLDER / "README.md", page(found))
    print(page(found))


if __name__ == "__main__":
    main()
