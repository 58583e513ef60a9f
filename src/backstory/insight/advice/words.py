"""The words of the advice, in one place for translation: what each finding means, and what to write instead.

In the entries, names of measured values stand between braces; a value that is a word is one of ``TERMS``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CATALOGUE", "GENERIC", "TERMS", "WORDS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One kind of finding: when it is raised, what was seen, why it matters, what to write instead."""

    severities: tuple[str, ...]
    when: str
    what: str
    why: str
    instead: str
    reference: str


HE = "He et al. 2015, arXiv:1502.01852, section 2.2"
GLOROT = "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks"
GOODFELLOW = "Goodfellow, Bengio & Courville 2016, Deep Learning, section "
LECUN = "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.3"
IOFFE = "Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.2"
LU = "Lu, Shin, Su & Karniadakis 2019, arXiv:1903.06733"
PASCANU = "Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063"
RATIO = "Karpathy, CS231n notes, Neural networks part 3, ratio of weights to updates"
SRIVASTAVA = "Srivastava et al. 2014, Dropout, Journal of Machine Learning Research 15"

CATALOGUE = {
    "symmetric-weights": Entry(
        severities=("error",),
        when="Units of a hidden layer have equal weights, equal biases and equal gradients.",
        what="{copies} of {units} units are copies: equal weights, equal biases, equal gradients",
        why="Units that start equal and receive equal gradients stay equal for ever. However wide, the "
        "layer computes {distinct} different {features}.",
        instead='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu"); only biases may start equal',
        reference=GOODFELLOW + "8.4",
    ),
    "softmax-before-cross-entropy": Entry(
        severities=("error", "note"),
        when="The scores of a classifier are not negative and sum to 1. Without targets a note.",
        what="every row of {classes} scores sums to 1; cross-entropy takes a second softmax of them, and "
        "its loss stays above {floor}",
        why="Cross-entropy has the softmax inside. Of scores between 0 and 1 it makes probabilities that "
        "never come near 1, and gradients that are small just where the network is wrong.",
        instead="return the logits; nn.functional.softmax(logits, -1) only where probabilities are shown",
        reference=GOODFELLOW + "6.2.2.3",
    ),
    "activation-after-last-layer": Entry(
        severities=("warning", "note"),
        when="The scores of a classifier come out of an activation. Without targets, an output of several "
        "columns is taken for scores, and the finding is a note.",
        what="the {classes} scores come from {activation}: they lie in [{low}, {high}], {closed:.0%} of "
        "them pass no gradient on, and cross-entropy stays above {floor}",
        why="Cross-entropy takes logits: any numbers, high for the right class and low for the others. An "
        "activation cuts them off on one side or on both.",
        instead="end a classifier with its linear layer; the class is the argmax of the logits",
        reference=GOODFELLOW + "6.2.2.3",
    ),
    "born-dead": Entry(
        severities=("error", "warning"),
        when="At least nine tenths of the units of a layer that every path goes through are closed for "
        "every sample; an error if all are.",
        what="{dead} of {units} units are closed for every one of the {samples} samples",
        why="A unit that is closed for every sample receives no gradient, so nothing of its own reopens it. "
        "Where all are, the output is the same for every input, and nothing below learns.",
        instead='biases of 0, nn.init.kaiming_normal_(layer.weight, nonlinearity="relu"), and inputs that '
        "are centred; nn.LeakyReLU keeps a slope for closed units",
        reference=LU,
    ),
    "likely-born-dead": Entry(
        severities=("warning",),
        when="Of ReLU nets of these widths drawn from He with biases of 0, at least a tenth give the same "
        "output for every sample.",
        what="{depth} ReLU layers, the narrowest of {width}: of {draws} nets drawn with these widths, "
        "{drawn:.0%} are dead on the sample; one input is closed off with probability 1 − Π(1 − 2⁻ⁿ) = "
        "{chance}",
        why="Weights are as often negative as positive, so all n units of a layer are closed for an input "
        "with probability 2⁻ⁿ, and one such layer is enough. A constant network cannot be trained.",
        instead="{wider} units a layer or more, nn.init.asymmetric_(layer.weight, layer.bias), "
        "nn.LeakyReLU, or batch norm in front of the activation",
        reference=LU,
    ),
    "init-too-small": Entry(
        severities=("warning", "note"),
        when="fan_in·E[w²] is surely less than 0.6 of what the activation needs, as Xavier's is for ReLU. A "
        "warning where signal or gradient change tenfold through these layers, else a note.",
        what="fan_in·E[w²] is {scale} where {activation} needs {wanted}: {rule}. Through {count} such "
        "{layers} the signal changes by a factor of {signal}, the gradient by {gradient}",
        why="{activation} hands on {kept:.0%} of the second moment of what it is given, and the weights "
        "have to make up for it. What is too small by a factor per layer is too small by a power of it in a "
        "deep network.",
        instead="nn.init.normal_(layer.weight, std=({wanted} / fan_in) ** 0.5); for relu that is "
        'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
        reference=HE,
    ),
    "init-too-large": Entry(
        severities=("warning", "note"),
        when="fan_in·E[w²] is surely more than 1.5 times what the activation needs, as He's is for tanh and "
        "SELU. A warning where signal or gradient change tenfold through these layers, else a note.",
        what="fan_in·E[w²] is {scale} where {activation} needs {wanted}: {rule}. Through {count} such "
        "{layers} the signal changes by a factor of {signal}, the gradient by {gradient}",
        why="What is too large by a factor per layer is too large by a power of it in a deep network; an "
        "activation that saturates is pushed towards its flat ends, and gradients grow on their way down.",
        instead="nn.init.normal_(layer.weight, std=({wanted} / fan_in) ** 0.5); for tanh "
        "nn.init.xavier_normal_(layer.weight), for selu nn.init.lecun_normal_(layer.weight)",
        reference=GLOROT + "; Schoenholz et al. 2017, arXiv:1611.01232",
    ),
    "vanishing-signal": Entry(
        severities=("warning",),
        when="From the first hidden layer to the last the spread over samples falls by more than 100.",
        what="the spread of pre-activations over samples falls from {first} to {last} through {count} "
        "layers, most in {most} (× {part})",
        why="To the upper layers all inputs look alike: they have nothing to tell them apart by.",
        instead='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu") for relu, xavier_normal_ for '
        "tanh; or normalisation in between",
        reference=HE,
    ),
    "exploding-signal": Entry(
        severities=("error", "warning"),
        when="From the first hidden layer to the last the spread over samples grows by more than 100; an "
        "error where it is not finite.",
        what="the spread of pre-activations over samples grows from {first} to {last} through {count} "
        "layers, most in {most} (× {part})",
        why="The scale of the last layers rules the loss and its gradients; a single step can overflow.",
        instead='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu") for relu, xavier_normal_ for '
        "tanh; or normalisation in between",
        reference=HE,
    ),
    "vanishing-gradient": Entry(
        severities=("warning",),
        when="From the last hidden layer down to the first the gradient falls by more than 100.",
        what="the norm of the gradient falls from {last} in the last hidden layer to {first} in the first, "
        "through {count} layers, most in {most} (× {part})",
        why="The lower layers hardly move, and the upper ones learn on features that stay random.",
        instead="weights that fit the activation (He for relu), relu in place of sigmoid, normalisation, or "
        "skip connections",
        reference=PASCANU + "; " + HE,
    ),
    "exploding-gradient": Entry(
        severities=("warning",),
        when="From the last hidden layer down to the first the gradient grows by more than 100.",
        what="the norm of the gradient grows from {last} in the last hidden layer to {first} in the first, "
        "through {count} layers, most in {most} (× {part})",
        why="A rate at which the upper layers learn is far too large for the lower ones. (Deep networks "
        "with batch norm and without skip connections do this by themselves, about 1.2 times per layer.)",
        instead="weights that fit the activation (He for relu, Xavier for tanh), skip connections, or "
        "nn.utils.clip_grad_norm_",
        reference=PASCANU + "; Yang et al. 2019, arXiv:1902.08129 (batch norm)",
    ),
    "small-derivatives": Entry(
        severities=("warning", "note"),
        when="The largest local derivatives that the activations can have multiply to less than 10⁻³. A "
        "warning where the gradient vanishes, else a note.",
        what="{count} activations in a row with a local derivative of at most {steepest} ({activation}): "
        "their product is at most {bound}, and here {typical}",
        why="The gradient of the first layer contains every one of these factors; only the weights or a "
        "normalisation can make up for them.",
        instead="relu in hidden layers, whose derivative is 1 where it is open; sigmoid in gates and at the "
        "output",
        reference="Bengio, Simard & Frasconi 1994, Learning long-term dependencies with gradient descent is "
        "difficult",
    ),
    "saturated": Entry(
        severities=("warning",),
        when="More than a tenth of the pre-activations of a squashing activation lie where its derivative "
        "is below 0.01.",
        what="{share:.0%} of the pre-activations, of standard deviation {spread}, lie where {activation} is "
        "flat (its local derivative is below 0.01)",
        why="A saturated unit hands on hardly any gradient, and only slowly learns to leave saturation.",
        instead="nn.init.xavier_normal_(layer.weight), inputs of mean 0 and variance 1, or batch norm in "
        "front",
        reference=GLOROT,
    ),
    "bias-before-norm": Entry(
        severities=("warning",),
        when="The gradient of a bias cancels over the samples, whatever comes from above: what it adds is "
        "taken out again, by a normalisation or by the softmax of attention's scores.",
        what="the gradient of the bias cancels over the samples, to {cancelled} of its parts, in all "
        "{units} units",
        why="{behind}. The bias is stored, decayed and counted, and never changes the output.",
        instead="{layer_type}(…, bias=False); the bias of a normalisation does its work",
        reference=IOFFE,
    ),
    "norm-after-activation": Entry(
        severities=("note",),
        when="Batch norm normalises what an activation made. A note: both orders are in use.",
        what="batch norm follows {activation}",
        why="In front, where the paper puts it, it keeps units alive: about half of each batch opens every "
        "unit. Behind, it centres what the next layer is given, and saves no unit from dying.",
        instead="linear, batch norm, activation to keep units alive; as it is for centred outputs",
        reference=IOFFE,
    ),
    "dropout-before-activation": Entry(
        severities=("warning",),
        when="Dropout stands right in front of an activation that does not commute with it.",
        what="dropout (p = {p}) in front of {activation}: a dropped unit hands on {at_zero} and a kept one "
        "{before} on average; behind it that would be 0 and {after}",
        why="Dropout silences units and scales the others up, so that the next layer is given the same "
        "mean. {activation} makes f(0) of silence and bends what was scaled.",
        instead="the activation first, then dropout",
        reference=SRIVASTAVA,
    ),
    "dropout-order": Entry(
        severities=("note",),
        when="Dropout stands right in front of an activation that commutes with it. A note.",
        what="dropout (p = {p}) in front of {activation} does exactly what it does behind it",
        why="f(s·z) = s·f(z) for every s ≥ 0: for ReLU, LeakyReLU and PReLU the order is irrelevant, "
        "although texts demand one.",
        instead="nothing; either order",
        reference=SRIVASTAVA,
    ),
    "inputs-not-centred": Entry(
        severities=("warning", "note"),
        when="The means of the features hold more than half of the inputs' second moment; a warning above "
        "nine tenths. Of 8 samples or more.",
        what="{share:.0%} of the inputs' second moment lies in the means of the features; the largest mean "
        "is {mean}, at a standard deviation of {spread}",
        why="Inputs of one sign give the weights of a unit gradients of one sign, and one step moves the "
        "pre-activations of all samples together: it can close a ReLU for all of them.",
        instead="x = (x - x_train.mean(0)) / x_train.std(0)",
        reference=LECUN,
    ),
    "inputs-on-different-scales": Entry(
        severities=("warning", "note"),
        when="The largest standard deviation of a feature is more than 10 times the median one (a warning "
        "from 100 on), or the lower quartile is less than a hundredth of it.",
        what="the standard deviations of the features reach from {smallest} to {largest}, with a median of "
        "{median}",
        why="The loss is curved far more along the large features: a rate that is stable for them leaves "
        "what the small ones say unlearned.",
        instead="x = (x - x_train.mean(0)) / x_train.std(0), with 1 in place of a standard deviation of 0",
        reference=LECUN,
    ),
    "rate-too-large": Entry(
        severities=("warning",),
        when="The first update of a weight, or one with momentum built up, is more than a tenth of its "
        "size. Weights in front of a normalisation are left out: the larger they get, the less a step turns "
        "them.",
        what="at lr = {rate:g} {update} is {ratio} times as large as the weights, by the gradient of {loss} "
        "on {targets}; about 0.001 is usual",
        why="Such a step replaces what was there rather than adjusts it, and can close ReLU units for good.",
        instead="lr = {better:g} with this optimizer, for updates of {aim} of the weights, or a warm-up",
        reference=RATIO,
    ),
    "rate-too-small": Entry(
        severities=("warning",),
        when="Updates of the median weight, with momentum built up, are less than 10⁻⁵ of its size.",
        what="at lr = {rate:g} {update} is {ratio} times as large as the weights, by the gradient of {loss} "
        "on {targets}; about 0.001 is usual",
        why="It takes more than a hundred thousand such steps to change the weights by as much as they are.",
        instead="lr = {better:g} with this optimizer, for updates of {aim} of the weights",
        reference=RATIO,
    ),
}

TERMS = {
    "error": "error",
    "warning": "warning",
    "note": "note",
    "errors": "errors",
    "warnings": "warnings",
    "notes": "notes",
    "he": "as drawn by He's rule",
    "glorot": "as drawn by Xavier's rule (Glorot)",
    "lecun": "as drawn by LeCun's rule, 1/fan_in, which many texts call Xavier",
    "default": "as the layer draws them by default, 1/(3 fan_in)",
    "unknown": "as no usual rule draws them",
    "one feature": "feature",
    "several features": "features",
    "one layer": "layer",
    "several layers": "layers",
    "a norm": "The normalisation behind it subtracts the mean, and with it any constant",
    "something": "What stands behind it takes out any constant, as a softmax over attention's keys does",
    "first update": "the first update",
    "built up": "an update with momentum built up",
    "own targets": "the sample's targets",
    "random targets": "random targets",
}

WORDS = {
    "what": "what",
    "why": "why",
    "instead": "instead",
    "reference": "see",
    "clean": "lint: nothing to find fault with",
    "head": "lint: {counts}",
    "more": "and {count} more",
    "whole": "(model)",
    "input": "(inputs)",
    "code": "code",
    "severity": "severity",
    "when": "found when",
}

#: What stands for the measured values in the table of all findings.
GENERIC = {
    "activation": "f",
    "aim": "about 0.01",
    "behind": "What stands behind it takes out any constant",
    "better": "…",
    "distinct": "few",
    "features": "features",
    "kept": "only a part",
    "layer_type": "nn.Linear",
    "wanted": "gain²",
    "wider": "n",
}
