"""FastInfer's kernels for PyTorch and transformers.

    import fastinfer
    with torch.inference_mode(), fastinfer.accelerate(model):
        model.generate(...)

fastinfer.ops has the kernels by themselves. docs/python.md of the source tree has the rest.
"""

__version__ = "0.1.0"
__all__ = ["FastInferError", "accelerate", "ops", "restore"]


def __getattr__(name):  # torch is imported with the first of these, not with the package
    import importlib

    if name in ("ops", "library"):
        return importlib.import_module("." + name, __name__)
    if name == "FastInferError":
        return importlib.import_module(".library", __name__).FastInferError
    if name in ("accelerate", "restore"):
        return getattr(importlib.import_module(".inject", __name__), name)
    raise AttributeError("module 'fastinfer' has no attribute %r" % name)
