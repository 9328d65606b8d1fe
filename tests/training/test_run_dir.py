"""What a run directory keeps of a run's config and of the published weights that it learns with."""

import dataclasses
import json

import ml_collections
import numpy as np
import pytest

from tests.permissions import closed
from tests.runs import assert_equal_runs, logged, small_gan
from vq_jax.errors import UserError
from vq_jax.spec import Spec, TextVectors, Tokens
from vq_jax.tasks import default_config
from vq_jax.tasks.perceptual import Perceptual
from vq_jax.train import train
from vq_jax.training.config import to_json
from vq_jax.training.manifest import fingerprint
from vq_jax.training.run_dir import (
    DataFacts,
    check_published,
    facts_to_seal,
    is_run,
    read_config,
    read_data_facts,
    write_config,
    write_data_facts,
)

WEIGHTS = {'kernel': np.arange(3.0)}


def test_a_run_can_be_made_longer_where_no_rate_depends_on_its_length(tmp_path):
    config = small_gan()
    train(config, tmp_path / 'short')
    config.discriminator_optimizer.schedule = 'cosine'
    with pytest.raises(UserError, match=r'schedule \(there "constant", now "cosine"\)'):
        train(config, tmp_path / 'short')
    config.steps = 4
    with pytest.raises(
        UserError, match=r'steps \(there 2, now 4\) \(its learning rates depend on steps; --ext'
    ):
        train(config, tmp_path / 'short')
    config.discriminator_optimizer.schedule = 'constant'
    for name in ('short', 'long'):
        train(config, tmp_path / name)
    assert_equal_runs(tmp_path / 'short', tmp_path / 'long')
    config.steps = 3
    with pytest.raises(UserError, match=r'now 3\) \(a run can be made longer, not shorter\); use'):
        train(config, tmp_path / 'short')


@pytest.mark.slow
def test_a_schedule_is_held_or_stretched_and_what_is_left_behind_may_change(tmp_path):
    config = small_gan()
    config.optimizer.schedule = 'cosine'
    with pytest.raises(UserError, match='there is no run in'):
        train(config, tmp_path / 'run', extend_schedule='hold')
    train(config, tmp_path / 'run')
    config.steps = 4
    with pytest.raises(UserError, match="'holt'"):
        train(config, tmp_path / 'run', extend_schedule='holt')
    train(config, tmp_path / 'run', extend_schedule='hold')
    train(config, tmp_path / 'run', extend_schedule='hold')  # the same command again changes nothing
    train(config, tmp_path / 'run')  # and needs no flag
    planned = small_gan(4)
    planned.optimizer.schedule = 'cosine'
    planned.schedule_steps = 2
    train(planned, tmp_path / 'planned')
    assert_equal_runs(tmp_path / 'run', tmp_path / 'planned')

    config.steps = 8
    config.log_every = 1
    config.eval_every = 3
    config.checkpoint_every = 4
    config.keep_checkpoints = 1
    config.num_shown = 2
    config.best_metric = 'diversity'
    config.best_mode = 'max'
    for extend in ('stretch', 'stretch', None):
        train(config, tmp_path / 'run', extend_schedule=extend)
    rates = {x['step']: x['learning_rate'] for x in logged(tmp_path / 'run') if x['split'] == 'train'}
    assert sorted(rates) == [2, 4, 5, 6, 7, 8]
    peak, length = config.optimizer.learning_rate, {2: 2, 4: 2} | dict.fromkeys((5, 6, 7, 8), 8)
    for step, rate in rates.items():
        share = min(1, (step - 1) / length[step])
        assert rate == pytest.approx(peak * (1 + np.cos(np.pi * share)) / 2, rel=1e-5, abs=1e-12)
    (told,) = [
        x['text'] for x in logged(tmp_path / 'run') if x['split'] == 'warning' and 'schedule' in x['text']
    ]
    assert told == 'the schedules of the learning rates are made for 8 steps from here on, and were for 2.'


def test_a_run_of_another_task_is_told_in_a_sentence(tmp_path):
    begun(tmp_path)
    with pytest.raises(UserError) as caught:
        train(default_config('gan'), tmp_path)
    words = f'{tmp_path} holds a run of the task vqgan, and the config is of gan; give another --workdir.'
    assert str(caught.value) == words


def begun(workdir) -> ml_collections.ConfigDict:
    """A run directory as it is before the first step, and its config."""
    config = default_config('vqgan')
    config.data.image_size = 16
    config.perceptual.kind = 'lpips'
    config.discriminator.stages = 1
    write_config(workdir, to_json(config))
    write_data_facts(workdir, DataFacts(Spec('image', (16, 16, 1)), 10, {}, fingerprint(WEIGHTS)))
    return config


def test_the_weights_that_it_began_with_are_taken(tmp_path):
    begun(tmp_path)
    check_published(tmp_path, fingerprint(WEIGHTS))
    with pytest.raises(UserError, match=r'with other weights of .* now none'):
        check_published(tmp_path, None)


def test_a_run_does_not_go_on_with_other_weights(tmp_path, monkeypatch):
    config = begun(tmp_path)
    monkeypatch.setattr(Perceptual, 'pretrained', lambda self: {'kernel': np.arange(1.0, 4.0)})
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UserError, match='was trained with other weights'):
        train(config, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_names_of_classes_are_kept(tmp_path):
    names = ('dark', 'été [/b] 図', 'not UTF-8 \udcff')
    write_data_facts(tmp_path, DataFacts(Spec('image', (8, 8, 1)), 3, {}, class_names=names))
    assert read_data_facts(tmp_path).class_names == names
    kept = json.loads((tmp_path / 'data.json').read_text())
    for wrong in (names[:2], [1, 2, 3], 'abc', {'a': 0, 'b': 1, 'c': 2}):
        (tmp_path / 'data.json').write_text(json.dumps({**kept, 'class_names': wrong}))
        with pytest.raises(UserError, match=r'data\.json'):
            read_data_facts(tmp_path)
    del kept['class_names']  # as in runs of before
    (tmp_path / 'data.json').write_text(json.dumps(kept))
    assert read_data_facts(tmp_path).class_names is None


@pytest.mark.parametrize(
    'key, value',
    [
        ('spec', {'kind': 'image', 'shape': ['<meta http-equiv=refresh content=0>', 16, 1]}),
        ('spec', {'kind': 'image', 'shape': [16, 16, 0]}),
        ('spec', {'kind': 'image', 'shape': [16, 16, 2**40]}),
        ('spec', {'kind': 'image', 'shape': [16, 16, 2**16]}),
        ('spec', {'kind': 'image', 'shape': 16}),
        ('num_classes', -1),
        ('num_classes', 10**30),
        ('num_classes', None),
        ('built_on', []),
        ('built_on', {'tokenizer': {'workdir': 'runs/x', 'step': '1', 'checksum': 'f'}}),
        ('built_on', {'tokenizer': {'workdir': 'runs/x'}}),
        ('built_on', {'other': {'workdir': 'runs/x', 'step': 1, 'checksum': 'f'}}),
        ('published', 3),
    ],
)
def test_facts_of_other_types_are_told_in_a_sentence(tmp_path, key, value):
    begun(tmp_path)
    path = tmp_path / 'data.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=r'data\.json .*; restore it from a copy'):
        read_data_facts(tmp_path)


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"data\.json .*'\\x1b'\); rename what is called so"):
        write_data_facts(tmp_path, DataFacts(Spec('image', (8, 8, 1)), 1, class_names=('\x1b[2J',)))
    content = '"' * 2**25  # each is two characters there
    with pytest.raises(UserError, match=r'has 67,10.* bytes, and fewer .*; take a smaller text tokenizer'):
        write_data_facts(tmp_path, DataFacts(Spec('text', (8,), tokens=Tokens('bpe', content)), 0))
    with pytest.raises(UserError, match=r'config\.json .*; change the config'):
        write_config(tmp_path, {'data': {'name': 'folder:a\0b'}})
    assert not list(tmp_path.iterdir())


def test_a_directory_that_this_user_may_not_read(tmp_path):
    begun(tmp_path / 'closed' / 'run')
    with closed(tmp_path / 'closed'):
        for read in (read_config, read_data_facts, is_run):
            with pytest.raises(UserError, match='check its permissions'):
                read(tmp_path / 'closed' / 'run')


def test_runs_of_before_there_were_vectors_of_texts_are_sealed_as_they_were():
    plain = Spec('image', (8, 8, 1))
    assert set(facts_to_seal(DataFacts(plain, 0))['spec']) == {'kind', 'shape', 'rate'}
    spec = dataclasses.replace(plain, text_vectors=TextVectors(4, 3, 'a'))
    sealed = facts_to_seal(DataFacts(spec, 0))['spec']
    assert sealed['text_vectors'] == {'length': 4, 'width': 3, 'encoder': 'a'}
