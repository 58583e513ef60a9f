"""Readers of files, on tiny files in the exact formats."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest

import backstory
from backstory import data, errors
from backstory.data import cifar, idx


def idx_bytes(array: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (5, 28, 28), np.uint8), np.array([3, 1, 4, 1, 5], np.uint8)


@pytest.fixture(params=["plain", "gzipped", "dotted"])
def mnist_folder(request, tmp_path, images):
    for name, array in zip(("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), images, strict=True):
        content = idx_bytes(array)
        if request.param == "dotted":
            name = name.replace("-idx", ".idx")
        if request.param == "gzipped":
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (tmp_path / name).write_bytes(content)
    return tmp_path


def test_idx_files_are_read(mnist_folder, images):
    dataset = data.mnist(mnist_folder, train=False, verify=False)
    assert len(dataset) == 5
    x, y = dataset[2]
    np.testing.assert_array_equal(x.numpy(), (images[0][2:3] / np.float32(255)).astype(np.float32))
    assert (y.item(), x.dtype, y.dtype) == (4, backstory.float32, backstory.int64)
    assert [t.shape for t in dataset.tensors] == [(5, 1, 28, 28), (5,)]
    batches = list(data.DataLoader(dataset, batch_size=2))
    assert [len(y) for _, y in batches] == [2, 2, 1]


def test_a_file_that_is_not_the_releases_is_refused_unless_told_otherwise(mnist_folder):
    with pytest.raises(errors.DataError, match=r"MD5|MNIST's has \(10000, 28, 28\)"):
        data.mnist(mnist_folder, train=False)


def test_a_release_is_read_with_its_checksum(tmp_path, images, monkeypatch):
    arrays = np.zeros((10000, 28, 28), np.uint8), np.zeros(10000, np.uint8)
    for name, array in zip(("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), arrays, strict=True):
        content = gzip.compress(idx_bytes(array), 1)
        (tmp_path / f"{name}.gz").write_bytes(content)
        monkeypatch.setitem(idx.RELEASE, name, hashlib.md5(content).hexdigest())
    assert len(data.mnist(tmp_path, train=False)) == 10000


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda c: c[:-1], "cut off"),
        (lambda c: c + b"x", "too long"),
        (lambda c: b"\x1f\x8b" + c[2:], "begins with 1f 8b"),
        (lambda c: c[:3], "begins with 00 00 08"),
        (lambda c: b"", "begins with nothing"),
        (lambda c: c[:3] + b"\x01" + c[4:], "with 3 axes"),
    ],
)
def test_a_damaged_idx_file_says_how(tmp_path, images, damage, match):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(damage(idx_bytes(images[0])))
    with pytest.raises(errors.DataError, match=match):
        data.mnist(tmp_path, verify=False)


def test_a_gzipped_file_that_is_cut_off_says_so(tmp_path, images):
    content = gzip.compress(idx_bytes(images[0]))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(errors.DataError, match="cannot be unpacked"):
        data.mnist(tmp_path, verify=False)


def test_labels_of_another_number_than_the_images_are_refused(tmp_path, images):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(images[0]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(images[1][:-1]))
    with pytest.raises(errors.DataError, match="5 images and 4 labels"):
        data.mnist(tmp_path, verify=False)


def test_a_missing_file_is_named_with_what_else_was_looked_for(tmp_path):
    with pytest.raises(errors.DataError, match=r"train-images-idx3-ubyte(.|\n)*\.gz(.|\n)*downloads nothing"):
        data.mnist(tmp_path)
    with pytest.raises(errors.DataError, match=r"data_batch_1(.|\n)*\.bin"):
        data.cifar10(tmp_path)


def python2_pickle(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 and its NumPy wrote it (protocol 2, str for bytes): names are bytes there."""
    content = pickle.dumps({b"data": images, b"labels": labels, b"batch_label": b"testing batch"}, protocol=2)
    return content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture
def batch(rng):
    return rng.integers(0, 256, (4, 3072), np.uint8), [0, 9, 3, 3]


def test_the_python_release_is_read(tmp_path, batch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for i in (1, 2):
        (folder / f"data_batch_{i}").write_bytes(python2_pickle(*batch))
    dataset = data.cifar10(tmp_path, verify=False)
    assert len(dataset) == 8
    assert dataset.classes[9] == "truck"
    x, y = dataset.tensors
    np.testing.assert_array_equal((x.numpy() * 255).round()[:4], batch[0].reshape(4, 3, 32, 32))
    assert y.tolist() == batch[1] * 2


def test_the_binary_release_is_the_same_data(tmp_path, batch):
    records = np.concatenate([np.array(batch[1], np.uint8)[:, None], batch[0]], axis=1)
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    (tmp_path / "py").mkdir()
    (tmp_path / "py" / "test_batch").write_bytes(python2_pickle(*batch))
    for kind in (backstory.float32, backstory.float64):
        binary = data.cifar10(tmp_path, train=False, verify=False, dtype=kind).tensors
        python = data.cifar10(tmp_path / "py", train=False, verify=False, dtype=kind).tensors
        for a, b in zip(binary, python, strict=True):
            assert a.equal(b)
        assert binary[0].dtype == kind


def test_a_release_of_cifar_is_checked_by_checksum_and_by_size(tmp_path, batch, monkeypatch):
    content = python2_pickle(*batch)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(errors.DataError, match="MD5"):
        data.cifar10(tmp_path, train=False)
    monkeypatch.setitem(cifar.RELEASE, "test_batch", hashlib.md5(content).hexdigest())
    with pytest.raises(errors.DataError, match=r"4 images(.|\n)*has 10000"):
        data.cifar10(tmp_path, train=False)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda c: c[: len(c) // 2], "cut off"),
        (lambda c: b"", "cut off"),
        (lambda c: b"not a pickle", "no batch of CIFAR-10"),
        (lambda c: pickle.dumps([1, 2]), "no batch of CIFAR-10"),
        (lambda c: pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [1, 2]}), r"\(2, 5\)"),
        (lambda c: pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [11]}), "label of 11"),
        (lambda c: b"cos\nsystem\n(S'true'\ntR.", "wants to call os.system"),
    ],
)
def test_what_is_no_batch_of_cifar_is_refused_and_nothing_of_it_is_run(tmp_path, batch, content, match):
    (tmp_path / "test_batch").write_bytes(content(python2_pickle(*batch)))
    with pytest.raises(errors.DataError, match=match):
        data.cifar10(tmp_path, train=False, verify=False)


def test_a_binary_file_that_is_cut_off_is_refused(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073 * 2 - 1))
    with pytest.raises(errors.DataError, match="6145 bytes"):
        data.cifar10(tmp_path, train=False, verify=False)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = data.digits(dtype=backstory.float64).tensors
    np.testing.assert_array_equal(x.numpy(), images / 16.0)
    np.testing.assert_array_equal(y.numpy(), labels)
    x.numpy()[:] = 0.0
    assert data.digits().tensors[0].numpy().any()


def write(tmp_path, text):
    file = tmp_path / "table.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "arguments", "columns", "features", "target", "classes"),
    [
        ("1,2,0\n3,4,1\n", {}, ["0", "1"], [[1, 2], [3, 4]], [0, 1], None),
        ("a,b,y\n1,2,0.5\n3,4,1\n", {}, ["a", "b"], [[1, 2], [3, 4]], [0.5, 1.0], None),
        ("a,b,y\n1,2,x\n3,4,w\n\n", {}, ["a", "b"], [[1, 2], [3, 4]], [1, 0], ["w", "x"]),
        ("a;b;y\n1;2;3\n", {"target": "a", "delimiter": ";"}, ["b", "y"], [[2, 3]], [1], None),
        ("\ufeffa,b\n1e3, -2\n", {"target": 0}, ["b"], [[-2]], [1000.0], None),
        ('"a","b"\n"1","2"\n', {}, ["a"], [[1]], [2], None),
    ],
)
def test_a_csv_file_is_read(tmp_path, text, arguments, columns, features, target, classes):
    table = data.csv(write(tmp_path, text), **arguments)
    assert (table.columns, table.classes) == (columns, classes)
    assert [t.tolist() for t in table.tensors] == [features, target]
    assert table.tensors[0].dtype == backstory.float32


@pytest.mark.parametrize(
    ("text", "arguments", "match"),
    [
        ("a,b,y\n1,2,3\n1,2\n", {}, "line 3: 2 columns"),
        ("a,b,y\n1,2,3\n1,,3\n", {}, "line 3, column b: ''(.|\n)*missing"),
        ("a,b,y\n1,2,3\n1,red,3\n", {}, "line 3, column b: 'red'"),
        ("a,b,y\n1,2,3\n1,2,\n", {}, "line 3, column y: empty"),
        ("a,b\n1,2\n", {"target": "c"}, "its columns are a, b"),
        ("a,b\n1,2\n", {"target": 2}, "its columns are a, b"),
        ("a;b\n1;2\n", {}, "rows of one column"),
        ("", {}, "no rows"),
    ],
)
def test_a_csv_file_that_cannot_be_used_says_where(tmp_path, text, arguments, match):
    with pytest.raises(errors.DataError, match=match):
        data.csv(write(tmp_path, text), **arguments)


def test_a_csv_file_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(errors.DataError, match="cannot be read"):
        data.csv(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01,2")
    with pytest.raises(errors.DataError, match="cannot be read"):
        data.csv(tmp_path / "binary.csv")
