"""The measured tables of README and docs/, made from the files in reports/.

usage: python -m studies.docs_tables, which updates the tables between their marks
"""

import statistics

import pandas as pd

from benchmarks import EXPLAIN_RESULTS, EXTERNAL_RESULTS, ROBUSTNESS_RESULTS, TRAINING_RESULTS
from facelib.evaluation.groups import group_metrics, keeps_promise
from facelib.formats import read_json
from facelib.publication.publish import update_page
from facelib.runs import project_root, published_run
from facelib.schema import UTKFACE_ATTRIBUTES
from facelib.statistics import Estimate, format_value
from studies import AUDIT_RESULTS, CROSS_DATA_RESULTS, CROSSFIT_RESULTS, PROTOCOL_RESULTS
from studies.cross_data import FAIRFACE, MEASURES, UTKFACE
from studies.pages import interval, table

ROOT = project_root()


def reliability() -> str:
    """What was measured of repeated and killed runs, damaged images and known vulnerabilities."""
    results = ROOT / ROBUSTNESS_RESULTS
    repeated, images = read_json(results / "repeated_smoke.json"), read_json(results / "fuzz_images.json")
    kills = [read_json(results / f"kills_{profile}.json") for profile in ("smoke", "demo")]
    pins = read_json(results / "vulnerabilities.json")
    same = "with the same `results.json`" if repeated["results_json_same"] else "with another `results.json`"
    handled = images["used"] + images["rejected"]
    checked = max(pins["checked"].values())
    known = f"{len(pins['vulnerabilities']):,} ({checked:,} of {pins['pins']:,} packages checked)"
    rows = [
        [
            f"the same command twice (`{repeated['profile']}`, processor)",
            f"{repeated['files'] - len(repeated['differing']):,} of {repeated['files']:,} files equal, {same}",
            "`python -m benchmarks.repeated`",
        ],
        [
            "`kill -9` at random moments, then resume: results of an undisturbed run",
            ", ".join(f"{done['survived']} of {done['kills']} (`{done['profile']}`)" for done in kills),
            "`python -m benchmarks.kills --kills 27`, and `--profile demo --kills 3`",
        ],
        [
            "damaged and odd image files, used or rejected with a reason",
            f"{handled:,} of {images['files']:,}; {len(images['opened_outside'])} opened outside the folder",
            "`python -m benchmarks.fuzz_images`",
        ],
        ["slowest of these files", f"{images['wall_s']:.2f} s", "the same"],
        ["peak memory while they are read, one core", f"{images['peak_gb']:.2f} GB", "the same"],
        [
            "known vulnerabilities of the locked packages",
            known if checked else "not measured: no database was reachable",
            "`make audit-deps`",
        ],
    ]
    return table(["what", "measured", "with"], rows).lstrip("\n")


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds.

    Examples
    --------
    >>> clock(65.2)
    '1:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def speed() -> str:
    """Time and memory of a report, of the reference run, of predicting a folder and of LIME."""
    costs = [ROOT / ROBUSTNESS_RESULTS / f"cost_full_{notebooks}.txt" for notebooks in ("01_04", "05_09")]
    last = [path.read_text(encoding="utf-8").splitlines()[-1] for path in costs]
    folder, lime = (
        read_json(ROOT / EXTERNAL_RESULTS / "predict_folder.json"),
        read_json(ROOT / EXPLAIN_RESULTS / "lime_speed.json"),
    )
    call, cores = folder["calls"][-1], lime["measured"][0]
    ours, plain = (sorted(cores["images per minute"][name]) for name in ("facelib", "plain explain_instance"))
    report = read_json(ROOT / ROBUSTNESS_RESULTS / "report_time.json")
    alone, *others = report["seconds"]
    slower = [f"{way} {', '.join(f'{ratio:.1f}' for ratio in report['ratio to alone'][way])} times" for way in others]
    rows = [
        [
            f"a run of `{report['profile']}` on synthetic faces, with the report ({report['cores']} cores)",
            f"{clock(statistics.median(report['seconds'][alone]))} min; {'; '.join(slower)} that",
            "`python -m benchmarks.report_time`",
        ],
        [
            "the profile `full` on UTKFace: notebooks 01 to 04; 05 to 09, two at a time",
            "; ".join(last),
            "`python -m benchmarks.run_cost facelib run ...`",
        ],
        [
            f"predicting {call['photographs']:,} photographs of {folder['px'][0]} x {folder['px'][1]} px",
            f"{clock(call['seconds'])} min, {call['peak memory (MB)'] / 1000:.1f} GB",
            "`python -m benchmarks.predict_folder`",
        ],
        [
            f"LIME at {lime['px']} px, {lime['samples']} samples; lime's own call",
            f"{ours[len(ours) // 2]:.0f} images a minute; {plain[len(plain) // 2]:.0f}",
            "`python -m benchmarks.lime_speed --run utkface`",
        ],
    ]
    return table([f"what, on {folder['cores used']} cores", "measured", "with"], rows).lstrip("\n")


def threads() -> str:
    """How fast threads learn alone and beside a busy program, in a sentence."""
    found = read_json(ROOT / TRAINING_RESULTS / "threads.json")
    _, *used = found["ways"].values()  # the second way is how facelib lets threads wait, the last has one thread
    several, one = (way["images_per_second"] for way in used)
    return (
        f"Alone, {found['cores']} threads train on {several['0']:.0f} small images a second and one on "
        f"{one['0']:.0f}; beside a busy program, on {several['1']:.0f} and {one['1']:.0f}.\n"
    )


def face_start() -> str:
    """Validation errors of learning from the face network, with unfolded and folded scales."""
    folder = ROOT / TRAINING_RESULTS
    logs = ("face_all_stages", "face_top", "face_drawn", "reference_drawn")
    every, three, face, random = (pd.read_csv(folder / f"{name}_log.csv").iloc[-1] for name in logs)
    ages = {name: facts["measures"]["age.mae"] for name, facts in read_json(folder / "face_start.json").items()}
    apart, folded, all_stages = (ages[name]["value"] for name in ("scales_apart", "scales_folded", "all_stages"))
    return (
        f"On UTKFace the validation age error was {every['validation_age_mae']:.2f} years with unfolded scales and all "
        f"stages trained, and {three['validation_age_mae']:.2f} with the first three of six stages frozen (last lines "
        f"of `face_all_stages_log.csv` and `face_top_log.csv` in `reports/training`). On {ages['all_stages']['n']:,} "
        f"other faces it is {apart:.2f} with unfolded scales and three stages frozen, {folded:.2f} with folded "
        f"scales and three stages frozen, and {all_stages:.2f} with the recipe `face`, one training each "
        "([measured](../reports/training/README.md#fine-tuning-the-face-network)). The face network knows "
        "photographs: of synthetic faces (`facelib run --profile demo --to 3`) the validation loss of ethnicity ends "
        f"at {face['validation_ethnicity']:.2f} with `-p recipe face` and at {random['validation_ethnicity']:.2f} from "
        "random weights, the default for them (`face_drawn_log.csv`, `reference_drawn_log.csv`).\n"
    )


def context() -> str:
    """Numbers that decide how published numbers can be compared."""
    results = read_json(published_run() / "results.json")
    oracle = Estimate.from_dict(results["validation.age_stages.mae_no_image"])
    audited = pd.read_csv(ROOT / AUDIT_RESULTS / "audit.csv").set_index("measure")
    leaks = Estimate.from_dict(audited.loc["test images with a copy in training"].to_dict())
    repeats = read_json(ROOT / CROSSFIT_RESULTS / "results.json")["repeats"]
    age, gender = (repeats[key]["one training"] for key in ("age_mae", "gender_accuracy"))
    *_, split = read_json(ROOT / PROTOCOL_RESULTS / "published.json").values()
    rounding = [Estimate.from_dict(split["results"][f"test.{key}"]).text for key in ("age.cs5_whole_years", "age.cs5")]
    rows = [
        [
            "validation age error given the true one of six bins, without an image",
            f"{oracle}, n = {oracle.n:,}",
            "notebook 04 of the reference run",
        ],
        [
            "test images of a published split with a copy in training",
            f"{leaks}, n = {leaks.n:,}",
            "[reports/audit](../reports/audit/README.md)",
        ],
        [
            "standard deviation over seed, split and test faces: age error; gender accuracy",
            f"{age:.2f} y; {100 * gender:.1f} points",
            "[reports/crossfit](../reports/crossfit/README.md)",
        ],
        [
            f"within 5 years on `{split['protocol']}`: predictions in whole years; as predicted",
            "; ".join(rounding),
            "[reports/protocols](../reports/protocols/README.md)",
        ],
    ]
    return table(["what", "measured on UTKFace", "where"], rows).lstrip("\n")


LEFT_OUT = ("age.band_miss",)  # which reports/cross_data has
HEADING = "### On FairFace\n\n"
FOUND = """The reference network is worse on FairFace, unseen in training. The *joint network* of
`facelib predict` ([card](reports/faces/model_card.md)) is trained on UTKFace and FairFace, and better on FairFace;
evaluate it (`facelib evaluate`) before other use. On UTKFace its age error differs from the reference's
by {age} years, its gender accuracy by {gender}
([by group](reports/cross_data/README.md)); single trainings. The FairFace faces are part of its published training set,
re-split; races that UTKFace lacks count as *Other*.
"""
TITLES = {"age.held": "90 % age intervals meet the band"}  # FairFace labels ages by bands
NETWORKS = {"utkface": "reference network", "faces": "joint network"}  # by the names of their runs


def photographs() -> str:
    """How the published networks do on FairFace's test faces."""
    tested, rows, counts = read_json(ROOT / CROSS_DATA_RESULTS / "results.json")["test"], [], set()
    judged = {name.partition(" ")[0]: found for name, found in tested["matrix"].items()}
    judged = {title: judged[name] for name, title in NETWORKS.items()}
    (own,) = (groups["all"] for title, groups in tested["gains"].items()
              if title.startswith("faces ") and title.endswith(f"on {UTKFACE}"))  # fmt: skip
    for measure, (name, form) in MEASURES.items():
        found = [sources.get(FAIRFACE, {}).get(measure) for sources in judged.values()]
        if any(found) and measure not in LEFT_OUT:
            counts |= {estimate["n"] for estimate in found if estimate}
            rows.append(
                [TITLES.get(measure, name), *(interval(estimate, form) if estimate else "-" for estimate in found)]
            )
    n = " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
    found = FOUND.format(age=interval(own["age.mae"], "+.2f"), gender=interval(own["gender.accuracy"], "+.1%"))
    return HEADING + found + table([f"FairFace, {n} test faces", *judged], rows)


def worse() -> str:
    """For whom the reference network is shown to be worse, as its lead finding says, with the best group.

    Beside them stands the group with the worst value of the cross-fitted faces, which is not adjusted for age.
    """
    compared = read_json(published_run() / "metrics" / "06_groups.json")["details"]["comparisons"]
    gaps = read_json(ROOT / CROSSFIT_RESULTS / "results.json")["gaps"]
    titles = {metric.title: metric for metric in group_metrics(UTKFACE_ATTRIBUTES)}
    rows = []
    for row in compared:
        if not row["stands"] or keeps_promise(row["what"], Estimate.from_dict(row["worst_value"])):
            continue
        metric = titles[row["what"]]
        (gap,) = (each for each in gaps if (each["by"], each["metric"]) == (row["by"], metric.key))
        end = "lowest" if metric.more_is_better else "highest"
        refitted = f"{gap[end]}, {format_value(gap[f'{end}_value'], metric.unit)}"
        cells = []
        for which in ("worst", "best"):
            group = row[which].removeprefix("ages ").removeprefix("faces labelled ")
            estimate = Estimate.from_dict(row[f"{which}_value"])
            cells += [f"{group}, {estimate}", f"{estimate.n:,}"]
        rows.append([row["what"], *cells, refitted])
    return table(["", "worst", "n", "best", "n", "worst, cross-fitted"], rows).lstrip("\n")


BLOCKS = {
    ("docs/reliability.md", "reliability"): reliability,
    ("docs/reliability.md", "speed"): speed,
    ("docs/training.md", "threads"): threads,
    ("docs/training.md", "face start"): face_start,
    ("docs/method.md", "context"): context,
    ("README.md", "photographs"): photographs,
    ("README.md", "worse"): worse,
}


def main() -> None:
    """Update the pages."""
    for (page, name), make in BLOCKS.items():
        update_page(ROOT / page, name, make())


if __name__ == "__main__":
    main()
