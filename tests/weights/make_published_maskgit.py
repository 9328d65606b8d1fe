"""Made `published_maskgit.json`: what MaskGIT's own modules give with the weights of `models.random_weights`.

By `python -m tests.weights.make_published_maskgit`, with jax 0.10.2 and flax 0.12.8 on a CPU, and
google-research/maskgit (commit 1db2359) on the path. Weights go through its format,
`flax.serialization.to_bytes`, as its checkpoints do.
"""

import json
from pathlib import Path

import flax
import jax.numpy as jnp
import ml_collections
import numpy as np
from maskgit.nets import vqgan_tokenizer

from tests.weights.models import MASKGIT, images, random_weights


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


model, learned = tokenizer(), variables('maskgit')
codes = model.apply(learned, {'image': images() / np.float32(255)}, method=model.encode_to_indices)
decoded = model.apply(learned, codes, method=model.decode_from_indices)
made = {'maskgit': {'codes': codes.tolist(), 'decoded': flat(decoded[:, ::3, ::3])}}
Path(__file__).with_name('published_maskgit.json').write_text(json.dumps(made) + '\n')
