"""The words in the pictures, in one place for translation."""

from __future__ import annotations

__all__ = ["WORDS"]

WORDS = {
    "alive": "Units alive",
    "alive of": "{site}  {alive} of {units}",
    "loss": "Loss before each update",
    "log": "{title} (log)",
    "step": "step",
    "fatal": "step {step}: {lost} fewer alive",
    "fatal between": "steps {after} to {step}: {lost} fewer alive",
    "no scans": "no scan of the declared data",
    "no losses": "no losses recorded",
    "as it was": "as it was: median {median}, {dead} dead",
    "with change": "with the change",
    "change": "median {median}, {dead} dead",
    "no outcomes": "no outcomes: run.counterfactuals(…) finds them",
    "unit": "unit, by time of last opening",
    "open share": "share of the batch open",
    "dead": "dead",
    "dead between": "dead or dying (between two scans)",
    "no gates": "no gates recorded",
    "gradient norms": "‖gradient‖",
    "update ratios": "‖update‖ ÷ ‖weights‖",
    "usual": "10⁻³, usual",
    "edges": "• exactly 0   × not finite",
    "no steps": "no updates recorded",
    "itself": "(model)",
    "graph picture": "The graph of a computation, with values and gradients",
    "graph key": (
        "black: value  ·  blue: gradient, and upstream × local along the edges  ·  dashed: nothing flows back"
    ),
    "derivative": "derivative",
    "pieces": "{pieces} straight pieces, {breaks} breakpoints",
    "gate open": "gate open",
    "gate closed": "gate closed",
    "gates open": "open for {open} of {count}",
}
