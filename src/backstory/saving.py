"""Saving and loading in safetensors: tensors as they are, everything around them as JSON, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backstory.errors import ArgumentError, DataError, DtypeError
from backstory.tensor import Tensor, as_tensor

__all__ = ["load", "save"]

NOTES = "backstory.structure"
DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


def save(content: Any, path: str | Path) -> Path:
    """Write ``content`` to the file ``path``, whole or not at all; returns the path.

    A flat dict of tensors, as ``model.state_dict()`` is, becomes a plain safetensors file that any library
    reads. Tensors and arrays may also stand within dicts, lists and tuples beside numbers, words, ``None``
    and booleans, as in ``optimizer.state_dict()``.

    >>> import tempfile, backstory
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save({"weight": backstory.ones(2), "step": 3}, Path(folder) / "state.safetensors")
    ...     load(file)
    {'weight': tensor([1., 1.]), 'step': 3}
    """
    from safetensors.numpy import save_file

    file = Path(path)
    arrays: dict[str, np.ndarray] = {}
    structure = _described(content, "", arrays)
    flat = isinstance(content, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )
    part = file.with_name(file.name + ".part")
    try:
        save_file(arrays, part, metadata=None if flat else {NOTES: json.dumps(structure)})
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file


def load(path: str | Path) -> Any:
    """Read what :func:`save` wrote, or any other safetensors file as a dict of tensors by name.

    So a PyTorch model's ``state_dict`` that was saved with ``safetensors.torch.save_file`` can be given to
    ``load_state_dict`` of the same architecture here. bfloat16, which NumPy lacks, becomes float32 without
    loss.
    """
    from safetensors import SafetensorError, deserialize

    file = Path(path)
    try:
        content = file.read_bytes()
        found = deserialize(content)
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(
            f"load({str(file)!r})",
            why=f"it is missing, cut off or no safetensors file: {error}",
            instead="a file of backstory.save() or safetensors; a pickled .pt file is turned into one in "
            "PyTorch with safetensors.torch.save_file(model.state_dict(), path)",
        ) from error
    tensors = {name: as_tensor(_array(file, name, entry)) for name, entry in found}
    notes = head.get("__metadata__", {}).get(NOTES)
    return tensors if notes is None else _rebuilt(json.loads(notes), tensors)


def _array(file: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    kind, data, shape = entry["dtype"], entry["data"], entry["shape"]
    if kind == "BF16":  # the upper half of a float32
        upper = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return upper.view(np.float32).reshape(shape)
    if kind not in DTYPES:
        raise DtypeError(
            f"{file.name}: {name} is of {kind}",
            why="tensors here have NumPy's dtypes",
            instead="float32 in the file: {name: x.float() for name, x in state.items()}",
        )
    return np.frombuffer(data, "<" + DTYPES[kind]).reshape(shape).astype(DTYPES[kind])


def _described(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """``value`` as JSON, with its tensors put into ``arrays`` under their place."""
    if isinstance(value, (Tensor, np.ndarray)):
        plain = value.detach().array if isinstance(value, Tensor) else value
        arrays[place] = np.asarray(plain, order="C")
        return {"tensor" if isinstance(value, Tensor) else "array": place}
    if isinstance(value, Mapping):
        pairs = [[key, _described(v, _join(place, key), arrays)] for key, v in value.items()]
        if all(isinstance(key, (str, int)) for key in value):
            return {"dict": pairs}
    elif isinstance(value, (list, tuple)):
        parts = [_described(v, _join(place, i), arrays) for i, v in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": parts}
    elif isinstance(value, np.generic):
        return value.item()
    elif value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ArgumentError(
        f"save() met {type(value).__name__} at {place or 'the top'}",
        why="it writes tensors, numbers and words in lists, tuples and dicts with words or integers as keys",
        instead="a state_dict()",
    )


def _join(place: str, key: Any) -> str:
    return f"{place}/{key}" if place else str(key)


def _rebuilt(described: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(described, dict):
        return described
    ((kind, content),) = described.items()
    if kind == "dict":
        return {key: _rebuilt(value, tensors) for key, value in content}
    if kind in ("list", "tuple"):
        parts = [_rebuilt(part, tensors) for part in content]
        return tuple(parts) if kind == "tuple" else parts
    return tensors[content] if kind == "tensor" else tensors[content].array
