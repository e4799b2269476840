"""The teacher's right answers, as token ids, behind the prompts as vLLM and the other methods see them."""

import torch
from torch.utils.data import Dataset

from verl_vaopd.answers.store import StoredAnswers
from verl_vaopd.data.dataset import VisionDataset, images_of
from verl_vaopd.model.vision import ImageInputs


class RightAnswers(Dataset):
    """Rows for verl's SFT trainer: ``input_ids``, ``response_mask`` (ones, one an answer's token), and the prompt's
    images as ``multi_modal_inputs``. Signature as the host calls it.

    Raises:
        ValueError: no stored answer to these prompts is right.
    """

    def __init__(self, parquet_files, tokenizer, config, processor, max_samples=-1):
        self.processor, self.budget = processor, dict(config.prompts.mm_processor_kwargs or {})
        self.prompts = VisionDataset(
            data_files=parquet_files, tokenizer=tokenizer, processor=processor, config=config.prompts
        )
        places = {info["id"]: place for place, info in enumerate(self.prompts.dataframe["extra_info"])}
        self.answers = StoredAnswers(config.answers)
        self.rows = [
            (places[row["id"]], row["id"], row["sample"])
            for row in self.answers.rows()
            if row["accuracy"] == 1 and row["id"] in places
        ]
        if not self.rows:
            raise ValueError(f"none of the answers in {config.answers} to the prompts of {parquet_files} is right")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        place, row_id, sample = self.rows[index]
        chat = self.prompts[place]["raw_prompt"]
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        images = images_of(chat)
        encoded = self.processor(
            text=[text], images=images or None, return_tensors="pt", **(self.budget if images else {})
        )
        answer = torch.tensor(self.answers.of(row_id, sample)["token_ids"])
        vision = ImageInputs.of(encoded).tensors if images else {}
        return {
            "input_ids": torch.cat([encoded["input_ids"][0], answer]),
            "response_mask": torch.ones_like(answer),
            "multi_modal_inputs": vision,
        }
