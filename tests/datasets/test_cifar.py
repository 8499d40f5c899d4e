import io
import tarfile

import numpy as np
import pytest

from badrjax.datasets import load_dataset, split
from badrjax.datasets.cifar import CIFAR10, CIFAR10_ARCHIVE, CIFAR10_SUBSET, CIFAR100, CIFAR100_ARCHIVE

NAMES = {"cifar10": ("plane", "car", "cat"), "cifar100": ("apple", "fish", "bear")}


def images(seed, num_images):
    """Red, green and blue planes of random images."""
    return np.random.default_rng(seed).integers(0, 256, (num_images, 3, 32, 32), np.uint8)


def records(planes, classes, label_bytes):
    coarse = np.full((len(classes), label_bytes - 1), 9, np.uint8)
    return np.concatenate([coarse, np.array(classes, np.uint8)[:, None], planes.reshape(len(planes), -1)], 1).tobytes()


def tar(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


CLASSES = [0, 1, 2, 0, 0, 1, 0, 2]  # of each of the training batches


def ten(**changes):
    members = {
        f"cifar-10-batches-bin/data_batch_{i}.bin": records(images(i, len(CLASSES)), CLASSES, 1) for i in range(1, 6)
    }
    members["cifar-10-batches-bin/test_batch.bin"] = records(images(6, 4), [1, 0, 2, 1], 1)
    members["cifar-10-batches-bin/batches.meta.txt"] = "\n".join(NAMES["cifar10"]).encode() + b"\n"
    return {CIFAR10_ARCHIVE.path: tar(members | changes)}


def hundred():
    return {
        CIFAR100_ARCHIVE.path: tar(
            {
                "cifar-100-binary/train.bin": records(images(1, len(CLASSES)), CLASSES, 2),
                "cifar-100-binary/test.bin": records(images(6, 4), [1, 0, 2, 1], 2),
                "cifar-100-binary/fine_label_names.txt": "\n".join(NAMES["cifar100"]).encode() + b"\n",
            }
        )
    }


def prepare(entry, contents, classes, share=0.75, num_train=None):
    return entry.prepare(contents, variant="default", classes=classes, majority_share=share, num_train=num_train)


@pytest.mark.parametrize(
    ("entry", "contents", "common"), [(CIFAR10, ten, 20), (CIFAR100, hundred, 4)], ids=["10", "100"]
)
def test_binary_version_is_read_as_it_is_defined(entry, contents, common):
    names = NAMES[entry.name]
    prepared = prepare(entry, contents(), names[:2])
    rare = round(common / 3)
    assert prepared.label.tolist()[-3:] == [True, False, True]  # the test part, whole and in its order
    assert prepared.label[:-3].sum() == rare
    assert (~prepared.label[:-3]).sum() == common
    pixels = prepared.features.x.reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(pixels[0], images(1, len(CLASSES))[0].transpose(1, 2, 0) / np.float32(255))
    np.testing.assert_array_equal(pixels[-1], images(6, 4)[3].transpose(1, 2, 0) / np.float32(255))
    assert prepared.features.names[:4] == ("red_0_0", "green_0_0", "blue_0_0", "red_0_1")
    assert prepared.attributes["class"].values.text()[[0, -1]].tolist() == list(names[:2])
    assert prepared.domains["part"].text().tolist() == ["train"] * (common + rare) + ["test"] * 3


@pytest.mark.parametrize(
    ("share", "num_train", "counts"), [(0.9, None, (20, 2)), (0.5, None, (10, 10)), (0.75, 8, (6, 2))]
)
def test_training_part_has_the_share_asked_for(share, num_train, counts):
    prepared = prepare(CIFAR10, ten(), ("plane", "car"), share, num_train)
    train = prepared.domains["part"].text() == "train"
    assert ((~prepared.label[train]).sum(), prepared.label[train].sum()) == counts


def test_classes_can_be_turned():
    turned = prepare(CIFAR10, ten(), ("car", "plane"), 0.5)
    plain = prepare(CIFAR10, ten(), ("plane", "car"), 0.5)
    np.testing.assert_array_equal(turned.label, ~plain.label)
    np.testing.assert_array_equal(turned.features.x, plain.features.x)


def test_classes_by_number_are_those_by_name():
    named, numbered = (prepare(CIFAR10, ten(), classes, 0.5) for classes in (("car", "plane"), ("1", "0")))
    assert numbered.positive == "plane"
    np.testing.assert_array_equal(named.features.x, numbered.features.x)
    np.testing.assert_array_equal(named.attributes["class"].values.text(), numbered.attributes["class"].values.text())


@pytest.mark.parametrize(
    ("contents", "keywords", "message"),
    [
        (ten(), {"classes": ("plane", "boat")}, "unknown class of cifar10 'boat'"),
        (ten(), {"classes": ("plane", "3")}, "has classes 0 to 2, got 3"),
        (ten(), {"classes": ("plane", "0")}, "got 'plane' twice"),
        (ten(), {"classes": ("plane", "car"), "num_train": 100}, "has 20 training images of 'plane', .* asks for 75"),
        (ten(), {"classes": ("plane", "car"), "share": 0.99, "num_train": 10}, "'car', .* asks for 0"),
        (
            ten(**{"cifar-10-batches-bin/test_batch.bin": b"123"}),
            {"classes": ("plane", "car")},
            r"test_batch\.bin has no whole number of images",
        ),
        (
            ten(**{"cifar-10-batches-bin/test_batch.bin": records(images(0, 1), [7], 1)}),
            {"classes": ("plane", "car")},
            "has class 7 of 3",
        ),
        ({CIFAR10_ARCHIVE.path: b"<html></html>"}, {"classes": ("plane", "car")}, "not a whole zip or tar archive"),
        ({CIFAR10_ARCHIVE.path: tar({"other": b""})}, {"classes": ("plane", "car")}, r"has no file .*batches\.meta"),
    ],
)
def test_what_is_wrong_is_said(contents, keywords, message):
    with pytest.raises(ValueError, match=message):
        prepare(CIFAR10, contents, **keywords)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "cat"}, "two different classes"),
        ({"classes": "cat,cat"}, "two different classes"),
        ({"majority_share": 1}, r"must lie in \[0.5, 1\)"),
        ({"majority_share": 0.2}, r"must lie in \[0.5, 1\)"),
        ({"num_train": 1}, "at least 2"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("cifar10", **options)


def test_stored_subset(real_data):
    dataset = load_dataset("cifar10", classes="cat,dog", majority_share="0.9", data_home=real_data)
    assert dataset.feature_shape == (32, 32, 3)
    assert dataset.group_names == ("cat", "dog")
    splits = split(dataset, "domain", domain="part", train="train", test="test")
    assert np.bincount(dataset.y[splits.train]).tolist() == [660, 73]
    assert np.bincount(dataset.y[splits.test]).tolist() == [200, 200]
    with np.load(real_data / CIFAR10_SUBSET.path) as arrays:
        cats = arrays["x_train"][arrays["y_train"] == 3]
        mean = arrays["x_train"].reshape(-1, 3).mean(0)
    images_of_cats = dataset.x[splits.train][dataset.y[splits.train] == 0].reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(images_of_cats, cats / np.float32(255))
    # Near the means of the full set, 125.31, 122.95 and 113.87, of which this is the first 13 %.
    np.testing.assert_allclose(mean, [125.31, 122.95, 113.87], atol=1.5)
