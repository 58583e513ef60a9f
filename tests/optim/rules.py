"""The settings in which every optimizer is tested."""

from backstory.optim import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop

SETTINGS = [
    (SGD, {"lr": 0.05}),
    (SGD, {"lr": 0.05, "weight_decay": 0.1}),
    (SGD, {"lr": 0.05, "momentum": 0.9}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    (SGD, {"lr": 0.05, "momentum": 0.5, "dampening": 0.5, "weight_decay": 0.01}),
    (SGD, {"lr": 0.0, "momentum": 0.9}),
    (Adam, {"lr": 0.05}),
    (Adam, {"lr": 0.05, "weight_decay": 0.1}),
    (Adam, {"lr": 0.05, "betas": (0.5, 0.9)}),
    # A step of lr·sign(g) must not land on g = 0, where rounding decides; 0.037 divides no start value.
    (Adam, {"lr": 0.037, "betas": (0.0, 0.0)}),
    (Adam, {"lr": 0.05, "eps": 0.1}),
    (Adam, {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1}),
    (Adam, {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (AdamW, {"lr": 0.05}),
    (AdamW, {"lr": 0.05, "weight_decay": 0.3, "betas": (0.5, 0.9), "eps": 0.1}),
    (AdamW, {"lr": 0.05, "amsgrad": True}),
    (NAdam, {"lr": 0.05}),
    (NAdam, {"lr": 0.05, "weight_decay": 0.1, "betas": (0.5, 0.9), "eps": 0.1}),
    (NAdam, {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.3}),
    (RMSprop, {"lr": 0.05}),
    (RMSprop, {"lr": 0.05, "alpha": 0.5, "eps": 0.1, "weight_decay": 0.1}),
    (RMSprop, {"lr": 0.05, "momentum": 0.9}),
    (RMSprop, {"lr": 0.05, "centered": True}),
    (RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.1, "alpha": 0.9}),
    (Adagrad, {"lr": 0.05}),
    (Adagrad, {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1}),
    (Adagrad, {"lr": 0.05, "initial_accumulator_value": 0.5, "eps": 0.1}),
]
# Climbing; the loss is turned over, so that what is climbed has a top.
MAXIMIZE = [
    (SGD, {"lr": 0.05}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    (Adam, {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True}),
    (AdamW, {"lr": 0.05}),
    (NAdam, {"lr": 0.05, "weight_decay": 0.1}),
    (RMSprop, {"lr": 0.05, "weight_decay": 0.1}),
    (Adagrad, {"lr": 0.05, "weight_decay": 0.1}),
]
