"""Samples and reconstructions against images in a classifier's features, as a user asks for them."""

import dataclasses
import json
import shutil
import types

import jax
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

import vq_jax
from tests.published import inception_weights, lpips_weights
from tests.runs import refused, run
from vq_jax.data import eval_batches
from vq_jax.errors import UserError
from vq_jax.evaluators.features import FeatureEvaluator
from vq_jax.evaluators.reference import Reference
from vq_jax.evaluators.sources import INCEPTION_NAMES, classifier_features, inception_features
from vq_jax.models.classifier import Classified
from vq_jax.models.lpips import LPIPS, params_from_published
from vq_jax.ops.frechet import frechet_distance
from vq_jax.ops.images import to_float
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.restore import restore
from vq_jax.train import train


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A classifier and a VAE of the digits, in 16x16 pixels."""
    folder = tmp_path_factory.mktemp('runs')
    for name in ('classifier', 'vae'):
        config = default_config(name)
        config.steps = config.log_every = 200 if name == 'classifier' else 60
        config.data.pad = 4
        config.data.image_size = 16
        config.data.channels = 1
        if name == 'classifier':
            config.model.channels = 8
            config.model.features = 16
            config.optimizer.learning_rate = 3e-3
        else:
            config.model.latent_dim = 8
            config.model.importance_samples = 2
            config.mlp.hidden = (64,)
        train(config, folder / name)
    return folder


def features_of(folder):
    return classifier_features(restore(folder / 'classifier'))


@dataclasses.dataclass(frozen=True)
class Copier:
    """In place of a task: each sample is an image of the test set, each reconstruction the image."""

    images: np.ndarray
    num_labels: int = 0
    condition_specs = types.MappingProxyType({})

    def sample(self, state, keys, labels):
        return jax.numpy.asarray(self.images)[labels]


@pytest.mark.slow
def test_numbers_of_the_command_are_those_of_the_images(folder):
    evaluator = FeatureEvaluator(restore(folder / 'vae'), features_of(folder), 'test', real='train[:200]')
    found = evaluator.run(100, seed=3)
    classifier, vae = (vq_jax.load(folder / name) for name in ('classifier', 'vae'))
    batch = next(iter(eval_batches(vae.dataset('test'), batch_size=359)))
    task, state = classifier.task, classifier.state
    real = np.float64(task.classify(state, batch['x']).features)

    def distance(images):
        made = np.float64(task.classify(state, images).features)
        return frechet_distance(
            real.mean(0), np.cov(real, rowvar=False), made.mean(0), np.cov(made, rowvar=False)
        )

    metrics = found['samples']['metrics']
    assert metrics['classifier_frechet'] == pytest.approx(distance(vae.sample(100, seed=3)), rel=1e-3)
    assert 'classifier_accuracy' not in metrics  # no class was asked for
    rebuilt = vae.reconstruct(batch['x'])
    metrics = found['reconstructions']['metrics']
    assert metrics['classifier_frechet'] == pytest.approx(distance(rebuilt), rel=1e-3)
    right = np.argmax(task.classify(state, rebuilt).logits, -1) == batch['label']
    assert metrics['classifier_accuracy'] == pytest.approx(float(np.mean(right)), abs=0.01)
    pairs = list(zip(np.asarray(rebuilt)[..., 0], batch['x'][..., 0], strict=True))
    squares = [np.mean(np.square(np.float64(x) - y)) for x, y in pairs]
    assert metrics['psnr'] == pytest.approx(np.mean(10 * np.log10(255**2 / np.array(squares))), rel=1e-5)
    options = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False}
    similar = [structural_similarity(x, y, data_range=255, **options) for x, y in pairs]
    assert metrics['ssim'] == pytest.approx(np.mean(similar), rel=1e-3)
    assert metrics['ms_ssim'] == pytest.approx(np.mean(np.maximum(similar, 0)), rel=1e-3)  # one scale
    others = next(iter(eval_batches(vae.dataset('train[:200]'), batch_size=200)))
    metrics = found['real']['metrics']
    assert metrics['classifier_frechet'] == pytest.approx(distance(others['x']), rel=1e-3)
    right = np.argmax(task.classify(state, others['x']).logits, -1) == others['label']
    assert metrics['classifier_accuracy'] == pytest.approx(float(np.mean(right)), abs=0.01)
    assert found['real']['split'] == 'train[:200]' and found['real']['images'] == 200
    assert found['reference']['images'] == found['reconstructions']['images'] == 359
    assert found['features']['checksum'] == restore(folder / 'classifier').identity()['checksum']
    assert found['run']['step'] == 60 and found['samples']['seed'] == 3


def test_a_notebook_classifies_images_and_compares_runs(folder):
    classifier, vae = (vq_jax.load(folder / name) for name in ('classifier', 'vae'))
    batch = next(iter(eval_batches(classifier.dataset('test'), batch_size=359)))
    probabilities = np.asarray(classifier.classify(batch['x']))
    assert probabilities.sum(1) == pytest.approx(np.ones(359), abs=1e-5)
    right = np.mean(probabilities.argmax(1) == batch['label'])
    assert right == pytest.approx(classifier.evaluate('test').metrics['accuracy'])
    with pytest.raises(UserError, match='vae cannot tell classes apart; one of classifier can'):
        vae.classify(batch['x'])
    found = vae.compare(str(folder / 'classifier'), num=100, seed=3)
    wanted = FeatureEvaluator(restore(folder / 'vae'), features_of(folder), 'test').run(100, seed=3)
    assert found['samples']['metrics'] == wanted['samples']['metrics']
    assert found['reconstructions'] == wanted['reconstructions']
    with pytest.raises(UserError, match='resize is for the features inception'):
        vae.compare(str(folder / 'classifier'), resize='clean')


def test_the_reference_itself_is_at_no_distance(folder):
    """Samples that are the images of the test set, each once."""
    vae, classifier = restore(folder / 'vae'), features_of(folder)
    dataset = vq_jax.load(folder / 'vae').dataset('test')
    batch = next(iter(eval_batches(dataset, batch_size=359)))
    copier = dataclasses.replace(vae, task=Copier(batch['x'], num_labels=359))
    metrics = FeatureEvaluator(copier, classifier, 'test').run(359, seed=0)['samples']['metrics']
    assert metrics['classifier_frechet'] == pytest.approx(0, abs=1e-6)
    assert metrics['classifier_precision'] == metrics['classifier_recall'] == 1
    assert metrics['classifier_coverage'] == 1
    assert metrics['classifier_density'] == pytest.approx(1.2, abs=0.01)


class Blocks:
    """In place of Inception-v3, with its names: means of 4x4 pixels, and the classes of the images."""

    prefix, names, splits = '', INCEPTION_NAMES, 10
    name, record, identity, trained_on, class_names = 'blocks', {}, {'blocks': 4}, None, None

    def __init__(self, images, labels):
        self.weights = to_float(images), labels

    def look(self, weights, images):
        known, labels = weights
        x = to_float(images)
        which = jax.numpy.argmin(jax.numpy.sum((x[:, None] - known) ** 2, (2, 3, 4)), -1)
        blocks = x.reshape(-1, 4, 4, 4, 4).mean((2, 4)).reshape(len(x), -1)
        return Classified(features=blocks, logits=100 * jax.nn.one_hot(labels[which], 10))

    def check_spec(self, run):
        pass


def test_numbers_of_inception_have_the_fields_names_and_splits_that_are_alike(folder):
    """Samples of one class after the other: in splits as they come, all scores were 1."""
    vae = restore(folder / 'vae')
    batch = next(iter(eval_batches(vq_jax.load(folder / 'vae').dataset('test'), batch_size=359)))
    order = np.argsort(batch['label'])
    copier = dataclasses.replace(vae, task=Copier(batch['x'][order], num_labels=359))
    found = FeatureEvaluator(copier, Blocks(batch['x'], batch['label']), 'test').run(359, seed=0)
    names = 'fid kid precision recall density coverage inception_score inception_score_std'
    metrics = found['samples']['metrics']
    assert list(metrics) == names.split()
    assert metrics['fid'] == pytest.approx(0, abs=1e-6)
    # Of 36 images in 10 classes each; the whole set scores 9.99.
    assert 6 < metrics['inception_score'] < 9.99 and 0 < metrics['inception_score_std'] < 1
    assert found['samples']['seconds_per_sample'] > 0  # there are several batches
    assert found['reference']['images'] == 359 and 'blocks' not in found['reference']


def test_accuracy_of_samples_is_the_share_of_the_classes_asked_for(folder):
    """Of seven classes an image is drawn of the class itself, of the other three one of the class 0."""
    vae = restore(folder / 'vae', overrides={'batch_size': 32})
    batch = next(iter(eval_batches(vq_jax.load(folder / 'vae').dataset('test'), batch_size=359)))
    drawn = [int(np.argmax(batch['label'] == c)) for c in (0, 1, 2, 3, 4, 5, 6, 0, 0, 0)]
    copier = dataclasses.replace(vae, task=Copier(batch['x'][drawn], num_labels=10))
    source = Blocks(batch['x'], batch['label'])
    source.trained_on = 'digits'
    found = FeatureEvaluator(copier, source, 'test').run(95, seed=0)
    # Ten samples of each of the classes 0 to 4, nine of each other.
    assert found['samples']['metrics']['accuracy'] == pytest.approx((5 * 10 + 2 * 9) / 95)


@pytest.mark.slow
def test_reconstructions_are_measured_with_lpips(folder, tmp_path):
    weights = lpips_weights()
    files = [str(tmp_path / name) for name in ('vgg.npz', 'heads.npz')]
    for file, first in zip(files, ('features', 'lin'), strict=True):
        np.savez(file, **{name: x for name, x in weights.items() if name.startswith(first)})
    vae, classifier = restore(folder / 'vae', overrides={'batch_size': 8}), features_of(folder)
    found = FeatureEvaluator(vae, classifier, 'test[:6]', lpips=files).run(6, seed=0)
    images = next(iter(eval_batches(vq_jax.load(folder / 'vae').dataset('test'), batch_size=6)))['x']
    pair = to_float(images), to_float(vq_jax.load(folder / 'vae').reconstruct(images))
    expected = jax.jit(LPIPS().apply)({'params': params_from_published(weights)}, *pair)
    rebuilt = found['reconstructions']
    assert rebuilt['metrics']['lpips'] == pytest.approx(float(expected.mean()), rel=1e-4)
    assert list(rebuilt['lpips']['weights']) == files and len(rebuilt['lpips']['checksum']) == 64
    assert found['samples']['seconds_per_sample'] is None  # of one batch, which compiles
    drawing = dataclasses.replace(vae, task=Copier(images))
    with pytest.raises(UserError, match='rebuilds no images; leave lpips out'):
        FeatureEvaluator(drawing, classifier, 'test', lpips=files)
    with pytest.raises(UserError, match='16 pixels or more, not images of 8x8'):
        small = dataclasses.replace(vae, spec=Spec('image', (8, 8, 1)))
        FeatureEvaluator(small, Blocks(images, images[:, 0, 0, 0]), 'test', lpips=files)


def test_a_file_of_reference_statistics(folder, tmp_path):
    pair = restore(folder / 'vae'), features_of(folder)
    file = tmp_path / 'reference.npz'
    first = FeatureEvaluator(*pair, 'test', file).run(50, seed=0)
    assert file.is_file()
    assert FeatureEvaluator(*pair, 'test', file).run(50, seed=0) == first
    with pytest.raises(UserError, match=r"another split \(there 'test', here 'train'\) and of another cont"):
        FeatureEvaluator(*pair, 'train', file).run(50, seed=0)
    made = {**json.loads(str(np.load(file)['made'])), 'classifier': 'f' * 64}
    with pytest.raises(UserError, match='of another classifier'):
        Reference.read(file, made)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match='cannot be read'):
        FeatureEvaluator(*pair, 'test', file).run(50, seed=0)


def test_reference_statistics_are_of_images_and_not_of_a_path(folder, tmp_path):
    def fill(place, seed, n=12):
        for i, image in enumerate(np.random.default_rng(seed).integers(0, 256, (n, 16, 16), np.uint8)):
            for split in ('train', 'test'):
                (place / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(place / split / f'{i}.png')

    def evaluate(place):
        vae = restore(folder / 'vae', overrides={'data.name': f'folder:{place}', 'data.pad': 0})
        return FeatureEvaluator(vae, features_of(folder), 'test', file).run(12, seed=0)

    file, first, copy = tmp_path / 'reference.npz', tmp_path / 'first', tmp_path / 'copy'
    fill(first, seed=1)
    found = evaluate(first)
    shutil.copytree(first, copy)
    assert evaluate(copy) == found and found['reference']['dataset'] == f'folder:{first}'
    fill(first, seed=2)  # as many images, under the same names
    same = r"of another content \(there '12 images, 12 of which have the SHA-256 \w+', here '12 images, "
    with pytest.raises(UserError, match=same + '.*; name another file'):
        evaluate(first)
    fill(copy, seed=1, n=13)
    with pytest.raises(UserError, match=r"of another content \(there '12 images.*, here '13 images"):
        evaluate(copy)


@pytest.mark.slow
def test_the_command_on_eight_devices_equals_one(folder, tmp_path):
    arguments = [f'--workdir={folder / "vae"}', f'--features={folder / "classifier"}', '--num=50']
    output = tmp_path / 'eight.json'
    printed, _ = run([*arguments, f'--output={output}'], module='vq_jax.evaluate', devices=8)
    assert 'classifier_frechet' in printed
    eight = json.loads(output.read_text())
    pair = restore(folder / 'vae'), features_of(folder)
    one = FeatureEvaluator(*pair, 'test').run(50, seed=0)
    for kind in ('samples', 'reconstructions'):
        assert eight[kind].pop('metrics') == pytest.approx(one[kind].pop('metrics'), rel=1e-3, abs=1e-4)
    one['run'], eight['run'] = one['run']['checksum'], eight['run']['checksum']
    assert eight == one


@pytest.mark.slow
def test_the_command_in_features_of_inception_on_eight_devices_equals_one(folder, tmp_path):
    np.savez(tmp_path / 'inception.npz', **inception_weights())
    arguments = [f'--workdir={folder / "vae"}', f'--features=inception:{tmp_path / "inception.npz"}']
    arguments += ['--override=batch_size=16', '--split=test[:12]', '--num=12', '--resize=clean']
    output = tmp_path / 'eight.json'
    arguments += [f'--output={output}', f'--reference={tmp_path / "reference.npz"}']
    printed, _ = run(arguments, module='vq_jax.evaluate', devices=8)
    assert ' fid ' in printed and 'inception_score_std' in printed
    assert 'Inception-v3 (clean resize, ' in ' '.join(printed.split())
    eight = json.loads(output.read_text())
    vae = restore(folder / 'vae', overrides={'batch_size': 16})
    source = inception_features(str(tmp_path / 'inception.npz'), 'clean')
    one = FeatureEvaluator(vae, source, 'test[:12]', tmp_path / 'reference.npz').run(12, seed=0)
    for kind in ('samples', 'reconstructions'):
        assert eight[kind].pop('metrics') == pytest.approx(one[kind].pop('metrics'), rel=1e-3, abs=1e-4)
    one['run'], eight['run'] = one['run']['checksum'], eight['run']['checksum']
    assert eight == one
    with pytest.raises(UserError, match='of another inception'):
        source = inception_features(str(tmp_path / 'inception.npz'))
        FeatureEvaluator(vae, source, 'test[:12]', tmp_path / 'reference.npz').run(12, seed=0)


def test_runs_that_do_not_fit(folder):
    vae, classifier = restore(folder / 'vae'), features_of(folder)
    with pytest.raises(UserError, match='a run of the task vae; give features'):
        classifier_features(vae)
    with pytest.raises(UserError, match='makes no images'):
        FeatureEvaluator(restore(folder / 'classifier'), classifier, 'test')
    commands = (
        [f'--workdir={folder / "vae"}', '--lpips=download'],
        [f'--workdir={folder / "classifier"}', f'--features={folder / "classifier"}', '--seed=0'],
    )
    errors = refused('vq_jax.evaluate', *commands)
    assert '--lpips is given without --features' in errors[0]
    assert '--seed changes nothing here, where nothing is sampled; leave it out.' in errors[1]
    other = dataclasses.replace(vae, spec=Spec('image', (8, 8, 1)))
    with pytest.raises(UserError, match='was trained on images of shape'):
        FeatureEvaluator(other, classifier, 'test')
    with pytest.raises(UserError, match='too few'):
        FeatureEvaluator(vae, classifier, 'test').run(5, seed=0)
    with pytest.raises(UserError, match=r'digits \(train\[:5\]\) has too few images to compare with'):
        FeatureEvaluator(vae, classifier, 'test', real='train[:5]').run(50, seed=0)


def test_a_run_that_draws_nothing_of_its_own_is_refused_before_any_image_is_read(folder):
    config = default_config('diffusion')
    config.model.upscale = 2
    enlarging = dataclasses.replace(
        restore(folder / 'vae'), task=make_task(config, Spec('image', (16, 16, 1)), 10)
    )
    with pytest.raises(UserError, match='a super-resolution model samples nothing of its own'):
        FeatureEvaluator(enlarging, features_of(folder), 'no such split').run(50, seed=0)
