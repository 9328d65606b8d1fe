"""Pages of runs that a stranger wrote: every text and number in them, one after the other, is an attack."""

import base64
import copy
import json
import os
import struct

import numpy as np
import pytest
from PIL import Image

from tests.reporting.browser import Browser, find_browser
from tests.reporting.recorded import image, record, sound
from tests.reporting.test_page import Page
from vq_jax.errors import UserError
from vq_jax.media import Sound, wav
from vq_jax.reporting import Environment, make_page, read_runs

HTML = (
    '</script></style></title></template>--><img src=http://127.0.0.1:9/a onerror=ran=1>'
    '<meta http-equiv=refresh content="0;url=http://127.0.0.1:9/b"><script>ran=1</script>'
    '<link rel=stylesheet href=http://127.0.0.1:9/c><iframe src=http://127.0.0.1:9/d></iframe>'
    '<svg onload=ran=1><base href=http://127.0.0.1:9/>'
)
TEXTS = (
    HTML,
    '"' + HTML,
    "' onmouseover='ran=1' style='background:url(http://127.0.0.1:9/e)",
    '$script ${data} $$',
)
NUMBERS = (1e308, -1e308, 5e-324, -0.0, float('nan'), float('inf'), 2**53, 2**64, -1, 10**400)
OTHERS = (None, True, [HTML], {HTML: HTML}, [[[]]])
FLAT = HTML.replace('/', '∕')[:200]  # a name of a file


@pytest.fixture(scope='module')
def honest(tmp_path_factory):
    """The JSON values of the files of a run."""
    log = [(step, split, {'loss': 1.0}) for step in (1, 2) for split in ('train', 'eval', 'speed')]
    workdir = record(tmp_path_factory.mktemp('honest') / 'run', log, warnings=[(1, 'lost: it ranks 3')])
    part = {'workdir': 'runs/other', 'step': 3, 'checksum': 'abc', 'from_here': '../other'}
    facts = json.loads((workdir / 'data.json').read_text()) | {'published': 'abc', 'class_names': ['a', 'b']}
    facts |= {'num_classes': 2, 'built_on': {'tokenizer': part}}
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    config = json.loads((workdir / 'config.json').read_text())
    return {'config.json': config, 'data.json': facts, 'metrics.jsonl': list(map(json.loads, lines))}


def paths(value, path=()):
    """Where the keys and values are in JSON values."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*path, key))


def changed(value, path, new, *, key):
    """A copy with something else at a place: another value, or another name for it."""
    value = copy.deepcopy(value)
    inner = value
    for part in path[:-1]:
        inner = inner[part]
    if key:
        inner[new] = inner.pop(path[-1])
    else:
        inner[path[-1]] = new
    return value


def write(workdir, files):
    workdir.mkdir()
    for name, value in files.items():
        lines = (
            [json.dumps(line) + '\n' for line in value] if isinstance(value, list) else [json.dumps(value)]
        )
        (workdir / name).write_text(''.join(lines))
    return workdir


def variants(honest):
    for file, value in honest.items():
        for path in paths(value):
            named = isinstance(path[-1], str)
            for new in (*TEXTS, *NUMBERS, *OTHERS):
                yield honest | {file: changed(value, path, new, key=False)}
            for new in TEXTS if named else ():
                yield honest | {file: changed(value, path, new, key=True)}


@pytest.fixture(scope='module')
def hostile(honest, tmp_path_factory):
    """Runs with an attack in one place each, as far as they are read, and one with attacks in all names."""
    folder = tmp_path_factory.mktemp('hostile')
    workdirs, told = [], []
    for i, files in enumerate(variants(honest)):
        workdir = write(folder / str(i), files)
        try:
            read_runs([workdir])
            workdirs.append(workdir)
        except UserError as error:
            told.append(str(error))
    assert len(told) > 100 and not any('\n' in error for error in told)
    log = [(step, FLAT, {HTML: float(step)}) for step in (1, 2)]
    images = [(1, FLAT, image(0)), (2, 'a" onerror="ran=1', image(1))]
    named = Sound(np.stack([sound(0), sound(1)]), 8000, (HTML, '"\'> onerror=ran=1'))
    sounds = [(1, FLAT, sound(0)), (2, 'a" onerror="ran=1', named)]
    warnings, texts = [(1, HTML), (2, HTML)], [(1, FLAT, HTML), (2, 'a" onerror="ran=1', HTML)]
    workdirs.append(record(folder / FLAT, log, images, sounds, warnings=warnings, texts=texts, task=HTML))
    workdirs.append(record(folder / os.fsdecode(b'\xff\xfe'), log, best_metric=HTML, best_mode=HTML))
    return workdirs


def page_of(workdirs, title='python -m vq_jax.report ' + HTML):
    return make_page(read_runs(workdirs), Environment(HTML, HTML, HTML, {HTML: HTML}), title)


def test_only_our_elements_are_in_the_page(hostile):
    """And it can be written: names of files that are no text are told in another way."""
    text = page_of(hostile)
    page = Page(text.encode('utf-8').decode())
    assert len(page.all('script')) == 2 and len(page.all('meta')) == 3 and len(page.all('link')) == 1
    for tag, attributes, _ in page.elements:
        assert tag not in ('iframe', 'base', 'template', 'object', 'embed', 'form', 'a')
        assert not [name for name in attributes if name.startswith('on')]
        assert attributes.get('src', 'data:').startswith('data:image/png;base64,') or tag != 'img'
        assert attributes.get('src', '').startswith('data:audio/wav;base64,') or tag != 'audio'
        assert tag in ('img', 'audio') or 'src' not in attributes


@pytest.mark.skipif(find_browser() is None, reason='no Chromium on the PATH, and CHROME_BIN is not set')
def test_a_hostile_run_makes_no_request_and_runs_nothing(hostile, tmp_path):
    browser = Browser(tmp_path / 'profile')
    try:
        for i in range(0, len(hostile), 60):
            page = tmp_path / f'{i}.html'
            page.write_text(page_of(hostile[i : i + 60]), encoding='utf-8')
            browser.open(page)
            # Where the script of the page writes what it was given: legends, notes, values under the cursor.
            browser.run("""
                document.querySelectorAll('input[type=checkbox]').forEach((box) => box.click());
                document.querySelectorAll('input[type=range]').forEach((slider) => {
                  slider.value = slider.max;
                  slider.dispatchEvent(new Event('input'));
                });
                for (const svg of document.querySelectorAll('.chart svg')) {
                  svg.focus();
                  svg.dispatchEvent(new KeyboardEvent('keydown', { key: 'End' }));
                }
            """)
            browser.settle()
            assert browser.run('location.href') == page.as_uri()
            assert browser.run("typeof ran === 'undefined'")
            counts = "['script', 'meta', 'link', 'base'].map((x) => document.querySelectorAll(x).length)"
            assert browser.run(counts) == [2, 3, 1, 0]
        browser.run('new Promise((done) => setTimeout(done, 500)).then(() => true)')
        assert browser.run('location.href') == page.as_uri()
        assert browser.errors == []
        assert {request.partition(':')[0] for request in browser.requests} <= {'file', 'data'}
    finally:
        browser.close()


def test_images_are_regular_files_of_the_run_and_png(tmp_path):
    secret = tmp_path / 'secret_0000001.png'
    Image.fromarray(image(9)).save(secret)
    workdir = record(tmp_path / 'run', images=[(1, 'good', image(1)), (2, 'folder', image(2))])
    images = workdir / 'images'
    (images / 'link_0000001.png').symlink_to(secret)
    (images / 'loop_0000001.png').symlink_to('loop_0000001.png')
    (images / 'inner_0000001.png').symlink_to('good_0000001.png')
    (images / 'device_0000001.png').symlink_to('/dev/zero')
    os.mkfifo(images / 'pipe_0000001.png')
    (images / 'dir_0000001.png').mkdir()
    (images / 'page_0000001.png').write_text('<script>ran=1</script>')
    (images / 'cut_0000001.png').write_bytes(secret.read_bytes()[:60])
    Image.fromarray(image(9)).save(images / 'jpeg_0000001.png', 'jpeg')
    with (images / 'large_0000001.png').open('wb') as file:
        file.truncate(2**30)
    page = Page(page_of([workdir]))
    shown = [attributes['alt'] for attributes, _ in page.all('img')]
    assert shown == [
        f'{name} of run, step {step}' for name, step in (('folder', 2), ('good', 1), ('inner', 1))
    ]
    (told,) = [text for _, text in page.all('p') if text.startswith('Not shown: ')]
    assert told.endswith('And 6 more.')

    elsewhere = tmp_path / 'elsewhere'
    images.rename(elsewhere)
    images.symlink_to(elsewhere)
    page = Page(page_of([workdir]))
    assert not page.all('img') and 'is a link out of the run.' in page.all('section')[0][1]


def test_animations_are_regular_files_of_the_run_and_gif(tmp_path):
    frames = [image(t) for t in range(4)]
    workdir = record(tmp_path / 'run', animations=[(1, 'good', frames)])
    animations = workdir / 'animations'
    content = (animations / 'good_0000001.gif').read_bytes()
    (tmp_path / 'secret.gif').write_bytes(content)
    (animations / 'link_0000001.gif').symlink_to(tmp_path / 'secret.gif')
    (animations / 'page_0000001.gif').write_text('<script>ran=1</script>')
    (animations / 'cut_0000001.gif').write_bytes(content[:-200])
    (animations / 'svg_0000001.gif').write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="ran=1"/>')
    # Of a size that no memory holds, in the header of the file and of a frame.
    frame = content.index(b'\x2c\0\0\0\0\x0c\0\x08\0')
    large = bytearray(content)
    large[6:10] = large[frame + 5 : frame + 9] = b'\xff' * 4
    (animations / 'large_0000001.gif').write_bytes(large)
    page = Page(page_of([workdir]))
    assert [a['alt'] for a, _ in page.all('img')] == ['good of run, step 1']
    (told,) = [text for _, text in page.all('p') if text.startswith('Not shown: ')]
    assert told.endswith('And 2 more.')


def test_texts_are_files_of_the_run_and_are_shown_as_they_are(tmp_path):
    secret = tmp_path / 'secret_0000001.txt'
    secret.write_text('secret')
    workdir = record(tmp_path / 'run', texts=[(1, 'good', HTML), (2, 'good', 'a\x1bb\nc')])
    texts = workdir / 'texts'
    (texts / 'link_0000001.txt').symlink_to(secret)
    (texts / 'bytes_0000001.txt').write_bytes(b'\xff')
    (texts / 'large_0000001.txt').write_bytes(bytes(2**20 + 1))
    text = page_of([workdir])
    shown = {a['aria-label']: text for a, text in Page(text).all('pre') if 'aria-label' in a}
    assert shown == {
        'bytes of run, step 1': '\ufffd',
        'good of run, step 1': f'--- samples 1 ---\n{HTML}\n',
        'good of run, step 2': '--- samples 1 ---\na\\x1bb\nc\n',
    }
    assert '<h2>Texts</h2>' in text or '>Texts<' in text
    assert 'link out of the run' in text and 'too many' in text


def test_sounds_are_regular_files_of_the_run_and_wav(tmp_path):
    """And of what a file holds, only the samples are in the page."""
    secret = tmp_path / 'secret_0000001.wav'
    wav.write(secret, sound(9), 8000)
    workdir = record(tmp_path / 'run', sounds=[(1, 'good', sound(1))])
    sounds = workdir / 'sounds'
    (sounds / 'link_0000001.wav').symlink_to(secret)
    (sounds / 'device_0000001.wav').symlink_to('/dev/zero')
    os.mkfifo(sounds / 'pipe_0000001.wav')
    (sounds / 'page_0000001.wav').write_text('<script>ran=1</script>')
    (sounds / 'cut_0000001.wav').write_bytes(secret.read_bytes()[:60])
    (sounds / 'fast_0000001.wav').write_bytes(
        secret.read_bytes().replace(struct.pack('<I', 8000), b'\xff' * 4)
    )
    (sounds / 'mp3_0000001.wav').write_bytes(b'ID3' + bytes(200))
    with (sounds / 'large_0000001.wav').open('wb') as file:
        file.truncate(2**30)
    content = secret.read_bytes()
    (sounds / 'more_0000001.wav').write_bytes(content + b'junk' + HTML.encode())
    page = Page(page_of([workdir]))
    shown = {a['aria-label']: base64.b64decode(a['src'].partition(',')[2]) for a, _ in page.all('audio')}
    assert list(shown) == ['good of run, step 1', 'more of run, step 1']
    assert shown['more of run, step 1'] == content
    (told,) = [text for _, text in page.all('p') if text.startswith('Not shown: ')]
    assert told.endswith('And 5 more.')
