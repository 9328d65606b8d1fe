"""Labels keep their meaning: the names of classes, from the data to what is drawn of them."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import refused, run
from vq_jax.errors import UserError
from vq_jax.media.captions import captioned
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.classes import checked_labels, difference
from vq_jax.tasks.codec import Identity
from vq_jax.train import train

NAMES = ('bright', 'dark', '[b]x')


def write_images(folder, names=NAMES):
    """Folders of images, each class of its own grey."""
    noise = np.random.default_rng(0)
    for split in ('train', 'test'):
        for level, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = np.uint8(80 * level + noise.integers(0, 40, (8, 8)))
                Image.fromarray(pixels).save(folder / split / name / f'{i}.png')


def small(task, folder):
    config = default_config(task)
    config.data.name = f'folder:{folder}'
    config.data.channels = 1
    config.data.image_size = 8
    config.steps = config.eval_every = config.checkpoint_every = 2
    config.batch_size = 4
    config.best_metric = None
    if task == 'prior':
        config.tokenizer.levels = 2
        config.model.class_conditional = True
        config.transformer.depth = 1
        config.transformer.width = 8
        config.transformer.heads = 1
    elif task == 'vqvae':
        config.model.channels = 4
        config.model.stages = 1
        config.quantizer.codebook_init = 'random'
    else:
        config.model.channels = 4
        config.model.stages = 1
        config.model.features = 4
    return config


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A folder of images, and runs that were trained on it, of each task."""
    root = tmp_path_factory.mktemp('classes')
    write_images(root / 'images')
    for task in ('classifier', 'prior', 'vqvae'):
        train(small(task, root / 'images'), root / task)
    return root


@pytest.fixture
def images(runs):
    """The folder of images, which is put back afterwards."""
    shutil.copytree(runs / 'images', runs / 'kept')
    yield runs / 'images'
    shutil.rmtree(runs / 'images')
    (runs / 'kept').rename(runs / 'images')


def rename(folder, before, after):
    for split in ('train', 'test'):
        (folder / split / before).rename(folder / split / after)


@pytest.mark.parametrize('task', ['classifier', 'prior'])
def test_a_renamed_class_is_refused_by_name(runs, images, task):
    rename(images, 'dark', 'night')
    words = (
        f"has other classes than the run {runs / task}: 'dark' is missing and 'night' is new; give the same"
    )
    before = (runs / task / 'metrics.jsonl').read_bytes()
    for act in (vq_jax.load(runs / task).evaluate, lambda: train(small(task, images), runs / task)):
        with pytest.raises(UserError) as caught:
            act()
        assert words in str(caught.value)
    assert (runs / task / 'metrics.jsonl').read_bytes() == before


def test_names_are_no_matter_where_no_label_is_read(runs, images):
    rename(images, 'dark', 'night')
    assert vq_jax.load(runs / 'vqvae').evaluate().metrics['examples'] == 12
    train(small('vqvae', images), runs / 'vqvae')


def test_a_run_that_begins_with_one_of_other_classes_leaves_out_what_is_of_them(
    runs, images, tmp_path, capsys
):
    config = small('classifier', images)
    config.optimizer.learning_rate = 0.0
    train(config, tmp_path / 'same', init_from=runs / 'classifier')
    rename(images, 'dark', 'night')
    capsys.readouterr()
    train(config, tmp_path / 'other', init_from=runs / 'classifier')
    told = ' '.join(capsys.readouterr().out.split())
    assert "of other classes, for the model: ['params']['Dense_1']['bias'], ['params']['Dense_1']['k" in told
    source, same, other = (
        vq_jax.load(path).state.params
        for path in (runs / 'classifier', tmp_path / 'same', tmp_path / 'other')
    )
    jax.tree.map(np.testing.assert_array_equal, same, source)
    np.testing.assert_array_equal(other['Dense_0']['kernel'], source['Dense_0']['kernel'])
    assert np.any(other['Dense_1']['kernel'] != source['Dense_1']['kernel'])


def test_a_classifier_gives_features_for_its_own_classes_alone(runs, images):
    rename(images, 'dark', 'night')
    with pytest.raises(UserError, match="than the classifier was trained on: 'dark' is missing"):
        vq_jax.load(runs / 'vqvae').compare(str(runs / 'classifier'))


def test_a_run_that_is_built_on_another_has_its_classes(monkeypatch):
    """As a prior over a VQGAN whose decoder is told the class."""
    config = default_config('prior')
    config.model.class_conditional = True
    config.tokenizer.levels = 2
    monkeypatch.setattr(Identity, 'num_labels', 2)
    monkeypatch.setattr(Identity, 'class_names', ('b', 'a'))
    with pytest.raises(UserError, match=r"the tokenizer is .* other classes .*: label 0 was 'a' and is 'b'"):
        make_task(config, Spec('image', (4, 4, 1)), 2, ('a', 'b'))
    make_task(config, Spec('image', (4, 4, 1)), 2, ('b', 'a'))
    make_task(config, Spec('image', (4, 4, 1)), 2, None)  # of a run that does not know them


@pytest.mark.parametrize(
    'known, found, words',
    [
        (('a', 'b'), ('a', 'b'), None),
        (None, ('a',), None),
        (('caf\u00e9',), ('cafe\u0301',), None),
        (('a', 'b'), ('b', 'a'), "label 0 was 'a' and is 'b'"),
        (('a',), ('a', 'c', 'd'), "'c', 'd' are new"),
        (('a', 'b'), ('a',), "'b' is missing"),
        (('a',), (), "'a' is missing"),
        ((), ('\x1b[31m',), r"'\x1b[31m' is new"),
        (tuple('abcdefgh'), (), "'a', 'b', 'c', 'd', 'e' and 3 more are missing"),
    ],
)
def test_how_classes_differ(known, found, words):
    assert difference(known, found) == words


@pytest.mark.parametrize(
    'label, names, labels',
    [
        ('dark', NAMES, [1, 1, 1]),
        ('2', NAMES, [2, 2, 2]),
        (['dark', 2, '[b]x'], NAMES, [1, 2, 2]),
        (np.array(['dark', 'bright', '1']), NAMES, [1, 0, 1]),
        ('3', ('3', '5', '7'), [0, 0, 0]),  # the class that is called 3
        (2, ('3', '5', '7'), [2, 2, 2]),
        ('2', None, [2, 2, 2]),
        ('cafe\u0301', ('x', 'caf\u00e9', 'y'), [1, 1, 1]),
        (None, NAMES, [0, 1, 2]),
    ],
)
def test_labels_by_name_and_number(label, names, labels):
    np.testing.assert_array_equal(checked_labels(3, label, 3, names), labels)


@pytest.mark.parametrize(
    'label, names, words',
    [
        ('Darc', NAMES, "no class 'Darc'; did you mean 'dark'?"),
        ('zzzzz', NAMES, "its classes are 'bright', 'dark', '[b]x'."),
        ('-1', NAMES, "no class '-1'"),
        ('3', NAMES, 'labels must be from 0 to 2; 3 is not'),
        ('dark', None, "not known, 'dark' neither; give numbers from 0 to 2"),
        ('a', ('a', 'a', 'b'), "labels 0, 1 are all called 'a'"),
        (['dark', 'bright'], NAMES, 'one for each of 3'),
        ([[1], [1, 2]], NAMES, 'are not one row of numbers or names'),
        (1.5, NAMES, 'one number or name of a class'),
    ],
)
def test_labels_that_are_none(label, names, words):
    with pytest.raises(UserError) as caught:
        checked_labels(3, label, 3, names)
    assert words in str(caught.value)


def test_samples_of_a_class_by_its_name(runs):
    opened = vq_jax.load(runs / 'prior')
    assert opened.class_names == NAMES[::-1][:1] + NAMES[:2]
    assert "classes=['[b]x', 'bright', 'dark']" in repr(opened)
    np.testing.assert_array_equal(opened.sample(2, label='dark'), opened.sample(2, label=2))
    np.testing.assert_array_equal(opened.sample(2, label=['dark', 0]), opened.sample(2, label=[2, 0]))


def test_the_commands_take_and_print_names(runs, tmp_path):
    sample = ['--workdir', runs / 'prior', '--num=4', '--output', tmp_path / 'samples.npz']
    run([*sample, '--label=dark,1', '--label=[b]x'], module='vq_jax.sample')
    with np.load(tmp_path / 'samples.npz') as file:
        np.testing.assert_array_equal(file['labels'], [2, 1, 0, 2])
        assert tuple(file['class_names']) == ('[b]x', 'bright', 'dark')
    (error,) = refused('vq_jax.sample', [*sample, '--label=darc'])
    assert error == "error: this run has no class 'darc'; did you mean 'dark'?\n"
    printed, _ = run(['--workdir', runs / 'classifier'], module='vq_jax.evaluate')
    assert "classes: '[b]x', 'bright', 'dark'\n" in printed


def test_captions_say_which_image_is_of_which_class():
    images = np.full((3, 8, 8, 1), 200, np.uint8)
    sheet = captioned(images, ['dark', 'bright', 'dark'])
    assert sheet.shape == (3, 64 + 15, 64, 3)
    np.testing.assert_array_equal(sheet[:, :64], 200)
    lines = sheet[:, 64:]
    assert (lines < 128).any((1, 2, 3)).all()
    np.testing.assert_array_equal(lines[0], lines[2])
    assert (lines[0] != lines[1]).any()
    long = 'a very long name of a class indeed, which goes on for ever'
    for text, most in ((long, 3), ('x' * 10**6, 1), ('a ' * 10**6, 3), ('\udcff\n\x1b[31m', 1), ('', 1)):
        (one,) = captioned(images[:1], [text])
        assert one.shape == (64 + 15 * most, 64, 3)
        assert (one[64:, -1] == 255).all()  # cut off before the end
    dark, broken = captioned(images[:2], ['dark', long])
    np.testing.assert_array_equal(dark[64:79], lines[0])
    assert (dark[79:] == 255).all() and all((row < 128).any() for row in np.split(broken[64:], 3))
