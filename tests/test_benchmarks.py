"""The benchmark of training steps runs for tasks without a peer, and says what is missing."""

import pytest

from tests.runs import ROOT, run

TINY = ['--batch_size=2', '--rounds=1', '--steps=1', '--nopeer', '--config.data.image_size=8']


def measure(config, *flags, **options):
    return run([f'--config=configs/{config}.py', *flags], module='benchmarks.train_step', **options)


@pytest.mark.parametrize(
    'config, flags, dtype',
    [
        ('pixelcnn_mnist', ['--config.pixelcnn.depth=1', '--config.pixelcnn.dtype=bfloat16'], 'bfloat16'),
        pytest.param('vae_mnist', [], 'float32', marks=pytest.mark.slow),
    ],
)
def test_a_task_without_a_peer(config, flags, dtype, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))  # for the process that measures memory
    output, _ = measure(config, *TINY, *flags)
    assert f'batch 2, 8x8x1, {dtype}' in output
    assert 'ms a step' in output and 'torch' not in output


def test_pictures_of_unknown_size():
    _, errors = measure('pixelcnn_mnist', status=2)
    last = errors.splitlines()[-1]
    assert last.startswith('error: ') and last.endswith('give --config.data.image_size=NUMBER.')
