"""Whole runs with kinds of codebooks: opened in a notebook, on several devices, stopped and resumed."""

import signal

import numpy as np
import pytest

import vq_jax
from tests.runs import DESCENT, assert_equal_runs, assert_same_descent, run
from vq_jax.tasks import default_config
from vq_jax.tasks.codec import LatentConfig, TokenizerConfig, make_codec
from vq_jax.tasks.codes import write_codes
from vq_jax.train import train

SMALL = {
    'batch_size': 32,
    'model.stages': 1,
    'model.channels': 8,
    'model.residual_channels': 8,
    'quantizer.dim': 8,
    'quantizer.num_codes': 16,
    'quantizer.groups': 2,
}
KINDS = {
    'residual': {
        'quantizer.kind': 'residual',
        'quantizer.estimator': 'rotation',
        'residual.depth': 2,
        'residual.dropout': 0.5,
        'residual.shared': True,
    },
    'dac': {
        'quantizer.kind': 'residual',
        'quantizer.learning': 'gradient',
        # Of k-means, rounding decides which of two equal codes the blank patches move.
        'quantizer.codebook_init': 'random',
        'quantizer.code_dim': 2,
        'quantizer.cosine': True,
        'quantizer.unit_length': False,
        'quantizer.orthogonality': 0.1,
        'residual.depth': 2,
        'residual.dropout': 1.0,
    },
    'simvq': {'quantizer.kind': 'simvq', 'simvq.num_codes': 16, 'simvq.estimator': 'rotation'},
    'multi_scale': {
        'quantizer.kind': 'multi_scale',
        'quantizer.groups': 1,
        'quantizer.revive_below': 0.5,
        'multi_scale.scales': (1, 2, 4),
    },
}


@pytest.mark.slow
def test_a_run_trains_and_its_first_depths_are_decoded(tmp_path):
    config = default_config('vqvae')
    config.update_from_flattened_dict(SMALL | KINDS['residual'])
    config.steps = config.eval_every = config.checkpoint_every = 30
    config.optimizer.learning_rate, config.model.dtype = 5e-3, 'bfloat16'
    metrics = train(config, tmp_path / 'run')
    assert metrics['perplexity_depth_0'] > 2 and 'codebook_usage_depth_3' in metrics
    opened = vq_jax.load(tmp_path / 'run')
    images = next(iter(vq_jax.data.eval_batches(opened.dataset('test'), batch_size=8)))['x']
    codes = opened.encode(images)
    assert codes.shape == (8, 4, 4, 4) and opened.task.vocabularies == ((16,) * 4,)
    errors = [np.square(np.float64(opened.decode(codes, depths=depths)) - images).mean() for depths in (2, 4)]
    assert errors[1] < errors[0] < np.square(np.float64(images)).mean()
    with pytest.raises(vq_jax.UserError, match=r'depths is 3, .* this model decodes so many: 2, 4; give'):
        opened.decode(codes, depths=3)

    codec = make_codec(TokenizerConfig(str(tmp_path / 'run')), opened.spec)
    assert codec.code_spec.shapes == ((4, 4, 4),)
    codec = make_codec(LatentConfig(str(tmp_path / 'run')), opened.spec)
    latents = codec.latents(codec.state(), images)
    # Two programs in bfloat16, which may round a grey level to either side.
    decoded = np.asarray(codec.decode_latents(codec.state(), latents, None), int)
    np.testing.assert_allclose(decoded, np.asarray(opened.reconstruct(images), int), atol=1)


@pytest.mark.slow
def test_first_scales_are_decoded_and_a_prior_learns_a_scale(tmp_path):
    config = default_config('vqvae')
    config.update_from_flattened_dict(SMALL | KINDS['multi_scale'] | {'multi_scale.scales': (1, 2, 3, 4)})
    config.steps = config.eval_every = config.checkpoint_every = 30
    config.optimizer.learning_rate, config.model.dtype = 5e-3, 'bfloat16'
    metrics = train(config, tmp_path / 'run')
    assert metrics['perplexity'] > 2 and 'codebook_usage_scale_3' in metrics
    opened = vq_jax.load(tmp_path / 'run')
    images = next(iter(vq_jax.data.eval_batches(opened.dataset('test'), batch_size=8)))['x']
    codes = opened.encode(images)
    assert [scale.shape for scale in codes] == [(8, n, n) for n in (1, 2, 3, 4)]
    assert [vectors.shape for vectors in opened.lookup(codes)] == [(8, n, n, 8) for n in (1, 2, 3, 4)]
    decoded = [np.asarray(opened.decode(codes, scales=n), np.float64) for n in (1, 4)]
    errors = [np.square(x - images).mean() for x in decoded]
    assert errors[1] < errors[0] < np.square(np.float64(images)).mean()
    np.testing.assert_array_equal(opened.decode(codes[:1], depths=1), decoded[0])
    np.testing.assert_array_equal(opened.decode(codes), decoded[1])
    for given, words in [
        (
            {'codes': codes, 'scales': 5},
            'scales is 5, and this model has 4 and decodes one of 1, 2, 3, 4; give',
        ),
        ({'codes': codes[:2], 'scales': 3}, 'scales is 3, and there are codes of 2; give no more'),
        ({'codes': codes[0]}, 'a tuple of 4 scales, .* or of the first of them'),
        ({'codes': codes[:2], 'depths': 2}, 'depths is 2, .* this model decodes so many: 1; give'),
    ]:
        with pytest.raises(vq_jax.UserError, match=words):
            opened.decode(**given)

    write_codes(tmp_path / 'run', tmp_path / 'codes', splits=['train', 'test'])
    prior = default_config('prior')
    prior.tokenizer.workdir, prior.data.name = str(tmp_path / 'run'), f'codes:{tmp_path / "codes"}'
    prior.steps = prior.eval_every = prior.checkpoint_every = 2
    prior.batch_size, prior.model.scale = 8, 1
    prior.transformer.depth, prior.transformer.width, prior.transformer.heads = 1, 16, 2
    assert 'nats' in train(prior, tmp_path / 'prior')
    prior.model.scale = 2
    with pytest.raises(
        vq_jax.UserError, match=r'scale 2 .* grid of 3x3, no multiple of the 2x2 .* as a prior'
    ):
        train(prior, tmp_path / 'other')
    with pytest.raises(vq_jax.UserError, match='has several scales of codes, which cannot be learned as one'):
        make_codec(LatentConfig(str(tmp_path / 'run')), opened.spec)


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['pmap', 'jit'])
@pytest.mark.parametrize('kind', KINDS)
def test_eight_devices_equal_one_and_a_stop_changes_nothing(engine, kind, tmp_path):
    changes = [f'--config.{key}={value}' for key, value in (SMALL | KINDS[kind]).items()]
    arguments = ['--config=tests/digits.py', *changes, f'--config.parallel.engine={engine}', *DESCENT]
    one, eight, stopped = (tmp_path / name for name in ('one', 'eight', 'stopped'))
    run([*arguments, f'--workdir={one}'])
    run([*arguments, f'--workdir={eight}'], devices=8)
    assert_same_descent(one, eight)
    run([*arguments, f'--workdir={stopped}'], signalled=(stopped / 'checkpoints' / '2', signal.SIGTERM))
    run([*arguments, f'--workdir={stopped}'])
    assert_equal_runs(one, stopped)
