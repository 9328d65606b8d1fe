"""Made `text_encoders.json`: what text encoders of `transformers` give with random weights.

By `python -m tests.weights.make_text_encoders`, with transformers 5.24.0 and PyTorch 2.13.0 on a CPU.
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tests.weights.text_encoders import ENCODERS, LENGTHS, random_weights, tokens


def main():
    found = {}
    for name, config in ENCODERS.items():
        of_clip = 'clip' in name
        kind, configs = (CLIPTextModel, CLIPTextConfig) if of_clip else (T5EncoderModel, T5Config)
        model = kind(configs(**config)).eval()
        weights = {key: torch.from_numpy(array) for key, array in random_weights(name).items()}
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected and set(missing) <= {'encoder.embed_tokens.weight'}, (missing, unexpected)
        texts = tokens(name)
        there = torch.from_numpy(texts >= 0)
        with torch.no_grad():
            given = torch.from_numpy(np.maximum(texts, 0)).long()
            output = model(input_ids=given, attention_mask=there.long())
        vectors = output.last_hidden_state.numpy()
        found[name] = [
            np.round(row[:length:3, ::5].reshape(-1).astype(float), 6).tolist()
            for row, length in zip(vectors, LENGTHS, strict=True)
        ]
        if of_clip:
            ends = vectors[np.arange(2), np.array(LENGTHS) - 1]
            np.testing.assert_array_equal(output.pooler_output.numpy(), ends)
    Path(__file__).with_name('text_encoders.json').write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main()
