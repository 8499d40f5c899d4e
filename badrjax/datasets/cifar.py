"""CIFAR-10 and CIFAR-100: two classes of images, one much rarer than the other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from badrjax.checks import unknown_name
from badrjax.datasets.archives import read_members
from badrjax.datasets.entry import Attribute, Entry, Option, Prepared
from badrjax.datasets.files import DataFile
from badrjax.datasets.tables import Features, categories

SIDE, CHANNELS = 32, 3
_PIXELS = SIDE * SIDE * CHANNELS
_SITE = "https://www.cs.toronto.edu/~kriz/"

CIFAR10_ARCHIVE = DataFile(
    "cifar10/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    _SITE + "cifar-10-binary.tar.gz",
)
# The first 660 training and 200 test images of each class, in the official order.
CIFAR10_SUBSET = DataFile(
    "cifar10/cifar10_10class_6600_2000.npz", "2c98576ec7c0f813ce85270d8360663f587d55cf601fdc1a888c21da332455a2"
)
CIFAR100_ARCHIVE = DataFile(
    "cifar100/cifar-100-binary.tar.gz",
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    _SITE + "cifar-100-binary.tar.gz",
)


class Images(NamedTuple):
    """One official part of a CIFAR dataset.

    Attributes:
        pixels: red, green and blue from 0 to 255, `u8[n, 32, 32, 3]`.
        classes: position of each image's class among `names`, `int[n]`.
        names: names of the classes.
    """

    pixels: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]


def read_cifar10(contents: Mapping[str, bytes]) -> dict[str, Images]:
    """The "train" and "test" part, from the official archive or from the subset."""
    if CIFAR10_SUBSET.path in contents:
        with np.load(io.BytesIO(contents[CIFAR10_SUBSET.path]), allow_pickle=False) as arrays:
            names = tuple(arrays["class_names"].tolist())
            return {part: Images(arrays[f"x_{part}"], arrays[f"y_{part}"], names) for part in ("train", "test")}
    folder = "cifar-10-batches-bin/"
    parts = {"train": [f"{folder}data_batch_{i}.bin" for i in range(1, 6)], "test": [f"{folder}test_batch.bin"]}
    return _read_binary(contents, CIFAR10_ARCHIVE.path, parts, f"{folder}batches.meta.txt", label_bytes=1)


def read_cifar100(contents: Mapping[str, bytes]) -> dict[str, Images]:
    """The "train" and "test" part with the fine classes."""
    folder = "cifar-100-binary/"
    parts = {part: [f"{folder}{part}.bin"] for part in ("train", "test")}
    return _read_binary(contents, CIFAR100_ARCHIVE.path, parts, f"{folder}fine_label_names.txt", label_bytes=2)


def prepare(
    contents: Mapping[str, bytes],
    *,
    variant: str,
    read: Any,
    archive: str,
    classes: tuple[str, str],
    majority_share: float,
    num_train: int | None,
) -> Prepared:
    """Two classes as groups and as labels, the second the rare one of the training part.

    The images of each class are the first of the official order, so no seed is needed; the test part is kept
    whole. Pixels are scaled to [0, 1], a rule that looks at no other image. A class may be given by its number, too.
    """
    del variant
    parts: dict[str, Images] = read(contents)
    first, second = (_name_of_class(parts["train"], asked, archive) for asked in classes)
    if first == second:
        raise ValueError(f"classes must name two different classes of {archive}, got {first!r} twice")
    classes = (first, second)
    rows = {
        "train": _imbalanced(parts["train"], classes, majority_share, num_train, archive),
        "test": np.sort(np.concatenate([_of_class(parts["test"], name, archive) for name in classes])),
    }
    pixels = np.concatenate([parts[part].pixels[chosen] for part, chosen in rows.items()])
    label = np.concatenate([parts[part].classes[chosen] for part, chosen in rows.items()])
    label = label == _position(parts["train"], classes[1], archive)
    origin = np.concatenate([np.full(chosen.size, part) for part, chosen in rows.items()])
    x = (pixels.reshape(len(pixels), _PIXELS) / np.float32(255)).astype(np.float32)
    names = tuple(f"{c}_{i}_{j}" for i in range(SIDE) for j in range(SIDE) for c in ("red", "green", "blue"))
    return Prepared(
        features=Features(x, names, names),
        label=label,
        label_name="class",
        positive=classes[1],
        attributes={"class": Attribute(categories(np.where(label, classes[1], classes[0])), ())},
        domains={"part": categories(origin)},
        feature_shape=(SIDE, SIDE, CHANNELS),
    )


def _imbalanced(
    images: Images, classes: tuple[str, str], majority_share: float, num_train: int | None, archive: str
) -> np.ndarray:
    """Training rows with the asked share of the first class; as many as there are unless a number is given."""
    common, rare = (_of_class(images, name, archive) for name in classes)
    ratio = (1 - majority_share) / majority_share
    if num_train is None:
        num_common = min(common.size, int(rare.size / ratio))
        num_rare = max(1, round(num_common * ratio))
    else:
        num_common = round(num_train * majority_share)
        num_rare = num_train - num_common
    for name, wanted, there in ((classes[0], num_common, common.size), (classes[1], num_rare, rare.size)):
        if not 1 <= wanted <= there:
            raise ValueError(
                f"{archive} has {there} training images of {name!r}, and majority_share={majority_share} with "
                f"num_train={num_train} asks for {wanted}; choose others"
            )
    return np.sort(np.concatenate([common[:num_common], rare[:num_rare]]))


def _of_class(images: Images, name: str, archive: str) -> np.ndarray:
    return np.flatnonzero(images.classes == _position(images, name, archive))


def _name_of_class(images: Images, asked: str, archive: str) -> str:
    """The name of a class given by its name, or by its number from 0."""
    if asked in images.names or not asked.isdecimal():
        return asked
    if int(asked) >= len(images.names):
        raise ValueError(f"{archive} has classes 0 to {len(images.names) - 1}, got {asked}")
    return images.names[int(asked)]


def _position(images: Images, name: str, archive: str) -> int:
    if name not in images.names:
        raise unknown_name(f"class of {archive}", name, images.names)
    return images.names.index(name)


def _read_binary(
    contents: Mapping[str, bytes], path: str, parts: Mapping[str, list[str]], meta: str, label_bytes: int
) -> dict[str, Images]:
    members = read_members(contents[path], [meta, *(name for names in parts.values() for name in names)], path)
    classes = tuple(members[meta].decode("ascii").split())
    return {
        part: _decode(b"".join(members[name] for name in names), f"{path}: {names[0]}", label_bytes, classes)
        for part, names in parts.items()
    }


def _decode(content: bytes, where: str, label_bytes: int, names: tuple[str, ...]) -> Images:
    """Records of the binary version: the label (the fine one last), then three planes of 32 by 32 pixels."""
    width = label_bytes + _PIXELS
    if not content or len(content) % width:
        raise ValueError(f"{where} has no whole number of images; get the official archive")
    records = np.frombuffer(content, np.uint8).reshape(-1, width)
    classes = records[:, label_bytes - 1]
    if classes.max() >= len(names):
        raise ValueError(f"{where} has class {classes.max()} of {len(names)}; get the official archive")
    planes = records[:, label_bytes:].reshape(-1, CHANNELS, SIDE, SIDE)
    return Images(planes.transpose(0, 2, 3, 1), classes, names)


def _two_classes(value: Any) -> tuple[str, str]:
    if isinstance(value, set | frozenset):
        raise TypeError(f"classes must name two classes in order, and a set has none: {value!r}")
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    names = tuple(str(name).strip() for name in given)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"classes must name two different classes, the common one first, got {value!r}")
    return names[0], names[1]


def _share(value: Any) -> float:
    share = _number(value)
    if not 0.5 <= share < 1:
        raise ValueError(f"majority_share must lie in [0.5, 1), got {value!r}")
    return share


def _num_train(value: Any) -> int | None:
    if value is None or value == "all":
        return None
    number = _number(value)
    if not (number >= 2 and number.is_integer()):
        raise ValueError(f"num_train must be a whole number, at least 2, got {value!r}")
    return int(number)


def _number(value: Any) -> float:
    """A number, or the text of one from the shell; NaN for anything else, which no range holds."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _entry(name: str, title: str, read: Any, files: Any, classes: tuple[str, str], share: float) -> Entry:
    return Entry(
        name=name,
        title=title,
        prepare=partial(prepare, read=read, archive=name),
        variants={"default": "pixels from 0 to 1, the training part imbalanced, the test part whole"},
        sensitive={"class": "the two classes, which are also the label"},
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated",
        citation="Krizhevsky, A. (2009). Learning Multiple Layers of Features from Tiny Images",
        files=files,
        options={
            "classes": Option(classes, "the two classes, the common one first", check=_two_classes),
            "majority_share": Option(share, "share of the common class among the training images", check=_share),
            "num_train": Option(
                None, "number of training images; all that the share allows if not given", check=_num_train
            ),
        },
        positive="the rare class (neither good nor bad)",
    )


CIFAR10 = _entry(
    "cifar10",
    "photographs of two of ten classes, 32 by 32 pixels; label: the rare class",
    read_cifar10,
    ((CIFAR10_ARCHIVE,), (CIFAR10_SUBSET,)),
    ("airplane", "automobile"),
    0.99,
)
CIFAR100 = _entry(
    "cifar100",
    "photographs of two of a hundred classes, 32 by 32 pixels; label: the rare class",
    read_cifar100,
    ((CIFAR100_ARCHIVE,),),
    ("apple", "aquarium_fish"),
    0.95,
)

ENTRIES = (CIFAR10, CIFAR100)
