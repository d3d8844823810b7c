"""Finished runs beside each other: one by a published split, and several that differ by their seed alone.

usage: python -m studies.protocols --published RUN
       python -m studies.protocols --seeds RUN RUN [RUN ...]

Either call writes what it read into reports/protocols and makes its page anew, and the table of the published split
in docs/method.md. The page names the commands that made the runs.
"""

import argparse
import json
import shlex

import numpy as np

from facelib.config import resolve
from facelib.formats import read_json, write_json
from facelib.publication.publish import update_page
from facelib.publication.published_numbers import CORAL_21_60, published
from facelib.runs import RunFolder, open_run, project_root
from facelib.storage import write_text
from studies import PROTOCOL_RESULTS
from studies.pages import interval, table

FOLDER = project_root() / PROTOCOL_RESULTS
MEASURES = {
    "age.mae": ("age MAE (years)", ".2f"),
    "age.cs5": ("within 5 years", ".1%"),
    "age.mae_le45": ("at 45 and below (years)", ".2f"),
    "age.mae_gt45": ("over 45 (years)", ".2f"),
    "gender.accuracy": ("gender", ".1%"),
    "gender.accuracy_age5plus": ("gender, 5 and over", ".1%"),
    "ethnicity.accuracy": ("ethnicity", ".1%"),
    "age_stages.bin_accuracy": ("six age bins", ".1%"),
}
OPENING = """# Numbers that others can compare

Made by `python -m studies.protocols` from the results of finished runs. Intervals are 95 %, by bootstrap over groups
of copies.
"""
PUBLISHED_NOTE = """
## The lists of `{name}`

`facelib run --data path/to/UTKFace --run NAME --protocol path/to/{name} {options}`, then
`python -m studies.protocols --published NAME`. Trained and tested by the published file names, ages 21 to 60;
validation and calibration were carved out of the training list. *As published* counts every test image; {n_copied:,} of
the {n_test:,} have a copy in the training list, and the second row leaves them out. The age error is of ages in whole
years, as everywhere in this project. Within 5 years is counted before ages are rounded, as in other work; in whole
years it is {whole:.1%}. {made}
"""
SEEDS_NOTE = """
## Other seeds

`facelib run --data path/to/UTKFace --run NAME {options}` with `-p seed` {seeds}, then
`python -m studies.protocols --seeds {runs}`. The seed decides the split and everything drawn in training,
so each run has its own test faces. *Spread* is the standard deviation between the runs; *by test faces* is the
standard deviation expected from sampling the test faces alone (the width of the first run's bootstrap interval over
2 x 1.96). {count} runs give a rough estimate of the spread. {made}

"""


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


def options(found: dict, leave: tuple[str, ...] = ()) -> str:
    """The options of `facelib run` that repeat a run: its profile, and the settings that differ from it."""
    profile = found["settings"]["profile"]
    usual = resolve(profile).flat() | {"profile": profile}
    changed = {
        key: value for key, value in found["settings"].items() if key not in leave and value != usual.get(key, value)
    }
    texts = {key: " ".join(value) if key == "attributes" else str(value) for key, value in changed.items()}
    given = "".join(f" -p {key} {shlex.quote(text)}" for key, text in (texts | found["parameters"]).items())
    return f"--profile {profile}{given}"


def made(found: dict) -> str:
    """The state of the project that a run was made with."""
    code = f", by the code {' and '.join(found['code'])}" if "code" in found else ""
    return f"Begun at commit {found['commit']}{code}; the `.json` beside this page holds every setting."


def published_rows(found: dict) -> list[list[str]]:
    """One row per method: name, what it learned before, age error, share within 5 years."""
    start = {"none": "nothing"}.get(found["settings"]["start_weights"], found["settings"]["start_weights"])
    network = found["settings"]["architecture"].replace("resnet", "ResNet-")
    name = f"**this project**, {network}, {found['settings']['image_px']} px"
    rows = []
    for prefix, which in (("test", "as published"), ("test_unseen", "without copies of training images")):
        values = [found["results"][f"{prefix}.{key}"] for key in ("age.mae", "age.cs5")]
        rows.append(
            [f"{name}, {which}, n = {values[0]['n']:,}", start, interval(values[0], ".2f"), interval(values[1], ".1%")]
        )
    return rows + published(CORAL_21_60)[["who", "start", "age", "cs5"]].to_numpy().tolist()


def published_table(found: dict) -> str:
    """A run by published lists beside others."""
    return table(["", "learned before", "age MAE (years)", "within 5 years"], published_rows(found)).lstrip("\n")


def seeds_table(runs: list[dict]) -> str:
    """Each headline metric by run, its spread, and the interval of the first."""
    rows = []
    for key, (name, form) in MEASURES.items():
        values = [facts["results"][f"test.{key}"] for facts in runs]
        numbers = np.array([value["value"] for value in values])
        by_faces = (values[0]["high"] - values[0]["low"]) / (2 * 1.96)
        spread = [f"{numbers.mean():{form}}", f"{numbers.std(ddof=1):{form}}", f"{by_faces:{form}}"]
        rows.append([name, *(f"{number:{form}}" for number in numbers), *spread])
    seeds = [f"seed {facts['settings']['seed']}" for facts in runs]
    return table(["", *seeds, "mean", "spread", "by test faces"], rows).lstrip("\n")


def page() -> str:
    """The whole page, from what has been measured."""
    text = OPENING
    if (FOLDER / "published.json").exists():
        found = json.loads((FOLDER / "published.json").read_text())
        all_tested, unseen = (found["results"][f"{prefix}.age.mae"]["n"] for prefix in ("test", "test_unseen"))
        counts = {"n_test": all_tested, "n_copied": all_tested - unseen}
        counts["made"] = made(found)
        counts["whole"] = found["results"]["test.age.cs5_whole_years"]["value"]
        note = {"name": found["protocol"], "options": options(found), **counts}
        text += PUBLISHED_NOTE.format(**note) + "\n" + published_table(found)
    if (FOLDER / "seeds.json").exists():
        runs = json.loads((FOLDER / "seeds.json").read_text())
        seeds = ", ".join(str(facts["settings"]["seed"]) for facts in runs)
        asked = options(runs[0], leave=("seed",))
        names = " ".join(facts["run"] for facts in runs)
        text += SEEDS_NOTE.format(options=asked, seeds=seeds, runs=names, count=len(runs), made=made(runs[0]))
        text += seeds_table(runs)
    return text


def main() -> None:
    """Read the runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--published", metavar="RUN")
    parser.add_argument("--seeds", nargs="+", default=[], metavar="RUN")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if given.published:
        run = open_run(given.published)
        if not run.protocol:
            raise SystemExit(f"run {run.name} follows no published split")
        found = facts_of(run) | {"protocol": run.protocol["name"]}
        write_json(FOLDER / "published.json", found)
        update_page(project_root() / "docs" / "method.md", "published split", published_table(found))
    if given.seeds:
        runs = [facts_of(open_run(name)) for name in given.seeds]
        if listed := [name for name in given.seeds if open_run(name).protocol]:
            raise SystemExit(f"run {listed[0]} follows a published split, which no seed changes")
        others = [facts | {"settings": facts["settings"] | {"seed": None}, "run": "", "results": {}} for facts in runs]
        if len(runs) < 2 or any(other != others[0] for other in others):
            raise SystemExit("give two runs or more by the same code on the same data that differ by their seed alone")
        write_json(FOLDER / "seeds.json", runs)
    write_text(FOLDER / "README.md", page())
    print(page())


if __name__ == "__main__":
    main()
