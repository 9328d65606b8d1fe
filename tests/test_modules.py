"""The modules of a config's model, as a summary lists them."""

from tests.runs import run
from vq_jax.modules import print_modules
from vq_jax.spec import Spec
from vq_jax.tasks import default_config


def test_each_group_and_depth_has_a_row(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '120')  # room for the names in one line
    config = default_config('vqvae')
    config.update_from_flattened_dict(
        {
            'batch_size': 2,
            'model.channels': 8,
            'model.residual_channels': 8,
            'quantizer.dim': 8,
            'quantizer.kind': 'residual',
            'quantizer.groups': 2,
            'quantizer.num_codes': 5,
            'quantizer.learning': 'gradient',
            'residual.depth': 2,
        }
    )
    print_modules(config, Spec('image', (8, 8, 3)))
    rows = [line.split('│')[1:-1] for line in capsys.readouterr().out.splitlines() if 'bottleneck' in line]
    found = {name.strip(): (returns.strip(), parameters.strip()) for name, returns, parameters in rows}
    members = [f'Autoencoder/bottleneck/members_{i}' for i in range(2)]
    expected = {
        f'{member}/stages_{i}': ('float32 [2, 2, 2, 4]', '20') for member in members for i in range(2)
    }
    expected |= dict.fromkeys(members, ('float32 [2, 2, 2, 4]', '40'))
    assert found == expected | {'Autoencoder/bottleneck': ('float32 [2, 2, 2, 8]', '80')}


def test_a_bottleneck_of_several_scales_has_a_row(capsys, monkeypatch):
    """Of what it returns, the coarsest."""
    monkeypatch.setenv('COLUMNS', '120')
    config = default_config('vqvae')
    config.update_from_flattened_dict(
        {'batch_size': 2, 'model.channels': 8, 'model.residual_channels': 8, 'quantizer.dim': 8}
        | {'quantizer.num_codes': 5, 'model.top_stages': 1}
    )
    print_modules(config, Spec('image', (16, 16, 3)))
    rows = {line.split('│')[1].strip(): line for line in capsys.readouterr().out.splitlines() if '│' in line}
    assert 'float32 [2, 2, 2, 8]' in rows['Autoencoder/bottleneck']
    assert 'float32 [2, 4, 4, 8]' in rows['Autoencoder/bottleneck/quantizers_1']


def test_the_command_knows_the_rate_of_sound():
    """Which losses in mel bands need; nothing else tells it where no data is read."""
    words = [
        '--config=configs/audio/speech_classifier.py',
        '--config.data.sample_rate=8000',
        '--num_classes=10',
    ]
    assert 'examples: 64 x 4096 x 1\n' in run(words, module='vq_jax.summary')[0]
