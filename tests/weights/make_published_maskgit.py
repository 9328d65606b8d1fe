"""Made `published_maskgit.json`: what MaskGIT's own modules give with the weights of `models.random_weights`.

By `python -m tests.weights.make_published_maskgit`, with jax 0.10.2 and flax 0.12.8 on a CPU, and
google-research/maskgit (commit 1db2359) on the path. Weights go through its format,
`flax.serialization.to_bytes`, as its checkpoints do.
"""

import json
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from tests.weights.models import LABELS, MASKGIT, OF_MASKED, images, masked_codes, random_weights

# What is imported, and there no more.
jnp.DeviceArray = jax.Array

from maskgit.libml import parallel_decode  # noqa: E402
from maskgit.nets import maskgit_transformer, vqgan_tokenizer  # noqa: E402


def flat(x):
    return [float(f'{value:.6g}') for value in np.asarray(x).reshape(-1)]


def variables(project):
    """As `maskgit.utils.restore_from_path` returns them of a file."""
    tree = flax.traverse_util.unflatten_dict(random_weights(project), sep='.')
    return flax.serialization.from_bytes(None, flax.serialization.to_bytes({'params': tree}))


def tokenizer():
    s, config = MASKGIT, ml_collections.ConfigDict()
    config.vqvae = {
        'quantizer': 'vq',
        'codebook_size': s.num_codes,
        'filters': s.channels,
        'num_res_blocks': s.residual_blocks,
        'channel_multipliers': list(s.multipliers),
        'embedding_dim': s.latent,
        'conv_downsample': False,
        'activation_fn': 'swish',
        'norm_type': 'GN',
    }
    return vqgan_tokenizer.VQVAE(config=config, dtype=jnp.float32, train=False)


def transformer():
    """Class and codes to logits of codes, as in `maskgit.inference`."""
    s, learned = OF_MASKED, variables('maskgit-transformer')
    model = maskgit_transformer.Transformer(
        vocab_size=s.num_codes + 1001,
        hidden_size=s.width,
        num_hidden_layers=s.depth,
        num_attention_heads=s.heads,
        intermediate_size=s.mlp_width,
        max_position_embeddings=s.positions + 1,
    )
    return lambda tokens: model.apply(learned, tokens, deterministic=True)[..., : s.num_codes]


def with_class(tokens):
    return jnp.concatenate([jnp.array(LABELS)[:, None] + OF_MASKED.num_codes, tokens], axis=1)


model, learned = tokenizer(), variables('maskgit')
codes = model.apply(learned, {'image': images() / np.float32(255)}, method=model.encode_to_indices)
decoded = model.apply(learned, codes, method=model.decode_from_indices)
made = {'maskgit': {'codes': codes.tolist(), 'decoded': flat(decoded[:, ::3, ::3])}}
logits = transformer()
# The likeliest codes, where it samples them, and those that it is surest of: no random number counts.
jax.random.categorical = lambda key, logits: jnp.argmax(logits, axis=-1)
sampled = {
    name: parallel_decode.decode(
        with_class(tokens), jax.random.key(0), logits, num_iter=8, choice_temperature=0.0
    )[:, -1, 1:].tolist()
    for name, tokens in (('sampled', np.full((2, 64), -1)), ('completed', masked_codes()))
}
found = logits(with_class(masked_codes()))[:, 1:]
made['maskgit-transformer'] = {'logits': flat(found[:, ::7, ::8]), **sampled}
Path(__file__).with_name('published_maskgit.json').write_text(json.dumps(made) + '\n')
