"""vLLM's Qwen3-VL keeps image features for the first layers in buffers; all zero means: no image.

They lie in the weights' pool, which sleeping discards and waking maps anew with whatever is in it, and are no
registered buffers, which vLLM would restore. A prompt without image, and what pads a batch, reads them as they are.
"""

import torch


def zero_deepstack_buffers(model) -> None:
    """Zero them, if the model has any. No request may be under way: new weights come to an idle engine."""
    with torch.inference_mode():  # one that vLLM made larger is a tensor of that mode
        for buffer in getattr(model, "deepstack_input_embeds", None) or ():
            buffer.zero_()
