"""The tasks and quantizers of one's own in docs/extending.md, and that nobody else's are imported."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

import vq_jax
from tests.runs import ROOT, refused, run
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import complete_config, default_config, make_task
from vq_jax.tasks.codes import write_codes
from vq_jax.train import train
from vq_jax.training.extensions import allowing, named_modules
from vq_jax.training.manifest import seal, unseal


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where the code of the page is, and Python finds it."""
    folder = tmp_path_factory.mktemp('own')
    page = (ROOT / 'docs' / 'extending.md').read_text()
    for name, code in re.findall(r'```python\n# (\w+\.py)\n(.*?)```', page, re.DOTALL):
        (folder / name).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv('PYTHONPATH', f'{folder}:{ROOT}')
        yield folder


def short(config, steps=3):
    config.steps = config.eval_every = config.checkpoint_every = steps
    config.log_every = 1
    config.batch_size = 8
    config.data.eval_split = 'test[:8]'
    return config


@pytest.fixture(scope='module')
def workdir(folder):
    import gumbel_config

    config = short(gumbel_config.get_config())
    config.model.channels = 8
    config.custom_quantizer.anneal_steps = 2
    train(config, folder / 'gumbel')
    return folder / 'gumbel'


@pytest.fixture(scope='module')
def prior(folder, workdir):
    config = short(default_config('prior'))
    config.data.image_size = 8
    config.tokenizer.workdir = str(workdir)
    config.transformer.depth = config.transformer.heads = 1
    config.transformer.width = 8
    with pytest.raises(UserError, match=r'the run .*gumbel is made with code .* --allow_import=gumbel '):
        train(config, folder / 'prior')
    assert not (folder / 'prior').exists()
    train(config, folder / 'prior', allow=('gumbel',))
    return folder / 'prior'


def test_the_quantizer_sees_the_step(workdir):
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    told = [line['temperature'] for line in lines if line['split'] == 'train']
    assert told == pytest.approx([1, 0.25, 0.0625])
    assert json.loads((workdir / 'config.json').read_text())['quantizer']['kind'] == 'gumbel:GumbelQuantizer'


def test_the_config_of_the_run_is_read_on_resume(workdir):
    import gumbel_config

    config = short(gumbel_config.get_config())
    config.custom_quantizer.num_codes = 32
    with pytest.raises(UserError, match=r'custom_quantizer.num_codes \(there 64, now 32\)'):
        train(config, workdir)


def test_whoever_opens_a_run_allows_its_code(workdir, prior, tmp_path):
    for path in (workdir, prior):
        with pytest.raises(UserError, match=r"allow=\('gumbel',\)"):
            vq_jax.load(path)
        with pytest.raises(UserError, match=r"allow=\('gumbel',\)"):
            vq_jax.load(path, allow=('gumb', 'gumbel.GumbelQuantizer', 'os'))
    opened = vq_jax.load(workdir, allow=('gumbel',))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(opened.decode(opened.encode(images)), opened.reconstruct(images))
    assert opened.evaluate().metrics['examples'] == 8
    assert vq_jax.load(prior, allow=('gumbel',)).sample(2).shape == (2, 8, 8, 1)
    with pytest.raises(UserError, match='allow_import'):
        write_codes(workdir, tmp_path / 'codes', splits=['test[:8]'], batch_size=8)
    written = write_codes(workdir, tmp_path / 'codes', splits=['test[:8]'], batch_size=8, allow=('gumbel',))
    assert written == {'test[:8]': 8}


def test_commands_with_code_of_ones_own(folder, workdir, prior, tmp_path):
    printed, _ = run([f'--config={folder / "gumbel_config.py"}'], module='vq_jax.summary')
    assert 'bottleneck/to_logits' in printed
    run(
        ['--workdir', prior, '--num=1', f'--output={tmp_path / "x.png"}', '--allow_import=gumbel'],
        module='vq_jax.sample',
    )
    run([workdir, prior, f'--output={tmp_path / "report.html"}'], module='vq_jax.report')
    assert 'gumbel:GumbelQuantizer' in (tmp_path / 'report.html').read_text()


def test_a_run_of_a_stranger_imports_nothing(folder, workdir, tmp_path):
    (folder / 'payload.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")\nclass Payload: pass\n')
    for key in ('task', 'quantizer'):
        stranger = tmp_path / key
        stranger.mkdir()
        config = json.loads((workdir / 'config.json').read_text())
        config |= {'task': 'payload:Payload'} if key == 'task' else {'quantizer': {'kind': 'payload:Payload'}}
        (stranger / 'config.json').write_text(json.dumps(config))
        (stranger / 'data.json').write_text((workdir / 'data.json').read_text())
    runs, out = [tmp_path / 'task', tmp_path / 'quantizer'], f'--output={tmp_path / "out.png"}'
    for module, more in (
        ('evaluate', []),
        ('sample', [out]),
        ('tokenize', [out]),
        ('train', [f'--config={folder / "gumbel_config.py"}']),
    ):
        commands = [['--workdir', path, *more] for path in runs]
        for error in refused(f'vq_jax.{module}', *commands, shows=module == 'train'):
            assert 'payload' in error and error.count('\n') == 1
    config = default_config('prior')
    config.tokenizer.workdir = str(runs[0])
    for name in ('payload:Payload', 'os:system'):
        with pytest.raises(UserError, match='--allow_import='):
            make_task(config, Spec('image', (8, 8, 1)))
        config.tokenizer.workdir = ''
        config.task = name
    assert not (tmp_path / 'ran').exists() and 'payload' not in sys.modules


def test_nor_does_what_a_stranger_sealed_with_a_checkpoint(folder, workdir, tmp_path):
    stranger = shutil.copytree(workdir, tmp_path / 'run')
    (folder / 'sealed.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")\nclass Payload: pass\n')
    for manifest in stranger.glob('checkpoints/*/manifest.json'):
        record = unseal(manifest)
        record['sealed']['config']['task'] = 'sealed:Payload'
        manifest.write_text(seal(record))
    with pytest.raises(UserError, match='--allow_import=sealed'):
        vq_jax.load(stranger, allow=('gumbel',))
    assert not (tmp_path / 'ran').exists() and 'sealed' not in sys.modules


def test_a_name_is_no_command_to_copy(folder, workdir, tmp_path):
    config = json.loads((workdir / 'config.json').read_text()) | {'task': 'x;rm -rf ~:Task'}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"'x;rm -rf ~:Task', which is no 'module:Class'"):
        vq_jax.load(tmp_path)


@pytest.mark.parametrize(
    'name, words',
    [
        ('nosuch:Task', "there is no module 'nosuch'"),
        ('gumbel.nosuch:Task', "there is no module 'gumbel.nosuch'"),
        ('gumbel:GumbleQuantizer', "gumbel has no class GumbleQuantizer; did you mean 'GumbelQuantizer'"),
        ('gumbel:jax', 'gumbel has no class jax'),
        ('brightness:BrightnessConfig', 'which is no Flax module'),
        ('flax.linen:Dense', 'which has no vocabulary, no dim, no lookup, no project, no nearest'),
        ('a:b:c', "name a class of your own as 'module:Class'"),
    ],
)
def test_names_of_no_quantizer(folder, name, words):
    with pytest.raises(UserError) as caught:
        default_config('vqvae', quantizer=name)
    assert words in str(caught.value)
    config = default_config('vqvae')
    config.quantizer.kind = name
    with pytest.raises(UserError) as caught, allowing(named_modules(config)):
        complete_config(config)
    assert words in str(caught.value)


def test_a_task_of_ones_own(folder):
    config = short(default_config('brightness:BrightnessVQVAE'), steps=1)
    config.model.channels = 4
    config.quantizer.codebook_init = 'random'
    config.brightness.most = 16.0
    train(config, folder / 'brightness')
    with pytest.raises(UserError, match='--allow_import=brightness'):
        vq_jax.load(folder / 'brightness')
    opened = vq_jax.load(folder / 'brightness', allow=('brightness',))
    assert opened.task.brightness.most == 16
    assert opened.evaluate().metrics['examples'] == 8
    config.task = 'brightness:BrightnessConfig'
    with pytest.raises(UserError, match='no subclass of vq_jax'), allowing(['brightness']):
        complete_config(config)
    with pytest.raises(UserError, match='--allow_import=brightness'):  # of whoever wrote it
        complete_config(config)
