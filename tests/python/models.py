"""Small models of each family, with random weights: nothing is downloaded."""

import torch
import transformers

SHAPE = dict(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
             pad_token_id=0, bos_token_id=1, eos_token_id=2)

FAMILIES = {
    "Llama": dict(),
    "SmolLM3": dict(no_rope_layers=[1, 0, 1], use_sliding_window=False),
    "Qwen2": dict(),
    "Qwen3": dict(head_dim=32),
    "Mistral": dict(sliding_window=None),
}


def build(family, dtype=torch.float32, attention="sdpa", **changes):
    """A model in eval mode, the same each time; norms' weights are not all one."""
    config = getattr(transformers, family + "Config")(
        **{**SHAPE, **FAMILIES.get(family, {}), **changes})
    config._attn_implementation = attention
    torch.manual_seed(0)
    model = getattr(transformers, family + "ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
            elif parameter.dim() == 2:
                parameter.mul_(4)  # so that logits differ enough for greedy tokens to be certain
    model.generation_config.eos_token_id = None  # answers of one length
    return model.to(dtype).eval()
