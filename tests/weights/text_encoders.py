"""Folders of small text encoders with random weights, the same whenever they are made."""

import json
import zlib

import numpy as np

from vq_jax.weights import text_encoders, write_safetensors

T5 = {
    'model_type': 't5',
    'vocab_size': 300,
    'd_model': 16,
    'd_kv': 6,
    'd_ff': 24,
    'num_layers': 2,
    'num_heads': 3,
    'feed_forward_proj': 'relu',
    'relative_attention_num_buckets': 32,
    'relative_attention_max_distance': 40,
}
CLIP = {
    'model_type': 'clip_text_model',
    'vocab_size': 300,
    'hidden_size': 16,
    'intermediate_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'max_position_embeddings': 60,
    'hidden_act': 'quick_gelu',
    'eos_token_id': 299,
}
ENCODERS = {
    't5': T5,
    'flan-t5': {**T5, 'feed_forward_proj': 'gated-gelu'},
    'clip': CLIP,
    'open-clip': {**CLIP, 'hidden_act': 'gelu'},
}
LENGTHS = (60, 7)  # of texts, in tokens; the longer one has distances of all buckets


def random_weights(name):
    """Arrays by the names that files have for them."""
    _, cls, _ = text_encoders._KINDS[ENCODERS[name]['model_type']]
    fields = {key: value for key, value in ENCODERS[name].items() if key in cls.__dataclass_fields__}
    weights = {}
    for row in cls(**fields).table():
        normal = np.random.RandomState(zlib.crc32(row.theirs.encode())).standard_normal(row.shape)
        scale = row.theirs.endswith('norm.weight') or 'norm1.weight' in row.theirs
        weights[row.theirs] = (normal / 2 + scale).astype(np.float32)
    return weights


def tokens(name):
    """Texts in tokens [2 60], -1 after the end, of which the last token is a mark that no other is."""
    found = np.random.RandomState(0).randint(2, 299, (2, LENGTHS[0])).astype(np.int32)
    for row, length in zip(found, LENGTHS, strict=True):
        row[length - 1], row[length:] = 299, -1
    return found


def write_folder(folder, name, tokenizer=None):
    """Writes the files of an encoder, and a tokenizer.json with a mark after each text."""
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(ENCODERS[name]))
    prefix = 'text_model.' if 'clip' in name else ''
    weights = {f'{prefix}{key}': array for key, array in random_weights(name).items()}
    write_safetensors(folder / 'model.safetensors', weights, {})
    (folder / 'tokenizer.json').write_text(tokenizer or marked_tokenizer())
    return folder


def marked_tokenizer():
    """The content of a tokenizer.json of bytes, in which token 299 ends each text."""
    import tokenizers

    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = {token: i for i, token in enumerate(sorted(byte_level.alphabet()))}
    vocabulary |= {f'<unused_{i}>': i for i in range(len(vocabulary), 299)} | {'</s>': 299}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.add_special_tokens(['</s>'])
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        '$A </s>', special_tokens=[('</s>', 299)]
    )
    return tokenizer.to_str()
