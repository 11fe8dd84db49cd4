"""Kernel launches and waits a token, by PyTorch's profiler; on the CPU, operations a token."""

import contextlib
import inspect

import torch
from torch.profiler import ProfilerActivity, profile

from . import library

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize",
         "cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize")
# newer PyTorches warn without it, older ones have no such word
KEEP = {"acc_events": True} if "acc_events" in inspect.signature(profile).parameters else {}
SHORT, LONG = 4, 12  # texts whose difference is decode steps alone


@contextlib.contextmanager
def _launches():
    """Counts the library's launches from Python, which no profiler sees on the CPU."""
    count, launch = [0], library.Kernel.launch

    def counted(kernel, *rest):
        count[0] += 1
        return launch(kernel, *rest)

    library.Kernel.launch = counted
    try:
        yield count
    finally:
        library.Kernel.launch = launch


def _is_operation(event):
    parent = event.cpu_parent
    return event.name.startswith("aten::") and not (parent and parent.name.startswith("aten::"))


def trace(run, cuda):
    """{"kernels", "copies", "waits"} of what run() has the GPU do, with the waits at the end of a
    trace, of which one of nothing has as many; or {"operations"} on the CPU, where the library's
    launches count as one each."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with _launches() as launches, profile(activities=activities, **KEEP) as profiled:
        run()
        if cuda:
            torch.cuda.synchronize()
    events = profiled.events()
    if not cuda:
        return {"operations": sum(map(_is_operation, events)) + launches[0]}
    device = [e.name for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    moved = [name for name in device if name.startswith(("Memcpy", "Memset"))]
    return {"kernels": len(device) - len(moved), "copies": len(moved),
            "waits": sum(e.name in WAITS for e in events)}


def a_token(side, ids):
    """The same counts a decode step of a side; None where nothing can be counted."""
    if not ids.is_cuda and not hasattr(side, "model"):
        return None  # the engine on the CPU device: neither operations nor launches from Python
    some, more = (trace(lambda n=n: side.generate(ids, n), ids.is_cuda) for n in (SHORT, LONG))
    return {name: (more[name] - some[name]) / (LONG - SHORT) for name in some}
