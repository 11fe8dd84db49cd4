"""FastInfer's kernels for PyTorch and transformers.

    import fastinfer
    with torch.inference_mode(), fastinfer.accelerate(model):
        model.generate(...)

fastinfer.ops has the kernels by themselves. docs/python.md of the source tree has the rest.
"""

__version__ = "0.1.0"
__all__ = ["Engine", "FastInferError", "accelerate", "ops", "restore"]


_HOMES = {"Engine": "engine", "library": "library", "FastInferError": "library", "ops": "ops", "forwards": "forwards",
          "inject": "inject", "accelerate": "inject", "restore": "inject"}


def __getattr__(name):  # torch is imported with the first that needs it, not with the package
    import importlib

    if name not in _HOMES:
        raise AttributeError("module 'fastinfer' has no attribute %r" % name)
    try:
        home = importlib.import_module("." + _HOMES[name], __name__)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("fastinfer.%s needs PyTorch 2.4 or newer: pip install torch"
                          % name) from None
    return home if name == _HOMES[name] else getattr(home, name)
