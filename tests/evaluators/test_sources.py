"""Inception-v3 as a source of features: its weights from files, its names, its identity."""

import hashlib
import types

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.published import i3d_weights, inception_weights
from vq_jax.errors import UserError
from vq_jax.evaluators import sources
from vq_jax.evaluators.sources import inception_features
from vq_jax.models.inception import InceptionV3, variables_from_published
from vq_jax.spec import Spec
from vq_jax.weights import downloads, write_pytorch


@pytest.fixture(scope='module')
def weights():
    return inception_weights()


@pytest.fixture(scope='module')
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'inception.pth'
    write_pytorch(path, weights)
    return path


def test_features_are_the_networks_and_logits_have_no_bias(weights, file):
    images = np.random.RandomState(0).randint(0, 256, (2, 16, 16, 1), 'uint8')
    source = inception_features(str(file), 'clean')
    seen = jax.jit(source.look)(source.weights, images)
    features = jax.jit(InceptionV3('clean').apply)(variables_from_published(weights), images).features
    np.testing.assert_allclose(seen.features, features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen.logits, features @ weights['fc.weight'].T, rtol=1e-4, atol=1e-4)


def test_the_identity_is_of_the_arrays_and_the_resize_and_the_record_names_the_file(weights, file, tmp_path):
    source = inception_features(str(file))
    save_file(weights, tmp_path / 'same.safetensors')
    same = inception_features(str(tmp_path / 'same.safetensors'))
    assert same.identity == source.identity
    assert inception_features(str(file), 'clean').identity != source.identity
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert source.record['weights'] == {str(file): checksum}
    weights = {**weights, 'fc.bias': weights['fc.bias'] + 1}
    save_file(weights, tmp_path / 'other.safetensors')
    assert inception_features(str(tmp_path / 'other.safetensors')).identity != source.identity


def test_inception_is_of_images(file):
    source = inception_features(str(file))
    source.check_spec(types.SimpleNamespace(workdir='runs/a', spec=Spec('image', (8, 8, 1))))
    sound = types.SimpleNamespace(workdir='runs/a', spec=Spec('audio', (8, 1), 8000))
    with pytest.raises(UserError, match='runs/a was trained on audio, and Inception-v3 takes images; give'):
        source.check_spec(sound)


def test_nothing_is_downloaded_for_sound(monkeypatch):
    monkeypatch.setattr(sources, 'download', lambda *_: pytest.fail('the weights are downloaded'))
    sound = types.SimpleNamespace(workdir='runs/a', spec=Spec('audio', (8, 1), 8000))
    with pytest.raises(UserError, match='Inception-v3 takes images'):
        sources.open_features('inception', of=sound)


def test_without_a_file_the_published_one_is_downloaded_and_checked(file, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(downloads, '_SCHEMES', ('file',))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(sources, 'INCEPTION_FILES', {'kept.pth': (file.as_uri(), digest)})
    kept = tmp_path / 'vq_jax' / 'weights' / 'kept.pth'
    assert list(inception_features().record['weights']) == [str(kept)]
    kept.unlink()
    monkeypatch.setattr(sources, 'INCEPTION_FILES', {'kept.pth': (file.as_uri(), 'f' * 64)})
    with pytest.raises(UserError, match=f'what came is another file: its SHA-256 is {digest} and not ffff'):
        inception_features()
    missing = (file.parent / 'missing.pth').as_uri()
    monkeypatch.setattr(sources, 'INCEPTION_FILES', {'kept.pth': (missing, digest)})
    with pytest.raises(
        UserError, match=r'cannot be downloaded.*or name your own file by --features=inception:'
    ):
        inception_features()


def test_i3d_is_of_videos_and_of_a_file_that_is_given(tmp_path):
    weights = i3d_weights()
    save_file(weights, tmp_path / 'i3d.safetensors')
    name, run = f'i3d:{tmp_path / "i3d.safetensors"}', types.SimpleNamespace(workdir='runs/a')
    run.spec = Spec('video', (9, 16, 16, 3), 8.0)
    source = sources.open_features(name, of=run)
    assert source.names['frechet'] == 'fvd' and not source.prefix
    checksum = hashlib.sha256((tmp_path / 'i3d.safetensors').read_bytes()).hexdigest()
    assert list(source.record['weights'].values()) == [checksum]
    videos = jax.ShapeDtypeStruct((2, 9, 16, 16, 1), np.uint8)
    seen = jax.eval_shape(source.look, source.weights, videos)
    assert seen.features.shape == seen.logits.shape == (2, 400)
    for spec in (Spec('video', (8, 16, 16, 3), 8.0), Spec('image', (16, 16, 3))):
        run.spec = spec
        with pytest.raises(
            UserError, match='and I3D takes videos of 9 frames or more; give features the run'
        ):
            sources.open_features(name, of=run)
    with pytest.raises(UserError, match='the weights of I3D are not downloaded; give features i3d:FILE'):
        sources.open_features('i3d')
    with pytest.raises(UserError, match='resize is for the features inception'):
        sources.open_features(name, 'bilinear')
