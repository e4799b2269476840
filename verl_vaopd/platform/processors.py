"""Processors of families that verl does not list: it warns and goes on as if the model had no images."""

import warnings

import verl.utils
from verl.utils.tokenizer import hf_processor


def processor_of(name_or_path: str, **kwargs):
    """verl's ``hf_processor``, and where it finds none, transformers' own processor of the model, if it has images."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to create processor: Unsupported processor type")
        found = hf_processor(name_or_path, **kwargs)
    if found is not None:
        return found
    from transformers import AutoConfig, AutoProcessor

    processor = AutoProcessor.from_pretrained(name_or_path, **kwargs)
    if not hasattr(processor, "image_processor"):
        return None
    processor.config = AutoConfig.from_pretrained(name_or_path, **kwargs)  # as verl's has it
    return processor


def find_every_processor() -> None:
    """Have the modules of verl that ask for a processor, all loaded later than this, ask :func:`processor_of`."""
    verl.utils.hf_processor = processor_of
