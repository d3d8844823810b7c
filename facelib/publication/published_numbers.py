"""A run beside published numbers, each with the protocol that it was measured by: the README's comparison table."""

from dataclasses import dataclass

from facelib.reporting import findings
from facelib.runs import RunFolder


@dataclass(frozen=True)
class Published:
    """What somebody else reports.

    Attributes
    ----------
    who : str
        The analysis or paper.
    protocol : str
        Faces, split and size of the images.
    start : str
        What the network had learned before.
    age, bins, gender, ethnicity : str
        Age error in years, accuracy of six age bins, of gender and of the ethnicity label; empty where not reported.
    """

    who: str
    protocol: str
    start: str
    age: str = ""
    bins: str = ""
    gender: str = ""
    ethnicity: str = ""


SOURCE_A = Published(
    "A: Demographic Prediction from Facial Images",
    "about 200 px, own split",
    "ImageNet",
    age="4.7; 3.7 at 45 and below, 8 over",
    gender="92 %; 95 % without babies and toddlers",
)
SOURCE_B = Published(
    "B: Multitask facial analysis",
    "48 x 48 grey, copies removed, own split",
    "none",
    age="3 to 4, two stages",
    bins="about 58 %",
)
# Other numbers for all ages of UTKFace.
OTHERS = (
    Published(
        "[Facial-Age-Estimation-Benchmark](https://github.com/paplhjak/Facial-Age-Estimation-Benchmark/issues/19), "
        "ResNet-50",
        "256 px, 5 folds",
        "none",
        age="5.33",
    ),
    Published("Paplham & Franc, CVPR 2024, ResNet-50", "256 px, 5 folds", "ImageNet", age="4.75"),
    Published("the same, FaRL and a small network", "256 px, 5 folds", "FaRL", age="3.87"),
    Published(
        "[age-estimator](https://github.com/horgsz/age-estimator), MobileNetV3, median",
        "90/5/5",
        "ImageNet",
        age="4.84",
    ),
    Published(
        "[dsci789](https://github.com/imageadhikari/dsci789---bias-in-utkface), ResNet-18",
        "own split",
        "ImageNet",
        gender="92.0 %",
    ),
    Published(
        "[image_classification_utkface](https://github.com/oliviawl/image_classification_utkface)",
        "own split",
        "none",
        gender="91.2 %",
        ethnicity="81.2 %",
    ),
    Published(
        "[utkface-race-classifications](https://github.com/raffaelsiregar/utkface-race-classifications), ResNet-50",
        "best epoch on its own test faces",
        "ImageNet",
        ethnicity="84.9 %",
    ),
    Published(
        "[Age-Gender-Ethnicity-Prediction](https://github.com/Tomer-Anna/Age-Gender-Ethnicity-Prediction), best",
        "48 x 48 grey",
        "none",
        age="5.92",
    ),
)


def ours(run: RunFolder) -> Published:
    """A run's test results as a row of the comparison."""
    results = run.results()

    def told(key: str) -> str:
        return findings.with_interval(results.get(f"test.{key}"))

    split = f"lists of {run.protocol['name']}" if run.protocol else "one test face per group of copies"
    start = "none" if run.profile.start_weights == "none" else run.profile.start_weights
    return Published(
        "**This project**",
        f"{run.profile.image_px} px, {split}, n = {results['test.age.mae']['n']:,}",
        start,
        age=f"**{told('age.mae')}**; {told('age.mae_le45')} at 45 and below, {told('age.mae_gt45')} over",
        bins=f"**{told('age_stages.bin_accuracy')}**",
        gender=f"**{told('gender.accuracy')}**; {told('gender.accuracy_age5plus')} from 5 years on",
        ethnicity=f"**{told('ethnicity.accuracy')}**",
    )


def comparison_table(run: RunFolder) -> str:
    """The comparison in Markdown."""
    lines = [
        "| | protocol | learned before | age error (years) | six age bins | gender | ethnicity label |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.who} | {row.protocol} | {row.start} | {row.age} | {row.bins} | {row.gender} | {row.ethnicity} |"
        for row in (ours(run), SOURCE_A, SOURCE_B, *OTHERS)
    ]
    return "\n".join(lines) + "\n"
