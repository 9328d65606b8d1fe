"""The tables of experiments/: every row can be run, and what is written down is what was seen."""

import importlib.util

import pytest

from tests.runs import ROOT
from vq_jax.config_files import split_config
from vq_jax.spec import Spec
from vq_jax.tables import FrameByFrame, read_table, write_table
from vq_jax.tables.definition import INCEPTION
from vq_jax.tasks import complete_config, default_config, make_task
from vq_jax.weights.project import IMAGENET

SPLITS = {
    'cifar10': ('train', 'test'),
    'mnist': ('train', 'test'),
    'imagenet2012': ('train', 'validation'),
    'imagenette/160px-v2': ('train', 'validation'),
    'sprites': ('train', 'test'),
    'moving_mnist': ('train', 'test'),
}
FOLDERS = sorted(path.parent for path in (ROOT / 'experiments').glob('*/table.py'))


def config_of(table, row, workdir):
    """The config that the row's run has, or that its evaluation gives it."""
    if row.weights:  # of a published VQGAN, whose arrays say the rest
        config = default_config('vqgan')
        config.update_from_flattened_dict({**IMAGENET, 'data.channels': 3})
        config = complete_config(config)
    elif not row.trains:
        config = config_of(table, next(other for other in table.rows if other.name == row.run), workdir)
    else:
        path, argument = split_config(row.config)
        spec = importlib.util.spec_from_file_location('config', ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = complete_config(module.get_config() if argument is None else module.get_config(argument))
    config.update_from_flattened_dict(row.resolved(workdir))  # raises for keys that are not there
    return config


def spec_of(config):
    shape = config.data.image_size, config.data.image_size, config.data.channels
    frames = config.data.frames
    return Spec('video', (frames, *shape)) if frames else Spec('image', shape)


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_every_row_has_a_config_that_can_be(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    table = read_table(folder)
    configs = {row.name: config_of(table, row, tmp_path) for row in table.rows}
    for row in table.rows:
        config = configs[row.name]
        if not any(name in config and config[name].workdir for name in ('tokenizer', 'latent')):
            make_task(config, spec_of(config), 10)
        if isinstance(row.comparison, FrameByFrame):
            assert config.data.frames > sum(row.comparison.given)
        elif row.comparison and row.comparison.features != INCEPTION:
            classifier = configs[row.comparison.features]
            assert classifier.task == 'classifier'
            assert spec_of(classifier) == spec_of(config)
            assert classifier.data.name == config.data.name
        if any('.' in name for name in row.metrics.values()):
            assert row.comparison


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_rows_read_splits_that_their_sets_have(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    table = read_table(folder)
    seen = set()
    for row in table.rows:
        config = config_of(table, row, tmp_path)
        if config.data.name in SPLITS:
            splits = config.data.train_split, config.data.eval_split, row.comparison and row.comparison.split
            seen |= {(config.data.name, split.partition('[')[0]) for split in splits if split}
    assert seen and not [(name, split) for name, split in seen if split not in SPLITS[name]]


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_what_is_written_down_was_made_of_the_results(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    copy = tmp_path / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    write_table(copy)
    for name in {'table.csv', 'configs.json'} & {path.name for path in folder.iterdir()}:
        assert (copy / name).read_text() == (folder / name).read_text()
    drawn = {path.name for path in folder.glob('plot_*.svg')}
    assert {path.name for path in copy.glob('plot_*.svg')} == drawn
    text = (folder / 'table.md').read_text()
    assert (copy / 'table.md').read_text().replace(str(copy), f'experiments/{folder.name}') == text
    assert all(f']({name})' in text for name in drawn)


def test_every_folder_is_found():
    names = {'vqvae_2017', 'codebook_size', 'quantizers_imagenette', 'vqgan_2021', 'priors', 'ddpm_2020'}
    assert {path.name for path in FOLDERS} >= {*names, 'video_sprites', 'published'}
