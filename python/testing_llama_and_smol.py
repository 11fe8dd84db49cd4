"""The names under which FastInfer's first version put its kernels into a model by hand:

    layer.input_layernorm = FastRMS(layer.input_layernorm)
    layer.mlp.forward = fast_mlp.__get__(layer.mlp)
    modeling_llama.apply_rotary_pos_emb = fast_rope_embedding

fastinfer.accelerate(model) does all of it, and undoes it. Run as a script this is
`python -m fastinfer.benchmark`: tokens a second with and without, side by side.
"""

from torch import nn as _nn

from fastinfer import forwards as _forwards

__all__ = ["FastRMS", "fast_mlp", "fast_rope_embedding"]

fast_mlp = _forwards.mlp_forward
fast_rope_embedding = _forwards.rope_apart


class FastRMS(_nn.Module):
    """An RMSNorm in the place of another, with its weight and its eps."""

    def __init__(self, norm):
        super().__init__()
        self.weight = norm.weight
        self.variance_epsilon = _forwards.norm_eps(norm)

    forward = _forwards.norm_forward(
        lambda self, x: _forwards.plain_rmsnorm(x, self.weight, self.variance_epsilon))


if __name__ == "__main__":
    import sys

    from fastinfer.benchmark import main

    sys.exit(main())
