"""The models that fastinfer.benchmark times: a HuggingFace folder's, or random weights of well-known
shapes, saved as a folder so that PyTorch and the library read the same numbers."""

import os

import torch

LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0,
                   high_freq_factor=4.0, original_max_position_embeddings=8192)

# Name: transformers' class prefix and the sizes of the public config.json. `tiny` is for tests.
PRESETS = {
    "llama-3.2-3b": ("Llama", dict(
        hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
        num_key_value_heads=8, head_dim=128, vocab_size=128256, rms_norm_eps=1e-5,
        max_position_embeddings=131072, rope_parameters=LLAMA3_ROPE)),
    "llama-3.2-1b": ("Llama", dict(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, vocab_size=128256, rms_norm_eps=1e-5,
        max_position_embeddings=131072, rope_parameters=LLAMA3_ROPE)),
    "smollm3-3b": ("SmolLM3", dict(
        hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
        num_key_value_heads=4, vocab_size=128256, rms_norm_eps=1e-6, max_position_embeddings=65536,
        no_rope_layer_interval=4,
        rope_parameters=dict(rope_type="default", rope_theta=5000000.0))),
    "tiny": ("Llama", dict(
        hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, head_dim=64, vocab_size=320, rms_norm_eps=1e-5,
        max_position_embeddings=512,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0))),
}


class BadInput(Exception):
    """One sentence: what is wrong, and what was expected."""


def find_weights(name, weights, several):
    """The folder of a model under --weights (itself, or one in it of the model's name); None: the
    weights are to be random."""
    if not weights:
        if name not in PRESETS:
            raise BadInput("there is no preset %r; %s were expected, or --weights with a folder"
                           % (name, ", ".join(PRESETS)))
        return None
    inside = os.path.join(weights, name)
    if os.path.isfile(os.path.join(inside, "config.json")):
        return inside
    if os.path.isfile(os.path.join(weights, "config.json")) and not several:
        return weights
    raise BadInput("--weights %s: a folder %s with a config.json was expected in it%s"
                   % (weights, name, "" if several else ", or a config.json"))


def _config(name):
    import transformers

    kind, sizes = PRESETS[name]
    sizes = dict(sizes)
    if int(transformers.__version__.split(".")[0]) < 5:  # the older names of the same numbers
        rope = dict(sizes.pop("rope_parameters"))
        sizes["rope_theta"] = rope.pop("rope_theta")
        sizes["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    return getattr(transformers, kind + "Config")(
        **sizes, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=None)


def make(name, dtype, device, attention):
    """Random weights under which attention is far from even, activations keep their size and the
    next token is mostly clear: greedy text then says whether two ways of computing agree."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(_config(name), dtype=dtype,
                                                 attn_implementation=attention)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.dim() == 1:
                p.normal_(1.0, 0.2)
            elif "embed" in key or "lm_head" in key:
                p.normal_(0.0, 0.5)
            else:
                sharp = 1.5 if "q_proj" in key or "k_proj" in key else 1.0
                p.normal_(0.0, sharp / p.shape[1] ** 0.5)
    return _ready(model)


def load(folder, dtype, device, attention):
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True,
                                                     attn_implementation=attention)
    except (OSError, ValueError) as error:
        raise BadInput("%s: transformers cannot read it (%s)"
                       % (folder, str(error).splitlines()[0])) from None
    model = model.to(device)
    for p in model.parameters():  # on the CPU they lie where the file has them
        if p.data_ptr() % 16:
            p.data = p.data.clone()
    return _ready(model)


def _ready(model):
    model.generation_config.eos_token_id = None  # every text has the length that was asked for
    return model.eval()


def step_bytes(model, position):
    """The least bytes that a decode step reads: each weight once, of embeddings that are not the
    head as well one row, and the keys and values before it."""
    config = model.config
    embedding = model.get_input_embeddings().weight
    size = embedding.element_size()
    weights = sum(p.numel() for p in model.parameters())
    if model.get_output_embeddings().weight is not embedding:
        weights -= embedding.numel() - embedding.shape[1]
    head_dim = getattr(config, "head_dim", None) or (config.hidden_size
                                                     // config.num_attention_heads)
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * position
    return size * (weights + cache)
