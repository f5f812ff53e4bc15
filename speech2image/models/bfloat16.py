"""bfloat16: which devices compute faster with it."""

import torch


def multiplies_bfloat16(device_type: str) -> bool:
    """Whether a kind of device ("cpu", "cuda") multiplies bfloat16 natively, and so faster than float32."""
    return device_type == "cuda" or torch.cpu._is_avx512_bf16_supported()
