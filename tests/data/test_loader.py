"""Datasets and loaders: the same batches for the same seed, whoever fetches them."""

from __future__ import annotations

import collections

import numpy as np
import pandas
import pytest
import torch
from data.noisy import Failing, Noisy

import backstory
from backstory import errors
from backstory.data import DataLoader, Subset, TensorDataset, default_collate, random_split


def epochs(loader, count=2):
    return [[(b["index"].tolist(), b["x"].tolist()) for b in loader] for _ in range(count)]


def loader(dataset, **kwargs):
    return DataLoader(dataset, 4, shuffle=True, generator=backstory.Generator(5), **kwargs)


@pytest.mark.parametrize("workers", [(1, "threads"), (3, "threads"), (2, "processes")])
def test_the_same_seed_gives_the_same_samples_with_any_workers(workers):
    count, kind = workers
    expected = epochs(loader(Noisy()))
    assert epochs(loader(Noisy(), num_workers=count, workers=kind)) == expected
    assert expected[0] != expected[1]
    assert sorted(i for indices, _ in expected[0] for i in indices) == list(range(23))


def test_fetching_leaves_the_threads_stream_where_the_order_left_it():
    def after(dataset):
        backstory.manual_seed(3)
        list(DataLoader(dataset, 4, shuffle=True))
        return backstory.rand(2).tolist()

    assert after(Noisy()) == after(TensorDataset(backstory.arange(23)))


@pytest.mark.parametrize("count", [0, 2])
def test_the_batches_of_an_epoch_can_begin_in_the_middle(count):
    whole = [b["x"].tolist() for b in loader(Noisy(), num_workers=count)]
    rest = [b["x"].tolist() for b in loader(Noisy(), num_workers=count).batches(start=2)]
    assert rest == whole[2:]


def test_an_epoch_that_is_left_early_leaves_no_worker_behind():
    import threading

    before = threading.active_count()
    batches = iter(loader(Noisy(), num_workers=2))
    next(batches)
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2}, {"num_workers": 1, "workers": "processes"}])
def test_what_a_sample_raises_is_raised(workers):
    with pytest.raises(ValueError, match="sample 7 is broken"):
        list(loader(Failing(), **workers))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("samples", [1, 9, 10, 11])
def test_lengths_and_batches_are_pytorchs(samples, drop_last):
    x = np.arange(samples, dtype=np.float32)
    mine = DataLoader(TensorDataset(x), batch_size=5, drop_last=drop_last)
    theirs = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(x)), batch_size=5, drop_last=drop_last
    )
    assert len(mine) == len(theirs)
    assert [b[0].tolist() for b in mine] == [b[0].tolist() for b in theirs]


Pair = collections.namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    "sample",
    [
        1,
        0.5,
        True,
        np.float32(2),
        np.ones((2, 3)),
        (np.ones(2), 1),
        [1, 2.0],
        {"a": np.arange(3), "b": (1, 2)},
        Pair(np.ones(1), 3),
        "word",
    ],
    ids=str,
)
def test_samples_are_joined_as_in_pytorch(sample):
    def plain(x):
        if isinstance(x, dict):
            return {key: plain(value) for key, value in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(part) for part in x]
        return x if isinstance(x, str) else (x.tolist(), str(x.dtype).removeprefix("torch."))

    mine, theirs = default_collate([sample, sample]), torch.utils.data.default_collate([sample, sample])
    assert plain(mine) == plain(theirs)
    assert hasattr(mine, "_fields") == hasattr(theirs, "_fields")


def test_samples_of_several_shapes_are_not_joined():
    with pytest.raises(errors.ShapeError, match=r"\(2,\), \(3,\)"):
        default_collate([np.ones(2), np.ones(3)])


def test_a_collate_function_of_ones_own_gets_the_samples():
    batches = DataLoader(TensorDataset(np.arange(4)), batch_size=2, collate_fn=len)
    assert list(batches) == [2, 2]


def test_a_tensor_dataset_shares_memory_and_keeps_dtypes():
    x, y = np.ones((3, 2)), np.arange(3)
    dataset = TensorDataset(x, y)
    x[1, 0] = 7.0
    features, label = dataset[1]
    assert (features.tolist(), label.item()) == ([7.0, 1.0], 1)
    assert (features.dtype, label.dtype) == (np.float64, np.int64)


def test_frames_and_series_of_pandas_are_taken():
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": ["x", "y"]})
    dataset = TensorDataset(frame[["a", "b"]], frame["b"])
    assert [t.tolist() for t in dataset[1]] == [[2.0, 4.0], 4]
    with pytest.raises(errors.DtypeError, match="holds more than numbers, in c"):
        TensorDataset(frame)


@pytest.mark.parametrize("tensors", [(np.ones(3), np.ones(2)), (np.float32(1),), ()])
def test_tensors_that_number_no_samples_together_are_refused(tensors):
    with pytest.raises(errors.BackstoryError, match="why:"):
        TensorDataset(*tensors)


@pytest.mark.parametrize("lengths", [[7, 3], [0.7, 0.3], [0.5, 0.25, 0.25], [1.0], [1 / 3, 1 / 3, 1 / 3]])
def test_a_split_has_pytorchs_lengths_and_every_sample_once(lengths):
    parts = random_split(range(10), lengths, backstory.Generator(1))
    theirs = torch.utils.data.random_split(range(10), lengths)
    assert [len(part) for part in parts] == [len(part) for part in theirs]
    assert sorted(part[i] for part in parts for i in range(len(part))) == list(range(10))
    again = random_split(range(10), lengths, backstory.Generator(1))
    assert [p.indices.tolist() for p in parts] == [p.indices.tolist() for p in again]


@pytest.mark.parametrize("lengths", [[5, 4], [0.5, 0.4], [11, -1]])
def test_a_split_into_other_than_all_samples_is_refused(lengths):
    with pytest.raises(errors.ArgumentError, match="10 samples"):
        random_split(range(10), lengths)


def test_a_part_of_a_part_hands_out_batches():
    dataset = TensorDataset(np.arange(10) * 10)
    part = Subset(Subset(dataset, [9, 5, 1]), [2, 0])
    assert [b[0].tolist() for b in DataLoader(part, batch_size=2)] == [[10, 90]]
    with pytest.raises(errors.BoundsError, match="index 10"):
        Subset(dataset, [10])


@pytest.mark.parametrize(
    "kwargs", [{"batch_size": 0}, {"batch_size": 2.0}, {"num_workers": -1}, {"workers": "fibres"}]
)
def test_loaders_that_make_no_sense_are_refused(kwargs):
    with pytest.raises(errors.ArgumentError, match="DataLoader"):
        DataLoader(TensorDataset(np.ones(2)), **kwargs)
