"""The public functions on tensors, in PyTorch's dialect: one module per subject.

Each is thin: the operation is in ``ops``. A function whose first parameter is the tensor also is the
method of the same name, listed in :mod:`backstory.methods`.
"""
