"""Texts of images: as a condition, from captions beside images to samples of a prompt, and the other way."""

import json

import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import refused, run
from vq_jax.errors import UserError
from vq_jax.tasks import default_config
from vq_jax.train import train

COLOURS = {'red': (220, 30, 30), 'green': (30, 200, 30), 'blue': (30, 30, 220)}
SIZES = {'depth': 2, 'width': 32, 'heads': 4}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp('colours'))


def write_colours(folder):
    """Images of one colour each, brighter or darker, with two captions each."""
    lines = []
    for i in range(48):
        name, colour = list(COLOURS.items())[i % 3]
        pixels = np.uint8(np.full((4, 4, 3), colour) * (0.8 + 0.2 * (i % 2)))
        Image.fromarray(pixels).save(folder / f'{i}.png')
        lines.append({'file_name': f'{i}.png', 'text': [f'a {name} square', f'{name} all over']})
    (folder / 'captions.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return folder


@pytest.fixture(scope='module', params=['diffusion', 'prior'])
def trained(request, folder, tmp_path_factory):
    """A model of the images in colour, or of four pixels each in grey, which tells the colours apart too."""
    config = default_config(request.param, conditioner='text')
    config.steps = config.eval_every = config.checkpoint_every = 150 if request.param == 'diffusion' else 300
    config.batch_size, config.num_shown = 16, 4
    config.data.name, config.data.caption_length, config.data.channels = f'folder:{folder}', 24, 3
    config.text_encoder.update({**SIZES, 'depth': 1})
    config.optimizer.learning_rate = 3e-3
    config.conditioner.dropout = 0.2
    if request.param == 'diffusion':
        config.model.backbone, config.evaluation.times, config.sampling.steps = 'dit', 1, 8
        config.dit.update({**SIZES, 'patch': 2})
    else:
        config.data.channels, config.data.image_size = 1, 2
        config.model.kind, config.sampling.steps = 'maskgit', 4
        config.transformer.update(SIZES)
    workdir = tmp_path_factory.mktemp('runs') / request.param
    train(config, workdir)
    return workdir


def likeness(samples):
    """To which of the colours each image is nearest."""
    means, colours = samples.mean((1, 2)), 0.9 * np.array(list(COLOURS.values()))
    if samples.shape[-1] == 1:
        colours = colours @ [[0.299], [0.587], [0.114]]  # ITU-R BT.601
    distances = np.linalg.norm(means[:, None] - colours, axis=-1)
    return [list(COLOURS)[i] for i in distances.argmin(1)]


@pytest.mark.slow
def test_samples_are_of_what_the_text_says(trained, tmp_path):
    model = vq_jax.load(trained)
    names = list(COLOURS) * 4
    samples = model.sample(text=[f'a {name} square' for name in names], guidance=2.0)
    right = np.mean([a == b for a, b in zip(likeness(samples), names, strict=True)])
    assert right >= 10 / 12  # a third, if the text is not read
    # Leaning far away from what is asked for gives something else.
    away = model.sample(6, text='green all over', negative_text='a red square', guidance=0.0)
    assert likeness(away).count('red') >= 5
    run(
        [
            *('--workdir', trained, f'--output={tmp_path / "samples"}', '--num=3'),
            *('--text=a red square', '--text=blue all over'),
        ],
        module='vq_jax.sample',
    )
    lines = (tmp_path / 'samples' / 'captions.jsonl').read_text().splitlines()
    texts = ['a red square', 'blue all over', 'a red square']
    assert [json.loads(line) for line in lines] == [
        {'file_name': f'{i}.png', 'text': text} for i, text in enumerate(texts)
    ]
    command = ['--workdir', trained, f'--output={tmp_path / "x.png"}']
    for flags, words in (
        ([], 'this model is conditioned on text, and was given nothing; give each by its name (--text TEXT'),
        (['--text='], "the text is ''; say what is to be made"),
        ([f'--text={"x" * 25}'], 'the text has 25 tokens, and this model was trained on texts of up to 24'),
    ):
        [error] = refused('vq_jax.sample', [*command, *flags])
        assert words in error


@pytest.mark.slow
def test_texts_say_what_images_show(folder, tmp_path):
    """By a captioner that reads pixels; the command writes captions as data sets take them."""
    config = default_config('captioner')
    config.steps = config.eval_every = config.checkpoint_every = 150
    config.batch_size, config.num_shown = 16, 4
    config.data.name, config.data.caption_length = f'folder:{folder}', 24
    config.data.channels, config.data.image_size = 3, 1
    config.code_encoder.update({**SIZES, 'depth': 1})
    config.transformer.update(SIZES)
    config.optimizer.learning_rate = 3e-3
    config.sampling.temperature = 0.0
    train(config, tmp_path / 'run')
    [shown] = (tmp_path / 'run' / 'texts').glob('*descriptions*')
    assert '--- sampled 1 ---' in shown.read_text()
    assert [*(tmp_path / 'run' / 'images').glob('*described*')]
    model = vq_jax.load(tmp_path / 'run')
    names = list(COLOURS) * 4
    images = np.uint8([COLOURS[name] for name in names]).reshape(-1, 1, 1, 3)
    texts = model.describe(images)
    right = {name: {f'a {name} square', f'{name} all over'} for name in COLOURS}
    assert sum(text in right[name] for name, text in zip(names, texts, strict=True)) >= 10
    sampled = [model.describe(images, seed, temperature=1.0, guidance=2.0) for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1] != sampled[2]
    with pytest.raises(UserError, match=r'made for \(1, 1, 3\); resize them'):
        model.describe(np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(UserError, match='top_k changes nothing here: of a temperature of 0'):
        model.describe(images, top_k=3)
    command = ['--workdir', tmp_path / 'run', f'--input={folder}', f'--output={tmp_path / "captions.jsonl"}']
    run(command, module='vq_jax.describe')
    lines = [json.loads(line) for line in (tmp_path / 'captions.jsonl').read_text().splitlines()]
    assert sorted(line['file_name'] for line in lines) == sorted(f'{i}.png' for i in range(48))
    colours = {line['file_name']: line['text'] for line in lines}
    assert sum(colours[f'{i}.png'] in right[list(COLOURS)[i % 3]] for i in range(48)) >= 40
    colours_again = model.describe_files(sorted(folder.glob('*.png')))
    assert colours_again == [colours[path.name] for path in sorted(folder.glob('*.png'))]
    output, _ = run([*command[:2], f'--input={folder / "0.png"}'], module='vq_jax.describe')
    assert output == f'0.png: {colours["0.png"]}\n'
    [error] = refused('vq_jax.describe', ['--workdir', tmp_path / 'run', '--input=nothing.png'])
    assert 'nothing.png, which is not there' in error
