"""Which parameters of all models decay: told by the layer that owns each."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from vq_jax.models.context import VectorEmbedding
from vq_jax.models.convolution import Conv, ConvTranspose
from vq_jax.models.residual import Upsample
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.training.optimizer import OptimizerConfig, make_optimizer
from vq_jax.training.state import abstract_batch

LINEAR = (nn.Dense, Conv, ConvTranspose, Upsample)
TABLES = (nn.Embed, VectorEmbedding)  # whose parameters with several axes are none of a linear layer
SMALL_VQGAN = {
    'model.channels': 8,
    'model.multipliers': (1, 2),
    'model.features': 8,
    'model.attention_resolutions': (1,),
    'discriminator.stages': 2,
}
MODELS = {
    'mlp': ('vae', {}),
    'convolutional': ('vae', {'model.backbone': 'convolutional'}),
    'vqvae': ('vqvae', {'quantizer.code_dim': 4, 'quantizer.learning': 'gradient', 'model.top_stages': 1}),
    'fsq': ('vqvae', {'quantizer.kind': 'fsq'}),
    'lfq': ('vqvae', {'quantizer.kind': 'lfq'}),
    'likelihood': ('vqvae', {'loss.reconstruction': 'discretised_logistic'}),
    'vqgan': ('vqgan', {'variant.class_conditional': True, **SMALL_VQGAN}),
    'kl autoencoder': ('vqgan', {'variant.bottleneck': 'gaussian', **SMALL_VQGAN}),
    'gan': ('gan', {'model.class_conditional': True}),
    'transformer': ('prior', {'model.class_conditional': True}),
    'rq_transformer': ('prior', {'model.pattern': 'depth', 'model.class_conditional': True}),
    'maskgit': ('prior', {'model.kind': 'maskgit'}),
    'pixelcnn': ('prior', {'model.kind': 'pixelcnn', 'model.class_conditional': True, 'pixelcnn.depth': 2}),
    'unet': ('diffusion', {'model.class_conditional': True}),
    'dit': ('diffusion', {'model.backbone': 'dit', 'model.class_conditional': True}),
    'classifier': ('classifier', {}),
}


def players(name, changes):
    """Each model with its parameters' shapes, and the layer that owns each parameter."""
    config = default_config(name)
    with config.unlocked():
        for key, value in {'tokenizer.levels': 4, 'perceptual.kind': 'none', **changes}.items():
            section, leaf = key.split('.')
            if section in config:
                config[section][leaf] = value
    shape = (32, 32, 3) if name != 'prior' else (8, 8, 3)
    task = make_task(config, Spec('image', shape), 3)
    owners = {}

    def record(call, args, kwargs, context):
        root = context.module
        while isinstance(root.parent, nn.Module):
            root = root.parent
        owners[type(root), context.module.path] = context.module
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        state = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, Spec('image', shape)))
    states = {type(task.model): getattr(state, 'generator', state)}
    if hasattr(state, 'discriminator'):
        states[type(task.adversary.discriminator)] = state.discriminator
    for model, player in states.items():
        of_model = {path: module for (root, path), module in owners.items() if root is model}
        yield player.params, of_model


def decayed(params):
    """The paths of the parameters that change where there is no gradient."""
    optimizer = make_optimizer(OptimizerConfig(name='adamw', weight_decay=0.5, learning_rate=1.0), 1)
    rule = optimizer.transformation

    def update(params):
        updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
        return jax.tree.map(jnp.any, updates)

    # Few of each: whether it decays must not depend on its size.
    few = jax.tree.map(lambda x: jnp.ones([min(n, 2) for n in x.shape]), params)
    return {path for path, moved in flatten_dict(update(few)).items() if moved}


@pytest.mark.parametrize('name', MODELS)
def test_matrices_of_linear_layers_decay_and_nothing_else(name):
    found = list(players(*MODELS[name]))
    for params, owners in found:
        matrices = {
            path
            for path in flatten_dict(params)
            if isinstance(owners.get(path[:-1]), LINEAR) and path[-1] != 'bias'
        }
        assert decayed(params) == matrices and matrices
        others = {
            path: owners[path[:-1]]
            for path, x in flatten_dict(params).items()
            if len(x.shape) > 1 and path not in matrices
        }
        known = [
            isinstance(owner, TABLES) or path[-1] in ('codebook', 'position')
            for path, owner in others.items()
        ]
        assert all(known), others


def test_layers_inside_spectral_normalisation_decay_too():
    """It wraps them out of sight of their model, and leaves their parameters where they were."""
    changes = {'model.class_conditional': True}
    plain, wrapped = (
        [
            decayed(params)
            for params, _ in players('gan', {**changes, 'discriminator.spectral_norm': spectral})
        ]
        for spectral in (False, True)
    )
    assert plain == wrapped
