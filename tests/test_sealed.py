"""What a run is, its checkpoints know: a file that was changed or lost is noticed."""

import contextlib
import json
import shutil

import pytest

import vq_jax
from tests.runs import logged
from vq_jax.errors import UserError
from vq_jax.reporting import read_runs
from vq_jax.tasks import default_config
from vq_jax.train import train
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.manifest import seal, unseal


def small_config():
    config = default_config('vqvae')
    config.steps, config.checkpoint_every, config.eval_every, config.log_every = 4, 2, 2, 1
    config.batch_size = 8
    config.data.channels = 1
    config.data.eval_split = 'test[:8]'
    config.model.channels = config.model.residual_channels = 4
    config.model.stages = 1
    config.quantizer.num_codes = 4
    config.quantizer.dim = 2
    config.optimizer.schedule = 'cosine'
    return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'run'
    train(small_config(), workdir)
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / 'run')


def change(path, key, value):
    content = json.loads(path.read_text())
    *sections, name = key.split('.')
    section = content
    for part in sections:
        section = section[part]
    assert section[name] != value
    section[name] = value
    path.write_text(json.dumps(content))


def refused(workdir, match, config=None):
    """By who reads, and by who goes on training; nothing is changed."""
    before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}
    with pytest.raises(UserError, match=match):
        vq_jax.load(workdir)
    with pytest.raises(UserError, match=match):
        train(config or small_config(), workdir)
    assert {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize(
    'key, value, text',
    [
        ('seed', 1, r'seed \(there 0, now 1\)'),
        ('optimizer.b1', 0.8, r'optimizer\.b1 \(there 0\.9, now 0\.8\)'),
        ('data.flip', True, r'data\.flip \(there false, now true\)'),
    ],
)
def test_a_digit_of_the_config_that_was_changed_is_told(key, value, text, workdir):
    change(workdir / 'config.json', key, value)
    config = small_config()
    refused(workdir, f'config.json is not what the run was trained with: .*{text}; put')
    config.update_from_flattened_dict({key: value})  # to whatever the run is to go on with
    refused(workdir, f'config.json is not what .*{text}; put', config)


@pytest.mark.parametrize(
    'key, value, text',
    [
        ('spec.shape', [8, 16, 1], r'spec\.shape \(there \[8, 8, 1\], now \[8, 16, 1\]\)'),
        ('class_names', list('0123456798'), 'class_names'),
        ('published', 64 * '0', r'published \(there null'),
    ],
)
def test_facts_of_the_data_that_were_changed_are_told(key, value, text, workdir):
    change(workdir / 'data.json', key, value)
    refused(workdir, f'data.json is not what the run was trained with: .*{text}')


@pytest.mark.parametrize('number', [1, 2, 4])
def test_a_run_of_another_format_is_refused(number, workdir):
    """By `data.json`, and where that says otherwise by what checkpoints were sealed with."""
    match = f'holds a run of format {number}, and this version of vq_jax reads format 3; train it again, or'
    facts = json.loads((workdir / 'data.json').read_text())
    assert facts['format'] == 3
    other = {key: value for key, value in facts.items() if key != 'format'}  # as in runs of before
    other |= {'image_shape': other.pop('spec')['shape']} if number == 1 else {'format': number}
    (workdir / 'data.json').write_text(json.dumps(other))
    with pytest.raises(UserError, match=match):
        vq_jax.load(workdir)
    with pytest.raises(UserError, match=match):
        read_runs([workdir])
    (workdir / 'data.json').write_text(json.dumps(facts))
    for manifest in workdir.glob('checkpoints/*/manifest.json'):
        record = unseal(manifest)
        record['sealed']['data']['format'] = number
        manifest.write_text(seal(record))
    refused(workdir, match)


def test_keys_of_which_nothing_learned_depends_may_change(workdir):
    for key, value in (('num_shown', 1), ('data.cache_gib', 0.5), ('keep_checkpoints', 5)):
        change(workdir / 'config.json', key, value)
    assert vq_jax.load(workdir).step == 4
    assert train(small_config(), workdir) is not None


def test_a_schedule_that_was_changed_in_the_file_is_not_gone_on_with(workdir):
    change(workdir / 'config.json', 'schedule_steps', 5)
    train(small_config(), workdir)
    assert json.loads((workdir / 'config.json').read_text())['schedule_steps'] is None
    change(workdir / 'config.json', 'steps', 6)
    config = small_config()
    config.steps = 6
    with pytest.raises(UserError, match=r'steps \(there 4, now 6\)'):
        train(config, workdir)


def test_a_config_that_was_deleted(workdir):
    before = (workdir / 'config.json').read_text()
    (workdir / 'config.json').unlink()
    with pytest.raises(UserError, match=r'has no config\.json'):
        vq_jax.load(workdir)
    config = small_config()
    config.optimizer.learning_rate *= 2
    with pytest.raises(UserError, match=r'holds a run with another config, .* optimizer\.learning_rate'):
        train(config, workdir)
    assert not (workdir / 'config.json').exists()
    assert train(small_config(), workdir) is not None
    assert (workdir / 'config.json').read_text() == before


def test_checkpoints_that_were_deleted(workdir):
    log = logged(workdir)
    match = r'has a log up to step 4 and no checkpoint to go on from; put its folder checkpoints back'
    (workdir / 'checkpoints').rename(workdir / 'elsewhere')
    with pytest.raises(UserError, match=match):
        train(small_config(), workdir)
    (workdir / 'checkpoints').mkdir()
    with pytest.raises(UserError, match=match):
        train(small_config(), workdir)
    (workdir / 'checkpoints' / '3.saving').mkdir()
    with pytest.raises(UserError, match=match):
        train(small_config(), workdir)
    assert logged(workdir) == log


def test_checkpoints_that_were_deleted_after_the_first_of_them_was_complete(workdir):
    """A run that was stopped before the step at which it would have saved."""
    log = workdir / 'metrics.jsonl'
    log.write_text(''.join(line for line in log.open() if json.loads(line)['step'] == 1))
    for path in (workdir / 'checkpoints').iterdir():
        shutil.rmtree(path)
    with pytest.raises(UserError, match=r'has a log up to step 1 and no checkpoint to go on from'):
        train(small_config(), workdir)
    assert {line['step'] for line in logged(workdir)} == {1}


def test_checkpoints_that_were_deleted_and_what_else_there_was_but_the_log(workdir):
    (workdir / 'checkpoints').rename(workdir / 'elsewhere')
    for name in ('config.json', 'data.json'):
        (workdir / name).unlink()
    log = logged(workdir)
    with pytest.raises(UserError, match=r'has a log up to step 4 and no checkpoint to go on from'):
        train(small_config(), workdir)
    assert logged(workdir) == log
    assert not (workdir / 'config.json').exists()


def test_a_run_that_another_began_and_ended_meanwhile_is_not_taken_for_a_new_one(
    trained, tmp_path, monkeypatch
):
    """Two start at once; the second gets the lock when the first has ended."""
    workdir = tmp_path / 'run'

    @contextlib.contextmanager
    def late(path):
        shutil.copytree(trained, path)
        yield

    monkeypatch.setattr('vq_jax.fitting.only_writer', late)
    config = small_config()
    config.seed = 1
    with pytest.raises(UserError, match=r'another process has begun or changed the run in .* meanwhile'):
        train(config, workdir)
    for name in ('config.json', 'data.json', 'metrics.jsonl'):
        assert (workdir / name).read_bytes() == (trained / name).read_bytes()


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(trained, workdir, capsys):
    shutil.rmtree(workdir / 'checkpoints')
    # Its log may reach as far as the second one, which waits for the first.
    Checkpoints(workdir / 'checkpoints').close()
    assert train(small_config(), workdir) is not None
    assert 'no checkpoint to go on from; the run, and its log, begin anew' in ' '.join(
        capsys.readouterr().out.split()
    )
    assert logged(workdir) == logged(trained)


def test_a_run_of_before_checkpoints_were_sealed(workdir, monkeypatch):
    monkeypatch.setattr('vq_jax.training.checkpoints.Checkpoints.sealed', lambda self: {})
    assert vq_jax.load(workdir).step == 4
    assert train(small_config(), workdir) is not None
    (workdir / 'config.json').unlink()
    with pytest.raises(UserError, match=r'holds checkpoints without their config\.json; restore it'):
        train(small_config(), workdir)
