"""The classes of one's own in docs/extending.md, and that nobody else's are imported."""

import json
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vq_jax
from tests.runs import ROOT, refused, run
from vq_jax.data import DataConfig, eval_batches, open_dataset
from vq_jax.errors import UserError
from vq_jax.evaluators.features import FeatureEvaluator
from vq_jax.evaluators.sources import FeatureSource
from vq_jax.extensions import allowing, named_modules
from vq_jax.models.classifier import Classified
from vq_jax.spec import Spec
from vq_jax.tasks import complete_config, default_config, make_task
from vq_jax.tasks.codes import write_codes
from vq_jax.tasks.restore import restore
from vq_jax.train import train
from vq_jax.training.manifest import seal, unseal


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where the code of the page is, and Python finds it."""
    folder = tmp_path_factory.mktemp('own')
    page = (ROOT / 'docs' / 'extending.md').read_text()
    for name, code in re.findall(r'```python\n# (\w+\.py)(?:, continued)?\n(.*?)```', page, re.DOTALL):
        with (folder / name).open('a') as file:
            file.write(code)
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
    import nsvq_config

    config = short(nsvq_config.get_config())
    config.model.channels = 8
    config.custom_quantizer.warmup_steps = 2
    train(config, folder / 'nsvq')
    return folder / 'nsvq'


@pytest.fixture(scope='module')
def prior(folder, workdir):
    config = short(default_config('prior'))
    config.data.image_size = 8
    config.tokenizer.workdir = str(workdir)
    config.transformer.depth = config.transformer.heads = 1
    config.transformer.width = 8
    with pytest.raises(UserError, match=r'the run .*nsvq is made with code .* --allow_import=nsvq '):
        train(config, folder / 'prior')
    assert not (folder / 'prior').exists()
    train(config, folder / 'prior', allow=('nsvq',))
    return folder / 'prior'


def test_the_quantizer_sees_the_step(workdir):
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    told = [line['noise'] for line in lines if line['split'] == 'train']
    assert told == pytest.approx([0, 0.5, 1])
    assert json.loads((workdir / 'config.json').read_text())['quantizer']['kind'] == 'nsvq:NoiseSubstitution'


def test_the_config_of_the_run_is_read_on_resume(workdir):
    import nsvq_config

    config = short(nsvq_config.get_config())
    config.custom_quantizer.num_codes = 32
    with pytest.raises(UserError, match=r'custom_quantizer.num_codes \(there 64, now 32\)'):
        train(config, workdir)


def test_whoever_opens_a_run_allows_its_code(workdir, prior, tmp_path):
    for path in (workdir, prior):
        with pytest.raises(UserError, match=r"allow=\('nsvq',\)"):
            vq_jax.load(path)
        with pytest.raises(UserError, match=r"allow=\('nsvq',\)"):
            vq_jax.load(path, allow=('nsv', 'nsvq.NoiseSubstitution', 'os'))
    opened = vq_jax.load(workdir, allow=('nsvq',))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(opened.decode(opened.encode(images)), opened.reconstruct(images))
    assert opened.evaluate().metrics['examples'] == 8
    assert vq_jax.load(prior, allow=('nsvq',)).sample(2).shape == (2, 8, 8, 1)
    with pytest.raises(UserError, match='allow_import'):
        write_codes(workdir, tmp_path / 'codes', splits=['test[:8]'], batch_size=8)
    written = write_codes(workdir, tmp_path / 'codes', splits=['test[:8]'], batch_size=8, allow=('nsvq',))
    assert written == {'test[:8]': 8}


@pytest.mark.slow
def test_commands_with_code_of_ones_own(folder, workdir, prior, tmp_path):
    printed, _ = run([f'--config={folder / "nsvq_config.py"}'], module='vq_jax.summary')
    assert 'bottleneck/codebook' in printed
    run(
        ['--workdir', prior, '--num=1', f'--output={tmp_path / "x.png"}', '--allow_import=nsvq'],
        module='vq_jax.sample',
    )
    run([workdir, prior, f'--output={tmp_path / "report.html"}'], module='vq_jax.report')
    assert 'nsvq:NoiseSubstitution' in (tmp_path / 'report.html').read_text()


def test_a_run_of_a_stranger_imports_nothing(folder, workdir, tmp_path):
    (folder / 'payload.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")\nclass Payload: pass\n')
    named = {
        'task': 'payload:Payload',
        'quantizer': {'kind': 'payload:Payload'},
        'conditioner': {'kind': 'payload:Payload'},
        'data': {'name': 'class:payload:Payload'},
    }
    for key, value in named.items():
        stranger = tmp_path / key
        stranger.mkdir()
        config = json.loads((workdir / 'config.json').read_text())
        config |= {'quantizer': {'kind': 'vq'}, key: value}
        (stranger / 'config.json').write_text(json.dumps(config))
        (stranger / 'data.json').write_text((workdir / 'data.json').read_text())
    runs, out = [tmp_path / key for key in named], f'--output={tmp_path / "out.png"}'
    for module, more in (
        ('evaluate', []),
        ('sample', [out]),
        ('tokenize', [out]),
        ('train', [f'--config={folder / "nsvq_config.py"}']),
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
        vq_jax.load(stranger, allow=('nsvq',))
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
        ('nsvq.nosuch:Task', "there is no module 'nsvq.nosuch'"),
        ('nsvq:NoiseSubstitute', "nsvq has no class NoiseSubstitute; did you mean 'NoiseSubstitution'"),
        ('nsvq:jax', 'nsvq has no class jax'),
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


def bars(task, **sections):
    config = short(default_config(task, conditioner='bars:Text'))
    config.data.name = 'class:bars:Bars'
    config.custom_conditioner.width = 8
    config.sampling.guidance = 2.0
    config.sampling.steps = config.num_shown = 2
    for name, keys in sections.items():
        config[name].update(keys)
    return config


@pytest.fixture(scope='module')
def drawn(folder):
    """A diffusion model of the bars of a text."""
    sizes = {'depth': 1, 'width': 16, 'heads': 2, 'patch': 4}
    config = bars('diffusion', model={'backbone': 'dit'}, dit=sizes, evaluation={'times': 1})
    train(config, folder / 'drawn')
    return folder / 'drawn'


@pytest.fixture(scope='module')
def codes(folder):
    """The codes of the bars, which were written with their texts."""
    config = short(default_config('vqvae'))
    config.data.name = 'class:bars:Bars'
    config.model.channels = 4
    config.quantizer.num_codes = 8
    train(config, folder / 'tokenizer')
    with pytest.raises(UserError, match='--allow_import=bars'):
        vq_jax.load(folder / 'tokenizer')
    splits = ['train[:16]', 'test[:8]']
    write_codes(folder / 'tokenizer', folder / 'codes', splits=splits, batch_size=8, allow=('bars',))
    return folder / 'codes'


@pytest.fixture(scope='module')
def prior_of_texts(folder, codes):
    """A prior that learns from them."""
    config = bars('prior', transformer={'width': 8, 'depth': 1, 'heads': 2})
    config.tokenizer.workdir = str(folder / 'tokenizer')
    config.data.name, config.data.train_split = f'codes:{codes}', 'train[:16]'
    train(config, folder / 'prior_of_texts', allow=('bars',))
    return folder / 'prior_of_texts'


@pytest.mark.slow
@pytest.mark.parametrize('model', ['prior_of_texts', 'drawn'])
def test_a_condition_of_ones_own_is_learned_and_sampled(model, request):
    run = vq_jax.load(request.getfixturevalue(model), allow=('bars',))
    key, _ = jax.random.split(jax.random.key(run.config.seed))  # as when it was begun
    before, now = run.task.init(key, None).params['conditioner'], run.state.params['conditioner']
    changed = jax.tree.map(lambda a, b: jnp.abs(a - b).max() > 1e-4, before, now)
    assert changed['Embed_0']['embedding'] and changed['positions']
    red, blue = {'text': 'red flat'}, {'text': 'blue steep'}
    both = run.sample(2, conditions=[red, blue], seed=1, guidance=4.0)
    np.testing.assert_array_equal(run.sample(2, conditions=red, seed=1, guidance=4.0)[0], both[0])
    # Guidance 0 leaves nothing of the text.
    free = [run.sample(2, conditions=text, seed=1, guidance=0.0) for text in (red, blue)]
    np.testing.assert_array_equal(*free)
    assert run.evaluate().metrics['examples'] == 8
    # And what it leaves is the negative text, if there is one.
    options = {'text': 'blue steep', 'negative_text': ['red flat', 'blue steep'], 'seed': 1}
    at_negative = run.sample(2, **options, guidance=0.0)
    np.testing.assert_array_equal(at_negative, run.sample(text=options['negative_text'], seed=1, guidance=1))
    np.testing.assert_array_equal(run.sample(2, **options, guidance=3.0)[1], at_negative[1])


@pytest.mark.slow
def test_likelihoods_and_changes_are_those_of_a_text(drawn, prior_of_texts):
    prior = vq_jax.load(prior_of_texts, allow=('bars',))
    grids = np.zeros((2, 2, 2), np.int32)
    of_texts = prior.log_prob(grids, conditions=[{'text': 'red flat'}, {'text': 'blue steep'}])
    np.testing.assert_allclose(of_texts[1], prior.log_prob(grids, conditions={'text': 'blue steep'})[1])
    assert of_texts[0] != of_texts[1]
    run, images = vq_jax.load(drawn, allow=('bars',)), np.zeros((2, 8, 8, 3), np.uint8)
    mask = np.arange(8) < 4
    changed = run.inpaint(images, np.outer(mask, mask), conditions={'text': 'red flat'}, seed=3)
    assert not changed[:, 4:].any() and not changed[:, :, 4:].any()
    assert run.interpolate(*images, n=3, conditions={'text': 'red flat'}).shape == (3, 8, 8, 3)


def test_conditions_are_written_with_codes(codes):
    with allowing(['bars']):
        source = open_dataset(DataConfig(name='class:bars:Bars'), 'test[:8]')
    written = open_dataset(DataConfig(name=f'codes:{codes}'), 'test[:8]')
    assert written.conditions == source.conditions
    texts = [
        np.concatenate([batch['text'] for batch in eval_batches(data, batch_size=3)])
        for data in (source, written)
    ]
    assert bytes(texts[0][0][:3].tolist()).decode() in ('red', 'gre', 'blu')
    np.testing.assert_array_equal(*texts)


@pytest.mark.parametrize(
    'given, words',
    [
        (None, 'conditioned on text, and was given nothing; give each by its name'),
        ({'txt': 'red'}, 'conditioned on text, and was given txt; give each by its name'),
        ([{'text': 'red'}], 'one for each of 2 examples'),
    ],
)
def test_conditions_that_do_not_fit(prior_of_texts, given, words):
    run = vq_jax.load(prior_of_texts, allow=('bars',))
    with pytest.raises(UserError, match=words):
        run.sample(2, conditions=given)


def test_texts_that_do_not_fit(prior_of_texts, prior):
    run = vq_jax.load(prior_of_texts, allow=('bars',))
    with pytest.raises(UserError, match='there are 3 texts; give one, or one for each of 2 examples'):
        run.sample(2, text=['red flat'] * 3)
    with pytest.raises(UserError, match='negative_text changes nothing at a guidance of 1'):
        run.sample(text='red flat', negative_text='blue', guidance=1)
    with pytest.raises(UserError, match='this model is conditioned on nothing; leave text out'):
        vq_jax.load(prior, allow=('nsvq',)).sample(text='red flat')


def test_data_must_have_what_a_conditioner_reads(folder):
    config = bars('diffusion')
    config.data.name = 'digits'
    with pytest.raises(
        UserError, match=r'has the conditions none, and this model reads text \(int32 \[12\]\)'
    ):
        train(config, folder / 'none')


@pytest.mark.slow
def test_commands_with_a_condition(drawn, tmp_path):
    texts = ['--condition=text=red flat', '--condition=text=blue steep']
    given = ['--workdir', drawn, '--allow_import=bars', '--num=3', *texts]
    run([*given, f'--output={tmp_path / "x.npz"}'], module='vq_jax.sample')
    opened = vq_jax.load(drawn, allow=('bars',))
    turns = [{'text': text} for text in ('red flat', 'blue steep', 'red flat')]
    with np.load(tmp_path / 'x.npz') as file:
        np.testing.assert_array_equal(file['images'], opened.sample(3, conditions=turns))
    [error] = refused(
        'vq_jax.sample', ['--workdir', drawn, '--allow_import=bars', f'--output={tmp_path / "y.png"}']
    )
    assert '--condition name=value' in error


@pytest.mark.slow
def test_samples_are_compared_with_examples_of_their_texts(drawn):
    restored = restore(drawn, allow=('bars',))

    def look(weights, images):
        features = images.mean((1, 2))
        return Classified(features=features, logits=features)

    network = FeatureSource(look, lambda run: None, {}, {'kind': 'mean'}, {})
    evaluator = FeatureEvaluator(restored, network, 'test[:6]')
    found = evaluator.run(7, 0)['samples']
    assert found['images'] == 7 and np.isfinite(found['metrics']['frechet'])
    [batch] = eval_batches(vq_jax.load(drawn, allow=('bars',)).dataset('test[:6]'), batch_size=6)
    _, given, _ = evaluator._asked(7)
    np.testing.assert_array_equal(given['conditions']['text'], batch['text'][[0, 1, 2, 3, 4, 5, 0]])
