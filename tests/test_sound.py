"""Sound the whole way: a folder of WAV files, a VQ-VAE, its codes, a prior over them, and new sounds."""

import wave

import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import refused, run
from vq_jax import sample_flags
from vq_jax.media import wav
from vq_jax.spec import Spec
from vq_jax.tasks import default_config
from vq_jax.train import train

RATE = 8000


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Tones of two classes, low and high, in stereo of 16 bits."""
    folder = tmp_path_factory.mktemp('sounds')
    draw = np.random.default_rng(0)
    for name, pitch in (('low', 300), ('high', 900)):
        (folder / name).mkdir()
        for i in range(16):
            t = np.arange(draw.integers(400, 700)) / RATE
            tone = np.round(12_000 * np.sin(2 * np.pi * pitch * draw.uniform(0.9, 1.1) * t)).astype('<i2')
            with wave.open(str(folder / name / f'{i}.wav'), 'wb') as file:
                file.setnchannels(2)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(np.stack([tone, tone], 1).tobytes())
    return folder


def small(task, folder, **changes):
    config = default_config(task)
    config.batch_size, config.steps = 8, 40
    config.eval_every = config.checkpoint_every = 40
    config.data.name = f'folder:{folder}'
    config.data.num_samples = 512
    for name, value in changes.items():
        section, key = name.split('__')
        config[section][key] = value
    return config


@pytest.fixture(scope='module')
def tokenizer(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'tokenizer'
    config = small('vqvae', folder, model__channels=16, model__stages=2, model__strides=(4,))
    config.quantizer.kind, config.residual.depth = 'residual', 2
    config.quantizer.num_codes, config.quantizer.dim = 16, 8
    config.optimizer.learning_rate = 3e-3
    metrics = train(config, workdir)
    assert metrics['l1'] < 0.18 and {'perplexity_depth_0', 'codebook_usage_depth_1'} <= set(metrics)
    assert metrics['quantization_error'] < metrics['quantization_error_depth_0'] < 1
    return workdir


def test_sounds_are_encoded_and_come_back(tokenizer):
    opened = vq_jax.load(tokenizer)
    assert (opened.spec.kind, opened.spec.shape, opened.spec.rate) == ('audio', (512, 1), RATE)
    assert 'audio of 512x1' in repr(opened)
    sounds = next(iter(vq_jax.data.eval_batches(opened.dataset('test'), batch_size=4)))['x']
    codes = opened.encode(sounds)
    assert codes.shape == (len(sounds), 32, 2) and codes.dtype == np.int32
    rebuilt = np.asarray(opened.decode(codes))
    assert rebuilt.shape == sounds.shape and rebuilt.dtype == np.int16
    np.testing.assert_array_equal(rebuilt, opened.reconstruct(sounds))
    first = opened.decode(codes, depths=1)
    np.testing.assert_array_equal(first, opened.decode(codes[..., :1]))
    assert (first != rebuilt).any()
    for wrong, depths, words in (
        (codes, 3, 'depths is 3, and of the codes of a position this model decodes so many: 1, 2; give one'),
        (codes[..., :1], 2, 'depths is 2, and the codes have 1 at a position'),
        (np.concatenate([codes, codes], -1), None, r'2 of a position, or the first 1 alone'),
    ):
        with pytest.raises(vq_jax.UserError, match=words):
            opened.decode(wrong, depths=depths)
    longer = np.concatenate([sounds, sounds], axis=1)
    assert opened.encode(longer).shape == (len(sounds), 64, 2)
    with pytest.raises(vq_jax.UserError, match=r'sounds must be int16 \[b t c\], .* give sounds\[None\]'):
        opened.encode(sounds[0])
    with pytest.raises(vq_jax.UserError, match=r"give \(32767 \* sounds\).round\(\).astype\('int16'\)"):
        opened.encode(sounds / 32768)


def test_coding_is_measured(tokenizer):
    """32 positions of two codes of 4 bits in 64 ms, or of the first of them."""
    opened = vq_jax.load(tokenizer)
    whole, first = (opened.measure_sound('test', depths=depths) for depths in (None, 1))
    rates = [(found['metrics']['bit_rate'], found['metrics']['bit_rate_entropy']) for found in (whole, first)]
    np.testing.assert_allclose([nominal for nominal, _ in rates], [4, 2])
    assert all(0 < entropy < nominal for nominal, entropy in rates)
    evaluated = opened.evaluate('test').metrics
    for name in ('snr', 'si_sdr', 'mel_distance', 'stft_distance'):
        assert whole['metrics'][name] == pytest.approx(evaluated[name], rel=1e-4)
        assert first['metrics'][name] != whole['metrics'][name]
    bits = sum(evaluated[f'code_entropy_bits_depth_{i}'] for i in range(2))
    assert rates[0][1] == pytest.approx(32 * bits / 0.064 / 1000)
    assert whole['sounds'] == evaluated['examples'] and whole['metrics']['decode_real_time_factor'] > 0
    with pytest.raises(vq_jax.UserError, match=r'depths is 3, .* this model decodes so many: 1, 2; give one'):
        opened.measure_sound('test', depths=3)


def test_an_evaluation_is_looked_at_and_listened_to(tokenizer):
    log = (tokenizer / 'metrics.jsonl').read_text()
    assert '"snr"' in log and '"psnr"' not in log
    assert (tokenizer / 'images' / 'reconstructions_0000040.png').exists()
    with wave.open(str(tokenizer / 'sounds' / 'reconstructions_sound_0000040.wav')) as file:
        assert file.getframerate() == RATE and file.getsampwidth() == 2 and file.getnframes() > 512


@pytest.fixture(scope='module')
def prior(folder, tokenizer, tmp_path_factory):
    config = small(
        'prior',
        folder,
        tokenizer__workdir=str(tokenizer),
        model__class_conditional=True,
        transformer__depth=1,
    )
    config.transformer.width, config.transformer.heads = 32, 2
    workdir = tmp_path_factory.mktemp('runs') / 'prior'
    metrics = train(config, workdir)
    assert 0 < metrics['loss'] < np.log(16)
    return workdir


def test_a_prior_over_the_codes_makes_sound(prior):
    opened = vq_jax.load(prior)
    made = opened.sample(3, label='low')
    assert made.shape == (3, 512, 1) and made.dtype == np.int16 and made.std() > 100
    mask = np.zeros(512, bool)
    mask[200:300] = True
    again = opened.inpaint(made, mask, label='low')
    np.testing.assert_array_equal(again[:, ~mask], made[:, ~mask])
    assert again.dtype == np.int16 and (again[:, mask] != made[:, mask]).any()
    with pytest.raises(vq_jax.UserError, match=r'the mask must be bool of shape \(512,\) or \(3, 512\)'):
        opened.inpaint(made, mask[:7], label='low')
    with pytest.raises(vq_jax.UserError, match='-1 sounds cannot be sampled'):
        opened.sample(-1)
    with pytest.raises(vq_jax.UserError, match='cannot take noise out of sounds; one of diffusion can'):
        opened.denoise(made, 3.0)


@pytest.mark.slow
@pytest.mark.parametrize('pattern', ['delay', 'depth'])
def test_priors_predict_the_depths_in_other_patterns(pattern, folder, tokenizer, tmp_path):
    config = small('prior', folder, tokenizer__workdir=str(tokenizer), model__pattern=pattern)
    config.transformer.depth = config.depth_transformer.depth = 1
    config.transformer.width = config.depth_transformer.width = 32
    config.transformer.heads = config.depth_transformer.heads = 2
    metrics = train(config, tmp_path)
    assert 0 < metrics['loss'] < np.log(16) - 0.1
    assert metrics['bits_per_dimension'] == pytest.approx(metrics['loss'] / np.log(2), rel=1e-5)
    of_depths = [metrics[f'loss_depth_{depth}'] for depth in range(2)]
    assert of_depths[0] != of_depths[1]
    assert metrics['loss'] == pytest.approx(np.mean(of_depths), rel=1e-5)
    opened = vq_jax.load(tmp_path)
    made = opened.sample(3)
    assert made.shape == (3, 512, 1) and made.dtype == np.int16 and made.std() > 100
    codes = opened.encode(made)
    assert codes.shape == (3, 32, 2) and (opened.log_prob(codes) < 0).all()
    mask = np.arange(512) >= 256
    again = opened.inpaint(made, mask)
    np.testing.assert_array_equal(again[:, ~mask], made[:, ~mask])
    assert (again[:, mask] != made[:, mask]).any()


def test_a_stretch_of_a_recording_is_sampled_anew(prior):
    """Within the 512 samples of the model it is an inpainting; what follows is in windows of as many."""
    opened = vq_jax.load(prior)
    made = opened.sample(2, label='low')
    given = {'label': 'low', 'seed': 3}
    mask = np.arange(512) >= 200
    begun = np.where(mask[:, None], 0, made).astype(np.int16)
    filled = opened.inpaint(begun, mask, **given)
    np.testing.assert_array_equal(opened.infill(made, 200, 512, **given), filled)
    np.testing.assert_array_equal(opened.infill(made[:, :200], 200, 512, **given), filled)
    long = opened.infill(made, 512, 1200, **given)
    assert long.shape == (2, 1200, 1) and long.dtype == np.int16
    np.testing.assert_array_equal(long[:, :512], made)
    np.testing.assert_array_equal(long[:, 256:768], opened.infill(made[:, 256:], 256, 512, **given))
    assert all(part.any() for part in np.split(long[:, 512:], 4, axis=1))


@pytest.mark.slow
def test_the_command_fills_a_gap_and_continues(prior, tmp_path):
    opened, words = vq_jax.load(prior), [f'--workdir={prior}', '--label=high', '--seed=2']
    recording = opened.sample(1, label='high')[0, :480]
    wav.write(tmp_path / 'x.wav', recording, RATE)
    words += [f'--input={tmp_path}/x.wav', f'--output={tmp_path}/y.wav']
    for flag, start, stop in (('--gap=0.02,0.03', 160, 240), ('--continue=0.1', 480, 1280)):
        run([*words, flag], module='vq_jax.edit')
        made, rate = wav.read((tmp_path / 'y.wav').read_bytes())
        assert rate == RATE
        np.testing.assert_array_equal(made, opened.infill(recording[None], start, stop, 'high', seed=2)[0])
        kept = np.delete(np.arange(480), np.arange(start, min(stop, 480)))
        np.testing.assert_array_equal(made[kept], recording[kept])
    mistakes = {
        '--gap=0.02': "--gap is '0.02'; write it as START,END, the second above",
        '--gap=0.3,0.2': "--gap is '0.3,0.2'; write it",
        '--continue=0': '--continue is 0.0; give a number above 0.',
        '--gap=0.02,0.1': f'--gap ends at 0.1 s, and {tmp_path}/x.wav at 0.06 s; give an earlier end, or',
        '--continue=0.00001': '--continue is shorter than a position of 0.000125 s; give more.',
        f'--mask={tmp_path}/mask.png': '--mask is for images and video, and this run is of sounds; give',
        '--seed=2': 'give --gap or --continue (a prior or a diffusion model), --strength',
    }
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / 'mask.png')
    commands = [[*words, flag] for flag in mistakes]
    for errors, told in zip(refused('vq_jax.edit', *commands), mistakes.values(), strict=True):
        assert errors.splitlines()[-1].startswith(f'error: {told}')


@pytest.mark.slow
def test_samples_are_written_by_what_they_are(prior, tmp_path):
    """As a sheet to look at, one sound after the other, arrays, and a file of each."""
    made = vq_jax.load(prior).sample(3)
    for name in ('x.png', 'x.wav', 'x.npz', 'x'):
        run([f'--workdir={prior}', '--num=3', f'--output={tmp_path / name}'], module='vq_jax.sample')
    arrays = np.load(tmp_path / 'x.npz')
    np.testing.assert_array_equal(arrays['sounds'], made)
    assert arrays['labels'].tolist() == [0, 1, 0]
    joined, rate = wav.read((tmp_path / 'x.wav').read_bytes())
    assert rate == RATE
    cues = wav.read_cues((tmp_path / 'x.wav').read_bytes())
    assert cues == ((0, 'high'), (512 + RATE // 4, 'low'), (1024 + RATE // 2, 'high'))  # for an editor
    np.testing.assert_array_equal(joined.reshape(3, -1, 1)[:, :512], made)
    assert sorted(path.name for path in (tmp_path / 'x').iterdir()) == ['0.wav', '1.wav', '2.wav']
    np.testing.assert_array_equal(wav.read((tmp_path / 'x' / '2.wav').read_bytes())[0], made[2])
    assert Image.open(tmp_path / 'x.png').size[0] > 2 * 192
    sample = f'--workdir={prior}'
    told = refused('vq_jax.sample', [sample, f'--output={tmp_path / "x"}'], [sample, '--output=x.jpg'])
    assert f'--output {tmp_path / "x"} is a directory; it is not empty' in told[0]
    assert (
        'give a name that ends in .png or .gif or .mp4 or .wav or .txt or .npz, or one without an ending'
        in told[1]
    )


def test_a_file_is_of_a_kind(tmp_path):
    for name, spec, words in (
        ('x.wav', Spec('image', (8, 8, 1)), 'x.wav, which holds no images, as this run makes; give a name'),
        ('x.png', Spec('text', (8,)), 'x.png, which holds no texts, .* ends in .txt or .npz'),
        ('x', Spec('text', (8,)), 'what the tokens of these texts stand for is not known'),
        ('x.gif', Spec('image', (8, 8, 1)), 'x.gif, which holds no images, .* ends in .png or .npz'),
        ('x.wav', Spec('video', (2, 8, 8, 1)), 'holds no videos, .* ends in .gif or .mp4 or .png or .npz'),
        ('x.wav', Spec('audio', (8, 1)), 'the rate of these sounds is not known'),
    ):
        with pytest.raises(vq_jax.UserError, match=words):
            sample_flags.check_fits(tmp_path / name, 1, spec)
    spec = Spec('audio', (8000, 1), 8000)
    sample_flags.check_fits(tmp_path / 'x', 10**6, spec)
    with pytest.raises(vq_jax.UserError, match='200000 sounds do not fit in a file; ask for 134,217 or'):
        sample_flags.check_fits(tmp_path / 'x.wav', 200_000, spec)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    sample_flags.write(tmp_path / 'images', images, Spec('image', (8, 8, 1)), 'noise')
    np.testing.assert_array_equal(Image.open(tmp_path / 'images' / '1.png'), images[1, ..., 0])


def test_a_file_is_brought_to_what_the_model_takes(tokenizer, folder, tmp_path):
    opened = vq_jax.load(tokenizer)
    path = folder / 'low' / '0.wav'
    whole, _ = wav.read(path.read_bytes())
    cut, mask = opened.prepare(path)
    assert mask is None and cut.shape == (512, 1) and cut.dtype == np.int16
    start = max(0, len(whole) - 512) // 2
    np.testing.assert_array_equal(cut[: len(whole)], whole[start : start + 512, :1])
    assert not cut[len(whole) :].any()
    np.testing.assert_array_equal(opened.prepare(str(path))[0], cut)
    np.testing.assert_array_equal(opened.prepare(path.read_bytes())[0], cut)
    np.testing.assert_array_equal(opened.prepare(cut[:, 0])[0], cut)
    np.testing.assert_array_equal(opened.prepare(path, whole=True)[0], whole[:, :1])
    wav.write(tmp_path / 'slow.wav', whole[:200], RATE // 2)  # of half the rate, so twice as long
    assert np.abs(opened.prepare(tmp_path / 'slow.wav')[0][:400]).max() > 1000
    (tmp_path / 'text.wav').write_text('no sound')
    for given, words in (
        (tmp_path / 'none.wav', r'none.wav cannot be read \(No such file or directory\); give a WAV file'),
        (
            tmp_path / 'text.wav',
            r'text.wav cannot be decoded \(it is not a WAV file, nor FLAC, .*\); give a WAV file',
        ),
        (cut / 2, 'the sound is float64; give a path, the content of a WAV file, or an array, int16'),
        (None, 'the sound is of type NoneType; give a path'),
    ):
        with pytest.raises(vq_jax.UserError, match=words):
            opened.prepare(given)
    with pytest.raises(vq_jax.UserError, match='a mask is read for images alone'):
        opened.prepare(cut, cut)


@pytest.mark.slow
def test_a_diffusion_model_changes_sounds(folder, tmp_path):
    config = small('diffusion', folder, unet__channels=8, unet__multipliers=(1,), unet__residual_blocks=1)
    config.steps, config.unet.attention_resolutions, config.unet.head_channels = 4, (), 8
    config.sampling.steps, config.evaluation.times, config.model.schedule = 2, 1, 'cosine'
    config.eval_every = config.checkpoint_every = 4
    metrics = train(config, tmp_path / 'run')
    assert 'loss' in metrics and 'bits_per_dimension' not in metrics  # which are of bytes
    opened = vq_jax.load(tmp_path / 'run')
    sound = opened.prepare(folder / 'high' / '3.wav')[0]
    same = opened.image_to_image(sound[None], 0.0)
    assert same.dtype == np.int16 and np.abs(same.astype(int) - sound).max() < 500  # of 32,768
    assert np.abs(opened.image_to_image(sound[None], 0.9).astype(int) - sound).mean() > 1000
    mask = np.arange(512) < 100
    again = opened.inpaint(sound[None], mask)[0]
    np.testing.assert_array_equal(again[~mask], sound[~mask])
    longer = opened.infill(sound[None], 512, 600)[0]
    np.testing.assert_array_equal(longer[:512], sound)
    assert longer.shape == (600, 1) and longer[512:].any()
    quiet = opened.denoise(sound[None], 1.0, sampler='ddim', steps=1)
    assert np.abs(quiet.astype(int) - sound).max() < 500
    with pytest.raises(vq_jax.UserError, match='sigma is -1; give a number of steps of int16 above 0'):
        opened.denoise(sound[None], -1)
    assert opened.interpolate(sound, sound, 3).shape == (3, 512, 1)
    given = [f'--input={folder}/high/3.wav', '--strength=0.5', f'--output={tmp_path}/x.wav']
    run([f'--workdir={tmp_path / "run"}', *given], module='vq_jax.edit')
    expected = opened.image_to_image(sound[None], 0.5)[0]
    np.testing.assert_array_equal(wav.read((tmp_path / 'x.wav').read_bytes())[0][:512], expected)
    config.model.upscale = 2
    with pytest.raises(vq_jax.UserError, match=r'super-resolution .* is of images, and these are audio'):
        train(config, tmp_path / 'other')


@pytest.mark.slow
def test_a_sound_is_decoded_as_of_another_class(folder, tmp_path):
    """From low to high, by the codes, in Python and by the command."""
    config = small('vqvae', folder, model__channels=16, model__stages=2, model__strides=(8,))
    config.model.class_conditional, config.quantizer.num_codes, config.quantizer.dim = True, 4, 8
    config.optimizer.learning_rate, config.steps = 3e-3, 300
    config.eval_every = config.checkpoint_every = 300
    train(config, tmp_path / 'run')
    opened, path = vq_jax.load(tmp_path / 'run'), folder / 'low' / '0.wav'
    whole, _ = opened.prepare(path, whole=True)
    assert len(whole) % 64  # so that the last position is not full
    sound = np.stack([np.pad(whole, ((0, -len(whole) % 64), (0, 0)))] * 2)
    made = opened.reconstruct(sound, label=['low', 'high'])
    np.testing.assert_array_equal(opened.decode(opened.encode(sound), label=[1, 0]), made)
    bins = np.abs(np.fft.rfft(np.float64(made[:, :400, 0]))).argmax(1) * RATE / 400
    assert bins[0] < 500 < bins[1]
    with pytest.raises(vq_jax.UserError, match='conditioned on classes; give a label, one for all or for'):
        opened.reconstruct(sound)
    command = [f'--workdir={tmp_path / "run"}', f'--input={path}', f'--output={tmp_path / "x.npz"}']
    run([*command, '--label=low,high', '--num=2'], module='vq_jax.edit')
    np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['sounds'], made[:, : len(whole)])
    errors = refused('vq_jax.edit', command, [*command, '--label=high', '--seed=1'])
    assert 'this model is conditioned on classes; give a label' in errors[0]
    assert '--seed changes nothing here, where nothing is sampled; leave it out.' in errors[1]


@pytest.mark.parametrize('task', [pytest.param('gan', marks=pytest.mark.slow), 'classifier'])
def test_what_needs_no_codes_takes_sounds(task, folder, tmp_path):
    config = small(task, folder)
    config.steps = config.eval_every = config.checkpoint_every = 2
    if task == 'gan':
        config.generator.channels = config.discriminator.channels = 4
        config.best_metric = None
    else:
        config.model.channels = config.model.features = 8
    train(config, tmp_path / 'run')
    opened = vq_jax.load(tmp_path / 'run')
    if task == 'gan':
        made = opened.sample(2)
        assert made.shape == (2, 512, 1) and made.dtype == np.int16
        assert (tmp_path / 'run' / 'sounds' / 'samples_sound_0000002.wav').exists()
    else:
        sound, _ = opened.prepare(folder / 'high' / '3.wav')
        assert opened.classify(sound[None]).shape == (1, 2)
        assert (tmp_path / 'run' / 'images' / 'classes_0000002.png').exists()


def test_a_prior_of_values_is_of_pixels(folder, tmp_path):
    with pytest.raises(vq_jax.UserError, match='the values of bytes alone, not of audio; set it to a run'):
        train(small('prior', folder), tmp_path / 'run')
