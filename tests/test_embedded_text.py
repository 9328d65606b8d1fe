"""Vectors of texts by a frozen encoder, from captions beside images to samples of a prompt."""

import shutil

import numpy as np
import pytest

import vq_jax
from tests.runs import refused, run
from tests.test_text_condition import COLOURS, SIZES, likeness, write_colours
from tests.weights.text_encoders import write_folder
from vq_jax.data import DataConfig, eval_batches, open_dataset
from vq_jax.data.text_vectors import write_text_vectors
from vq_jax.errors import UserError
from vq_jax.fitting import Experiment
from vq_jax.locks import opened_folder, try_lock
from vq_jax.models.context import prepared
from vq_jax.spec import Spec, TextVectors, Tokens
from vq_jax.tasks import default_config
from vq_jax.tasks.conditioner_config import make_conditioner
from vq_jax.tasks.text_models import TextModel, write_vectors
from vq_jax.train import train


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """The folders `colours`, of images, and `t5` and `clip`, of text encoders."""
    pytest.importorskip('tokenizers')
    home = tmp_path_factory.mktemp('home')
    (home / 'colours').mkdir()
    write_colours(home / 'colours')
    write_folder(home / 't5', 'flan-t5')
    write_folder(home / 'clip', 'clip')
    return home


def config_of(home):
    config = default_config('diffusion', conditioner='embedded_text')
    config.data.update({'name': f'folder:{home / "colours"}', 'caption_length': 24, 'channels': 3})
    config.data.text_vectors = str(home / 'vectors')
    config.embedded_text.update({'encoder': str(home / 't5'), 'width': 32})
    return config


def test_a_text_of_a_user_has_the_vectors_that_one_of_the_data_has(home, tmp_path):
    config = config_of(home)
    data = DataConfig(name=config.data.name, caption_length=24)
    model, splits = TextModel.read(home / 't5'), [open_dataset(data, split) for split in ('train', 'test')]
    assert write_vectors(tmp_path / 'v', splits, model, batch_size=4) == 6  # two of each colour
    dataset = open_dataset(DataConfig(**{**vars(data), 'text_vectors': str(tmp_path / 'v')}), 'test')
    assert dataset.spec.text_vectors == TextVectors(15, 16, model.checksum)  # 'green all over', and the mark
    conditioner, _ = make_conditioner(config, dataset.spec)
    batch = next(eval_batches(dataset, batch_size=3))
    for row, text in enumerate(conditioner.describe(**{name: batch[name] for name in conditioner.specs()})):
        own = prepared(conditioner, {'text': text})
        np.testing.assert_allclose(own['text_vectors'], batch['text_vectors'][row], atol=4e-3)  # of float16
        np.testing.assert_array_equal(own['text'], batch['text'][row])
        assert own['text_length'] == batch['text_length'][row] == len(text) + 1
    with opened_folder(tmp_path / 'v') as held:
        assert try_lock(held)
        with pytest.raises(UserError, match=r'another process writes to .*v; wait for its end, or name'):
            write_vectors(tmp_path / 'v', splits, model, batch_size=4)
    with pytest.raises(UserError, match=r"the text '.*green.*' has 15 tokens .* room for 14; give a larger"):
        write_vectors(tmp_path / 'v', splits, model, length=14)
    with pytest.raises(UserError, match='the text encoder takes 60 tokens, and length is 61; lower it'):
        write_vectors(tmp_path / 'v', splits, TextModel.read(home / 'clip'), length=61)
    (tmp_path / 'silent').mkdir()
    shutil.copy(home / 'colours' / '0.png', tmp_path / 'silent')
    (tmp_path / 'silent' / '0.txt').write_text(' ')
    silent = open_dataset(DataConfig(name=f'folder:{tmp_path / "silent"}', caption_length=24), 'all')
    with pytest.raises(UserError, match=r'no example of .*silent.* has a text; write one for each'):
        write_vectors(tmp_path / 'v', [silent], model)
    without = open_dataset(DataConfig(name=config.data.name), 'test')
    with pytest.raises(UserError, match=r'has no texts; set config\.data\.caption_length'):
        write_vectors(tmp_path / 'v', [without], model)


def test_the_command_takes_a_folder_of_which_the_writing_was_killed(tmp_path):
    words = ['--config=configs/text/emoji_prior.py', f'--encoder={tmp_path / "nothing"}']
    folders = [tmp_path / 'killed', tmp_path / 'whole']
    for folder, name in zip(folders, ('.abcdefgh.tmp', 'vectors.json'), strict=True):
        folder.mkdir()
        (folder / name).touch()
    killed, whole = refused('vq_jax.embed', *([*words, f'--output={folder}'] for folder in folders))
    assert 'nothing/config.json; give the folder of a T5' in killed  # the encoder, which is asked for next
    assert 'is a directory; it is not empty: name another' in whole


def test_encoders_that_cannot_be_asked(home):
    spec = Spec('image', (4, 4, 3), tokens=Tokens('bytes'))
    config = config_of(home)
    with pytest.raises(UserError, match=r'reads vectors of texts, and the data have none; write them with'):
        make_conditioner(config, spec)
    spec = Spec('image', (4, 4, 3), tokens=Tokens('bytes'), text_vectors=TextVectors(15, 16, 'another'))
    conditioner, _ = make_conditioner(config, spec)
    with pytest.raises(UserError, match=r't5 holds another text encoder \(checksum .* for \(another\); set'):
        conditioner.prepare('a red square')
    assert conditioner.prepare('a red square', np.ones((2, 16)))['text_length'] == 2
    for given, told in (
        (
            np.full((2, 16), 1e6),
            'have numbers that float16 does not hold, or that are none; give 1 to 15 vec',
        ),
        ([[1] * 16, [1]], 'are no array; give 1 to 15 vectors of 16 numbers'),
        ([['a'] * 16], 'are of the type <U1; give 1 to'),
        (np.ones((16, 16)), r'have the shape \(16, 16\); give 1 to'),
    ):
        with pytest.raises(UserError, match=f'text_vectors {told}'):
            conditioner.prepare('a red square', given)
    config.embedded_text.encoder = ''
    conditioner, _ = make_conditioner(config, spec)
    with pytest.raises(UserError, match=r'config\.embedded_text\.encoder does not name what makes those'):
        conditioner.prepare('a red square')


def test_training_refuses_vectors_that_it_would_not_read(home, tmp_path):
    made = TextVectors(length=1, width=3, encoder='none')
    write_text_vectors(tmp_path / 'v', np.zeros((1, 3), np.int32), [1], [np.zeros((1, 3))], made)
    config = default_config('classifier')
    config.data.update({'name': f'folder:{home / "colours"}', 'caption_length': 24, 'channels': 3})
    config.data.name_pattern = r'(?P<label>\d)\.png'
    Experiment.build(config)
    config.data.text_vectors = str(tmp_path / 'v')
    with pytest.raises(UserError, match='text_vectors is set, and this model reads no vectors of texts; lea'):
        Experiment.build(config)


@pytest.mark.slow
def test_samples_are_of_what_the_text_says(home, tmp_path):
    config = config_of(home)
    config.steps = config.eval_every = config.checkpoint_every = 150
    config.batch_size, config.num_shown = 16, 4
    config.optimizer.learning_rate = 3e-3
    config.conditioner.dropout = 0.2
    config.model.backbone, config.evaluation.times, config.sampling.steps = 'dit', 1, 8
    config.dit.update({**SIZES, 'patch': 2})
    vectors = home / 'vectors'
    file = tmp_path / 'config.py'
    file.write_text(
        'from vq_jax.tasks import default_config\n\ndef get_config():\n'
        f'    config = default_config("diffusion")\n    config.data.name = {config.data.name!r}\n'
        '    config.data.caption_length = 24\n    return config\n'
    )
    for encoder, output in ((home / 't5', vectors), (home / 'clip', tmp_path / 'others')):
        words = [f'--config={file}', f'--encoder={encoder}', f'--output={output}']
        shown, _ = run(words, module='vq_jax.embed')
        assert f'{output} holds the vectors of 6 texts' in shown
    train(config, tmp_path / 'run')
    model = vq_jax.load(tmp_path / 'run')
    names = list(COLOURS) * 4
    samples = model.sample(text=[f'a {name} square' for name in names], guidance=2.0)
    right = np.mean([a == b for a, b in zip(likeness(samples), names, strict=True)])
    assert right >= 10 / 12  # a third, if the text is not read
    away = model.sample(6, text='green all over', negative_text='a red square', guidance=0.0)
    assert likeness(away).count('red') >= 5
    # Vectors of another encoder are refused, wherever they lie; the same ones are read from anywhere.
    shutil.copytree(vectors, tmp_path / 'moved')
    config.data.text_vectors = str(tmp_path / 'moved')
    train(config, tmp_path / 'run')
    config.data.text_vectors = str(tmp_path / 'others')
    with pytest.raises(UserError, match='the vectors of texts are of another encoder than those that'):
        train(config, tmp_path / 'run')
    [error] = refused(
        'vq_jax.sample',
        [
            *('--workdir', tmp_path / 'run', f'--output={tmp_path / "x.png"}', '--text=a red square'),
            f'--override=embedded_text.encoder={home / "clip"}',
        ],
        shows=True,  # which files were read
    )
    assert 'clip holds another text encoder' in error
