"""Runs whose files a stranger wrote are opened, or told in a sentence: nothing else comes of them."""

import json
import random
import shutil

import pytest

import vq_jax
from tests.reporting.test_hostile import changed, paths
from tests.runs import small_gan
from vq_jax.errors import UserError
from vq_jax.reporting import Environment, make_page, read_runs
from vq_jax.train import train
from vq_jax.training.manifest import seal

VALUES = (
    *(None, True, -1, 0, 1.5, 2**31, 10**30, -(10**30), 1e308, float('inf'), float('nan')),
    *('', 'x', 'a' * 5000, '..', 'gs://a/b', 'folder:/dev', '[b]', '%s{}', '\udcff', '\0', '\x1b[2J'),
    *([], {}, {'a': 1}, [1], [[1]], ['a'], [10**30] * 3),
)


@pytest.fixture(scope='module')
def honest(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('honest') / 'run'
    train(small_gan(), workdir)
    return workdir


def dropped(value, path):
    return changed(value, path, 'nobody knows', key=True)


@pytest.mark.parametrize('name', ['config.json', 'data.json', 'metrics.jsonl', 'checkpoints/2/manifest.json'])
def test_any_value_in_any_place(honest, name, tmp_path):
    """Places of each file at random: another value, and no value."""
    workdir = tmp_path / 'run'
    shutil.copytree(honest, workdir)
    file = workdir / name
    lines = name.endswith('.jsonl')
    before = list(map(json.loads, file.read_text().splitlines())) if lines else json.loads(file.read_text())
    draw = random.Random(name)
    told = opened = 0
    for path in draw.choices(list(paths(before)), k=30):
        changes = [changed(before, path, draw.choice(VALUES), key=False)]
        if isinstance(path[-1], str):
            changes.append(dropped(before, path))
        for value in changes:
            if 'manifest' in name:
                value.pop('sha256', None)
                file.write_text(seal(value))
            else:
                file.write_text('\n'.join(map(json.dumps, value)) + '\n' if lines else json.dumps(value))
            for look in (lambda: page_of(workdir), lambda: vq_jax.load(workdir)):
                try:
                    look()
                    opened += 1
                except UserError as error:
                    assert '\n' not in str(error)
                    told += 1
    assert told and opened


def test_a_run_that_is_opened_prepares_no_data(honest, tmp_path):
    """Its config may name any folder; who wants the data there says so."""
    place = tmp_path / 'data'
    run = vq_jax.load(honest, overrides={'data.data_dir': str(place)})
    for look in (run.evaluate, lambda: run.dataset('test')):
        with pytest.raises(
            UserError, match=f"'digits' is not in '{place}', and a run that is opened prepares"
        ):
            look()
    assert not list(tmp_path.iterdir())


def page_of(workdir):
    return make_page(read_runs([workdir]), Environment('', '', '', {}), '').encode()
