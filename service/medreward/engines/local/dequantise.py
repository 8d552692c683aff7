"""Convert a GGUF file into weights that transformers and vLLM both load.

usage: python -m medreward.engines.local.dequantise SOURCE_FOLDER FILE.gguf TARGET_FOLDER
"""

import sys


def dequantise(source: str, gguf: str, target: str) -> None:
    """Read the quantised weights and tokenizer, and write safetensors in bfloat16."""
    # Importing them takes seconds, and only this process needs them.
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    weights = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=gguf,
        # Precise enough for four-bit weights, at half of the memory and disk of float32.
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    weights.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(target)


if __name__ == "__main__":
    dequantise(*sys.argv[1:])
