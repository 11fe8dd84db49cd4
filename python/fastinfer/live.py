"""A model that is live in PyTorch, and an engine with the same weights in one place: the engine's
memory, of which the model's parameters become views."""

import copy
import ctypes
import os

import torch

from .library import _P, check, library


class _Weight(ctypes.Structure):
    _fields_ = [("data", _P), ("rows", ctypes.c_int64), ("columns", ctypes.c_int64)]


class _OnDevice:
    """Device memory as the array interface that torch.as_tensor takes; it knows no bf16."""

    def __init__(self, address, count, bytes_each):
        self.__cuda_array_interface__ = {"shape": (count,), "typestr": "<i%d" % bytes_each,
                                         "data": (address, False), "strides": None, "version": 3}


def _view(weight, dtype, device):
    shape = (weight.rows, weight.columns) if weight.columns else (weight.rows,)
    count, each = weight.rows * max(weight.columns, 1), dtype.itemsize
    if device.type == "cuda":
        flat = torch.as_tensor(_OnDevice(weight.data, count, each), device=device).view(dtype)
    else:
        flat = torch.frombuffer((ctypes.c_char * (count * each)).from_address(weight.data),
                                dtype=dtype)
    return flat.view(shape)


def facts_of(model):
    """(device, dtype) that all of a model's parameters share; TypeError where it is no model of
    transformers with plain weights."""
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "config"):
        raise TypeError("Engine.from_pretrained takes a folder, a preset's name or a model of "
                        "transformers; %s was given" % type(model).__name__)
    places = {(p.device, p.dtype) for p in model.parameters()}
    if len(places) != 1:
        raise TypeError("the model's weights are on or in %s; one device and one dtype were expected"
                        % (", ".join(sorted("%s %s" % place for place in places)) or "nothing"))
    device, dtype = places.pop()
    if device.type not in ("cpu", "cuda"):
        raise TypeError("the model's weights are on %s; the CPU or a GPU was expected" % device)
    return device, dtype


def write_config(model, folder):
    """config.json, and generation_config.json for the ids that end a text."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        with open(os.path.join(folder, "generation_config.json"), "w") as file:
            file.write(model.generation_config.to_json_string())


class Sharing:
    """The parameters of a model as views of an engine's weights, until end()."""

    def __init__(self, model, handle):
        self.views = []
        find = library().fastinfer_engine_weight
        find.argtypes = [_P, ctypes.c_char_p, ctypes.POINTER(_Weight)]
        for name, parameter in model.named_parameters():
            weight = _Weight()
            check(find(handle, name.encode(), ctypes.byref(weight)))
            view = _view(weight, parameter.dtype, parameter.device)
            if view.shape != parameter.shape:
                raise ValueError("%s is %s; %s was expected from the model's config"
                                 % (name, tuple(parameter.shape), tuple(view.shape)))
            self.views.append((parameter, view))
        with torch.no_grad():  # nothing is changed before all were found
            for parameter, view in self.views:
                view.copy_(parameter)
                parameter.data = view
        self._wait()

    def _wait(self):
        """The engine's stream is not PyTorch's."""
        for device in {view.device for _, view in self.views}:
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    def end(self):
        """Memory of PyTorch's own for each parameter that still is the engine's."""
        with torch.no_grad():
            for parameter, view in self.views:
                if parameter.data_ptr() == view.data_ptr():
                    parameter.data = view.clone()
        self._wait()
        self.views = []
