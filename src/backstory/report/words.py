"""The words of the report, in one place for translation.

The verdict, the sentences about a weight and the marks' meaning come from insight; the words inside
the pictures from ``plots.words``.
"""

from __future__ import annotations

__all__ = ["PARTS", "TERMS", "WORDS"]

WORDS = {
    "language": "en",
    "product": "backstory",
    "tagline": "every gradient has a backstory",
    "dead": "dead",
    "of units": "of {units} units",
    "born dead": "born dead",
    "before first": "before the first update",
    "deaths": "deaths",
    "revivals": "revivals",
    "exact": "exact",
    "seen": "seen by {scans} scans",
    "width": "effective width",
    "width of": "of {units}",
    "width each": "of {units} in each site",
    "width many": "of {units}, over {sites} sites",
    "alive": "When units died",
    "alive picture": "Units alive over the steps, above the loss",
    "saved": "What would have saved it",
    "saved caption": (
        "{pairs} paired seeds a change. ✔ helps and few units die, ◐ helps but over 10% still die, "
        "✘ does not help{unsure}. Strokes are medians."
    ),
    "unsure": ", ? too few pairs to tell",
    "outcomes picture": "Outcome of every seed as it was and with each change",
    "no outcomes": "Not asked yet.",
    "gates": "Gates",
    "gates caption": "Each row is a unit. Blank is closed for that batch without being dead.",
    "gates picture": "Share of the batch for which each unit's gate was open, over the steps",
    "no gates": "No forward pass in training mode was recorded, so there are no gates to show.",
    "life": "Life table",
    "site": "site",
    "units": "units",
    "linear": "linear",
    "events exact": "exact events",
    "all exact": "Every birth, death and revival is known to the very update.",
    "some exact": (
        "Known to the very update: {exact} of {events} events; any other lies between two scans. A death with"
        " a revival between the same two scans is not seen."
    ),
    "no events": "No unit was born dead, died or revived at any scan.",
    "certificates": "Certificates",
    "certificates caption": (
        "Why each unit died: its pre-activation on the last sample that was still open, before and after the "
        "update that closed it, and the parts which that change is the exact sum of."
    ),
    "no certificates": "No certificates yet.",
    "no deaths": "No unit died.",
    "unit": "unit",
    "step": "step",
    "sample": "sample",
    "pre-activation": "pre-activation",
    "change": "change Δz, in parts",
    "afterwards": "afterwards",
    "stayed": "stayed dead",
    "revived": "revived at {step}",
    "more": "the other {count}",
    "capped": "The first {shown} of {count} are shown; run.certificates() has them all.",
    "events": "The events, as far as the scans tell:",
    "norms": "Gradient norms",
    "norms caption": "The 2-norm of every parameter's gradient, a panel per layer, one log scale.",
    "norms picture": "Gradient norm of every parameter over the steps",
    "ratios": "Update-to-weight ratios",
    "ratios caption": (
        "How far each update moves a parameter relative to its size. About 10⁻³ is usual; near 1 a single "
        "update replaces what was learned. The size is taken every eighth step."
    ),
    "ratios picture": "Size of each update relative to the weights, over the steps",
    "no steps": "No update was recorded.",
    "whys": "Why did it not move?",
    "whys caption": (
        "A weight's gradient is the sum over samples of upstream × gate × input. Shown is the sample that "
        "contributes most, and in how many samples each factor is 0."
    ),
    "no whys": "No weight was asked about.",
    "upstream": "upstream",
    "gate": "gate",
    "input": "input",
    "contribution": "product",
    "from": "from the snapshot at step {step}",
    "zero in": "0 in {count}",
    "gradient": "gradient",
    "sum": "sum over {samples} samples; above, sample #{sample}",
    "choice": "at exactly 0 the derivative is taken as {choice}",
    "next update": "The optimizer's next update",
    "at zero": "The pre-activation is exactly 0 in {count} samples; its derivative is taken as {choice}.",
    "outcomes": "Outcomes of the changes",
    "changed": "change",
    "median": "median {metric}",
    "range": "range",
    "dead share": "dead units",
    "better": "better in",
    "of": "{count} of {total}",
    "p": "sign test p",
    "outcomes caption": (
        "Medians over seeds; the range is from the worst seed to the best. p: how likely so many seeds would "
        "be better if the change did nothing (one-sided sign test, ties left out)."
    ),
    "reproduce": "How to reproduce",
    "bare": "It was recorded with a bare watch(): backstory saw the training and not how to start it.",
    "function": "function",
    "source": "its source, SHA-256",
    "seed": "seed",
    "threads": "threads",
    "blas": "BLAS",
    "versions": "versions",
    "optimizer": "optimizer",
    "samples": "declared samples",
    "started": "started",
    "status": "status",
    "steps": "updates",
    "get them": "How to get this:",
    "hint bare": "backstory.experiment(train, config, path)",
    "hint outcomes": 'run.counterfactuals([backstory.Change("learning rate ÷ 10", {"lr": 0.05})])',
    "hint audit": "run.audit()",
    "hint whys": "run.keep(backstory.why(loss, weight, index, optimizer))",
}

TERMS = {
    "dead": (
        "the activation's local derivative is 0 for every sample of the declared data, at the present "
        "parameters"
    ),
    "silent": "closed for every sample seen since some point; a suspicion, never called dead",
    "linear": "the same local derivative for every sample; it learns, but adds no bend",
    "effective width": "the units of a site that are not dead",
    "certificate": "the exact account of one death: by which update, on which sample, from which causes",
}

PARTS = {
    "gradient": "weights: gradient",
    "momentum": "weights: momentum",
    "weight decay": "weights: decay",
    "update": "weights: update",
    "bias": "bias",
    "inputs": "inputs",
    "normalisation": "normalisation",
    "skip": "skip connection",
}
