"""Published data sets in the forms in which people have them: how each is recognised and read, and where it is from.

`FORMS` is the only list of them: readers, messages, `facelib formats` and the tests loop over it. An entry says in a
label map (see `data.label_maps`) what its columns or its file names mean.
"""

import functools
import re
from dataclasses import dataclass, field

from facelib.data.label_maps import LabelMap, parse_map

FAIRFACE_CLASSES = "[White, Black, Latino_Hispanic, East Asian, Southeast Asian, Indian, Middle Eastern]"
# FairFace's seven classes as UTKFace's five, to be given as a label map: an approximation that a user has to ask for.
FIVE_CLASSES = (
    "ethnicity: {column: race, White: White, Black: Black, East Asian: Asian, Southeast Asian: Asian, Indian: Indian, "
    "Latino_Hispanic: Other, Middle Eastern: Other}"
)


@dataclass(frozen=True)
class Form:
    """One form of labelled faces.

    Attributes
    ----------
    name : str
        What the column `source` of a faces table says.
    about : str
        What it is, for help texts and messages.
    recognised : str
        How it is recognised, in words.
    labels : str
        The label map that reads it.
    terms : str
        Where it is from, and under which terms.
    columns : set of str
        Columns, in lower case, that a table of this form has.
    files : pattern, optional
        Names of its tables in its folder. A group `part` can be used in `folder_path`.
    folder_path : str
        Template of the paths below its folder, where they are not those of the map.
    seen : bool
        Whether it was read in the original; the others were read in tables and names of their published form.
    choices : tuple of str
        Maps of which a user has to choose one.
    stamped : bool
        Whether its file names hold the time of collection; see `data.sessions`.
    further : str
        A map that reads it otherwise, on request.
    """

    name: str
    about: str
    recognised: str
    labels: str
    terms: str
    columns: frozenset[str] = field(default_factory=frozenset)
    files: re.Pattern | None = None
    folder_path: str = ""
    seen: bool = False
    choices: tuple[str, ...] = ()
    stamped: bool = False
    further: str = ""

    @functools.cached_property
    def map(self) -> LabelMap:
        """The label map, parsed."""
        return parse_map(self.labels) if self.labels else LabelMap()

    @property
    def unlike(self) -> str:
        """Why a file is rejected whose name is not of this form."""
        return f"name is not of the form of {self.about}: {self.recognised.replace('`', '')}"


GREY = Form(
    "grey-csv",
    "the 48 x 48 CSV",
    "a CSV with the columns age, gender, ethnicity and pixels",
    "gender: {0: male, 1: female}, ethnicity: {0: White, 1: Black, 2: Asian, 3: Indian, 4: Other}",
    "grey faces of UTKFace; its terms",
    columns=frozenset(("age", "gender", "ethnicity", "pixels")),
    seen=True,
    stamped=True,
)
UTKFACE = Form(
    "utkface",
    "a UTKFace folder",
    "file names `[age]_[gender]_[ethnicity]_[time].jpg`, in which a label may be missing",
    r"name: '(?P<age>\d{0,3})_(?P<gender>\d?)_(?:(?P<ethnicity>\d?)_.+|\d{8,}.*)', "
    "gender: {0: male, 1: female}, ethnicity: {0: White, 1: Black, 2: Asian, 3: Indian, 4: Other}",
    "https://susanqq.github.io/UTKFace; non-commercial research only",
    seen=True,
    stamped=True,
)
FORMS = (
    GREY,
    Form(
        "fairface",
        "FairFace's table or folder",
        "the columns file, age, gender, race and service_test; `fairface_label_train.csv` in the folder",
        f"path: file, age: age, gender: gender, race: {{column: race, sensitive: true, classes: {FAIRFACE_CLASSES}}}",
        "https://github.com/joojs/fairface; CC BY 4.0",
        columns=frozenset(("file", "age", "gender", "race", "service_test")),
        files=re.compile(r"fairface_label_\w+\.csv"),
        seen=True,
        further=FIVE_CLASSES,
    ),
    Form(
        "appa-real",
        "APPA-REAL's tables or folder",
        "the columns file_name, real_age and apparent_age_avg; `gt_avg_train.csv` in the folder",
        "path: file_name",
        "https://chalearnlap.cvc.uab.cat/dataset/26/description; research only",
        columns=frozenset(("file_name", "real_age", "apparent_age_avg")),
        files=re.compile(r"gt_avg_(?P<part>train|valid|test)\.csv"),
        folder_path="{part}/{file_name}_face.jpg",
        choices=("age: real_age", "age: apparent_age_avg"),
    ),
    Form(
        "adience",
        "Adience's folds",
        "the columns user_id, original_image, face_id, age and gender; `fold_0_data.txt` in the folder",
        "path: 'faces/{user_id}/coarse_tilt_aligned_face.{face_id}.{original_image}'",
        "https://talhassner.github.io/home/projects/Adience/Adience-data.html; research only",
        columns=frozenset(("user_id", "original_image", "face_id", "age", "gender")),
        files=re.compile(r"fold_(?:frontal_)?\d_data\.txt"),
    ),
    Form(
        "imdb-wiki",
        "IMDB-WIKI's metadata or folder",
        "`wiki.mat` or `imdb.mat`, a struct with dob, photo_taken, full_path and gender (1 male)",
        "path: full_path, age: {born: dob, taken: photo_taken}, gender: {0: female, 1: male}",
        "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki; academic research only",
        columns=frozenset(("dob", "photo_taken", "full_path", "gender")),
        files=re.compile(r"(?:imdb|wiki)\.mat"),
    ),
    Form(
        "celeba",
        "CelebA's attribute list",
        "the columns Male, Young and 5_o_Clock_Shadow, -1 or 1; `list_attr_celeba.txt` or `.csv` in the folder",
        "path: image_id, gender: {column: Male, -1: female, 1: male}",
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html; non-commercial research only",
        columns=frozenset(("image_id", "male", "young", "5_o_clock_shadow")),
        files=re.compile(r"list_attr_celeba\.(?:txt|csv)"),
        folder_path="img_align_celeba/{image_id}",
    ),
    Form(
        "lfw",
        "LFW's attribute scores",
        "the columns person, imagenum and Male; `lfw_attributes.txt` in the folder",
        "path: '{person}/{person}_{imagenum:04}.jpg', gender: {column: Male, unit: sign, -1: female, 1: male}",
        "https://www.cs.columbia.edu/CAVE/databases/pubfig/download; research only",
        columns=frozenset(("person", "imagenum", "male")),
        files=re.compile(r"lfw_attributes\.txt"),
    ),
    UTKFACE,
    Form(
        "agedb",
        "an AgeDB folder",
        "file names such as `16577_LeonardoDiCaprio_35_m.jpg`",
        r"name: '\d+_[^_]+_(?P<age>\d{1,3})_(?P<gender>[mf])\..+'",
        "https://ibug.doc.ic.ac.uk/resources/agedb; non-commercial research only",
    ),
    Form(
        "cacd",
        "a CACD folder",
        "file names such as `53_Robin_Williams_0001.jpg`",
        r"name: '(?P<age>\d{2})_\D.*_\d{4}\..+'",
        "https://bcsiriuschen.github.io/CARC; research only",
    ),
    Form(
        "fg-net",
        "an FG-NET folder",
        "file names such as `001A43a.JPG`",
        r"name: '\d{3}[Aa](?P<age>\d{2})[a-z]?\..+'",
        "https://yanweifu.github.io/FG_NET_data; research only",
    ),
    Form(
        "morph",
        "a folder with MORPH's names",
        "file names such as `009055_1M54.JPG`",
        r"name: '\d+_\d+(?P<gender>[MF])(?P<age>\d{2})\..+'",
        "https://uncw.edu/myuncw/research/innovation-commercialization/technology-portfolio/morph; by licence",
    ),
    Form(
        "imdb-wiki",
        "a folder with IMDB-WIKI's names",
        "file names such as `10000217_1981-05-05_2009.jpg`",
        r"name: '.*_(?P<born>\d{4}-\d{1,2}-\d{1,2})_(?P<taken>\d{4})\..+', age: {born: born, taken: taken}",
        "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki; academic research only",
    ),
)
FOLDERS = Form(
    "folders",
    "folders by class",
    "folders named for ages, bands or genders, such as `0-2/` or `male/`",
    "",
    "those of the pictures",
)
TABLE = Form(
    "table",
    "a table (.csv, .tsv, .txt or .parquet)",
    "a column of paths and a column of labels, or a label map",
    "",
    "those of the pictures",
    seen=True,
)
ALL_FORMS = (*FORMS, FOLDERS, TABLE)
KINDS = "a UTKFace folder, a published data set (`facelib formats` lists them) or a table (.csv, .tsv, .txt, .parquet)"
