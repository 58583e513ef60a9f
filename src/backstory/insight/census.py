"""The census: follows every unit from scan to scan, and certifies deaths.

Between two scans stands one update or several. Of one update each death gets its terms (gradient,
momentum, weight decay); of several only the shares of weights, bias and inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backstory.insight.certificate import Certificate, decompose
from backstory.insight.lifetable import DIED, Event, events_between
from backstory.insight.scan import SiteScan
from backstory.insight.source import Asked, Front, Layer, Source
from backstory.insight.updates import Before

__all__ = ["Census", "Found"]


@dataclass
class Found:
    """What one scan showed: the sites and their states, what changed since the last, certificates."""

    step: int
    sites: dict[str, SiteScan]
    events: list[Event] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)


class Census:
    """Scans ``source``; with ``certify`` it remembers the network at each scan, to explain deaths."""

    def __init__(self, source: Source, certify: bool) -> None:
        self._source, self._certify = source, certify
        self._seen: dict[str, tuple[int, SiteScan]] = {}
        self._step = 0
        self._values: Any = None
        self._before: Mapping[str, Before] = {}

    def before_step(self) -> None:
        """A scan will follow the coming update: if one preceded it, remember what the update is made of."""
        if self._certify and self._source.step == self._step:
            self._before = self._source.before()

    def take(self) -> Found:
        """Scan now."""
        step = self._source.step
        found = Found(step, self._source.scan(peaks=self._certify))
        died: list[tuple[Asked, int]] = []
        for name, site in found.sites.items():
            after, before = self._seen.get(name, (0, None))
            was = None if before is None else before.states
            for unit, kind in events_between(was, site.states, step):
                found.events.append(Event(name, unit, kind, step, after))
                if kind == DIED and before is not None and before.sample is not None:
                    died.append((Asked(name, unit, int(before.sample[unit])), after))
            self._seen[name] = (step, site)
        if died:
            found.certificates = list(self._certificates(step, died))
        if self._certify:
            self._values, self._before, self._step = self._source.values(), {}, step
        return found

    def _certificates(self, step: int, died: list[tuple[Asked, int]]) -> Iterable[Certificate]:
        asked = [one for one, after in died if after == self._step]
        old = self._source.fronts(asked, self._values)
        new = self._source.fronts(
            [one._replace(row=front.row) for one, front in zip(asked, old, strict=True)]
        )
        for one, was, now in zip(asked, old, new, strict=True):
            yield self._certificate(step, one, was, now)

    def _certificate(self, step: int, asked: Asked, old: Front, new: Front) -> Certificate:
        base: dict[str, Any] = {
            "site": asked.site,
            "unit": asked.unit,
            "step": step,
            "since": self._step,
            "sample": asked.sample,
            "before": old.z,
            "after": new.z,
            "at_zero": old.at_zero,
        }
        if old.layer is None or new.layer is None:
            return Certificate(**base, note=old.note or new.note)
        notes: list[str] = []
        single = step - self._step == 1
        weights, bias, inputs = decompose(
            (old.layer.w, old.layer.b, old.layer.x),
            (new.layer.w, new.layer.b, new.layer.x),
            self._terms(old.layer.weight, old.layer, new.layer.w, old.layer.w, notes) if single else None,
            self._terms(old.layer.bias, old.layer, new.layer.b, old.layer.b, notes) if single else None,
        )
        if not single:
            notes.append(f"{step - self._step} updates together")
        scale = old.scale
        return Certificate(
            **base,
            weights={key: scale * part for key, part in weights.items()},
            bias={key: scale * part for key, part in bias.items()} if new.layer.biased else {},
            inputs=scale * inputs,
            others=_others(old, new),
            note="; ".join(notes),
        )

    def _terms(
        self, name: str | None, layer: Layer, new: Any, old: Any, notes: list[str]
    ) -> dict[str, Any] | None:
        """The terms of one unit's share of an update; ``None``, and a note, where they are not known."""
        before = None if name is None else self._before.get(name)
        if before is None:
            if np.array_equal(old, new, equal_nan=True):
                return {}
            note = "a weight that is computed from parameters is not split into terms"
        else:
            terms = before.terms(layer.unit)
            if terms is not None:
                return terms if np.ndim(old) else {key: term.item() for key, term in terms.items()}
            note = f"{before.optimizer}'s update is not split into its terms"
        if note not in notes:
            notes.append(note)
        return None


def _others(old: Front, new: Front) -> dict[str, float]:
    """What a normalisation in between, and another branch, added to the change."""
    found: dict[str, float] = {}
    assert new.layer is not None
    if old.shift is not None and new.shift is not None:
        u = float(np.dot(new.layer.w.astype(np.float64), new.layer.x.astype(np.float64)) + new.layer.b)
        found["normalisation"] = (new.scale - old.scale) * u + (new.shift - old.shift)
    if old.skip is not None and new.skip is not None:
        found["skip"] = new.skip - old.skip
    return found
