"""The page as a parser of HTML sees it."""

import base64
import datetime
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from tests.reporting.recorded import image, record, sound, trained
from vq_jax.reporting import Environment, make_page, read_runs
from vq_jax.spec import Spec
from vq_jax.training.run_dir import DataFacts, write_data_facts

ENVIRONMENT = Environment('CPython 3.11', 'a <machine>', '1 × cpu', {'jax': '0.10.2'})
NOW = datetime.datetime(2026, 2, 3, 4, 5, tzinfo=datetime.UTC)
VOID = {'meta', 'link', 'br', 'input', 'img', 'hr'}


class Page(HTMLParser):
    """The elements of a page; that each is closed is checked on the way."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        self.elements.append([tag, dict(attributes), ''])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag, f'{tag} closes {self.open[-1]}'
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag, **attributes):
        return [
            (given, text)
            for name, given, text in self.elements
            if name == tag and all(given.get(k) == v for k, v in attributes.items())
        ]

    @property
    def data(self):
        ((_, text),) = self.all('script', id='data')
        return json.loads(text)

    def table(self, heading):
        """The rows of the first table after a heading, by their first cell."""
        start = next(i for i, e in enumerate(self.elements) if e[0] in ('h2', 'h3') and e[2] == heading)
        rows = {}
        for tag, _, text in self.elements[start:]:
            if tag in ('h2', 'details'):
                if rows:
                    break
            elif tag == 'tr':
                rows[key := len(rows)] = []
            elif tag in ('th', 'td') and rows:
                rows[key].append(text)
        return {row[0]: row[1:] for row in rows.values()}


def page_of(*workdirs, **options):
    return Page(make_page(read_runs(workdirs), ENVIRONMENT, 'python -m x', now=NOW, **options))


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    quantizer = {'num_codes': 32, 'sizes': [1, 2]}
    return trained(folder / 'a'), trained(folder / 'b', factor=3.0, quantizer=quantizer, extra='<b>')


def test_nothing_is_fetched(two):
    page = page_of(*two)
    for tag, attributes, _ in page.elements:
        for name in ('src', 'href', 'srcset', 'action', 'data', 'poster'):
            if name in attributes:
                assert attributes[name].startswith('data:'), (tag, attributes)
    style = ''.join(text for _, text in page.all('style'))
    assert not re.search(r'url\(|@import', style)
    policy = page.all('meta', **{'http-equiv': 'Content-Security-Policy'})[0][0]['content']
    assert "default-src 'none'" in policy
    ((_, script),) = [(a, t) for a, t in page.all('script') if not a]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_images_are_those_of_the_runs(two):
    page = page_of(*two)
    shown = [
        (a['alt'], int(a['data-step']), base64.b64decode(a['src'].removeprefix('data:image/png;base64,')))
        for a, _ in page.all('img')
    ]
    expected = [
        (f'{name} of {run.name}, step {step}', step, (run / 'images' / f'{name}_{step:07}.png').read_bytes())
        for name in ('code_usage', 'reconstructions')
        for run in two
        for step in (20, 40)
    ]
    assert shown == expected
    # Without the script, the last of each shows.
    assert {a['data-step'] for a, _ in page.all('img') if 'hidden' not in a} == {'40'}


def test_animations_are_shown_beside_their_sheets(tmp_path):
    animations = [(step, 'samples_video', [image(10 * step + t) for t in range(3)]) for step in (1, 2)]
    images = [(step, name, image(step)) for step in (1, 2) for name in ('codes', 'samples')]
    workdir = record(tmp_path / 'run', images=images, animations=animations)
    write_data_facts(workdir, DataFacts(Spec('video', (3, 8, 12, 3)), 10, {}))
    page = page_of(workdir)
    kinds = [a['src'].partition(';')[0] for a, _ in page.all('img')]
    assert kinds == ['data:image/png'] * 4 + ['data:image/gif'] * 2
    moving = page.all('img')[5][0]
    assert (moving['alt'], moving['data-step']) == ('samples_video of run, step 2', '2')
    file = workdir / 'animations' / 'samples_video_0000002.gif'
    assert base64.b64decode(moving['src'].partition(',')[2]) == file.read_bytes()
    assert [text for _, text in page.all('h3')][:2] == ['codes', 'samples']
    assert any(text == 'Images and animations' for _, text in page.all('h2'))


def test_sounds_are_played_beside_their_sheets(tmp_path):
    sounds = [(step, 'samples_sound', sound(step)) for step in (1, 2)]
    images = [(step, name, image(step)) for step in (1, 2) for name in ('codes', 'samples')]
    workdir = record(tmp_path / 'run', images=images, sounds=[*sounds, (2, 'alone', sound(3))])
    write_data_facts(workdir, DataFacts(Spec('audio', (100, 1), 8000), 10, {}))
    page = page_of(workdir)
    assert [text for _, text in page.all('h3')][:3] == ['codes', 'samples', 'alone']
    shown = [(a['aria-label'], a['data-step'], 'hidden' in a) for a, _ in page.all('audio')]
    assert shown == [
        ('samples_sound of run, step 1', '1', True),
        ('samples_sound of run, step 2', '2', False),
        ('alone of run, step 2', '2', False),
    ]
    assert all('controls' in a for a, _ in page.all('audio'))
    played = page.all('audio')[1][0]['src'].removeprefix('data:audio/wav;base64,')
    assert base64.b64decode(played) == (workdir / 'sounds' / 'samples_sound_0000002.wav').read_bytes()
    # Between the last of its images and what comes after.
    order = [e[0] for e in page.elements if e[0] in ('h3', 'img', 'audio')][:9]
    assert order == ['h3', 'img', 'img', 'h3', 'img', 'img', 'audio', 'audio', 'h3']
    assert any(text == 'Images and sounds' for _, text in page.all('h2'))
    assert page.table('Runs')['sounds'] == ['100 × 1, 8,000 a second']
    policy = page.all('meta', **{'http-equiv': 'Content-Security-Policy'})[0][0]['content']
    assert 'media-src data:;' in policy
    few = page_of(workdir, max_images=1)
    assert [a['data-step'] for a, _ in few.all('audio')] == ['2', '2']


def test_of_many_images_some_are_shown(tmp_path):
    images = [(step, 'samples', image(step)) for step in range(1, 101)]
    page = page_of(record(tmp_path / 'run', images=images), max_images=12)
    steps = [int(a['data-step']) for a, _ in page.all('img')]
    assert steps == [1, 10, 19, 28, 37, 46, 55, 64, 73, 82, 91, 100]
    assert any('12 steps are shown' in text for _, text in page.all('p'))
    one = page_of(tmp_path / 'run', max_images=1)
    assert [a['data-step'] for a, _ in one.all('img')] == ['100']


def test_only_keys_that_differ_come_first(two):
    page = page_of(*two)
    assert page.table('Keys that differ') == {
        '': ['a', 'b'],
        'extra': ['–', '"<b>"'],
        'quantizer.num_codes': ['16', '32'],
    }
    details = next(text for _, text in page.all('details'))
    assert 'quantizer.sizes' in details
    assert 'data.name' in details


def test_of_several_tasks_the_keys_of_all_come_first(two, tmp_path):
    page = page_of(two[1], trained(tmp_path / 'other', task='prior'))
    assert page.table('Keys that differ').keys() == {'', 'task', 'quantizer.num_codes'}
    assert 'extra' in next(text for _, text in page.all('details'))


def test_equal_configs_say_so(two, tmp_path):
    page = page_of(two[0], trained(tmp_path / 'again'))
    assert ({}, 'The configs do not differ.') in page.all('p')


def test_the_table_of_evaluations(two):
    page = page_of(*two)
    start = [e[2] for e in page.elements].index('Evaluation')
    cells = [e for e in page.elements[start:] if e[0] == 'td' and 'data-run' in e[1]][:12]
    assert [e[2] for e in cells] == [
        *('0.4', '0.2', '1.2', '0.6'),
        *('60', '40', '60', '40'),
        *('359', '359', '359', '359'),
    ]
    assert [e[1]['data-run'] for e in cells[:4]] == ['0', '0', '1', '1']
    assert cells[2][1]['title'] == repr(3.0 * 40 / 100)
    heads = [e[2] for e in page.elements[start:] if e[0] == 'th'][:6]
    assert heads == ['a', 'b', 'laststep 40', 'beststep 20', 'laststep 40', 'beststep 20']


def test_progress(two, tmp_path):
    cut = trained(tmp_path / 'cut', steps=5000)
    assert page_of(two[0], cut).table('Runs')['progress'] == [
        'finished, 40 steps',
        'step 40 of 5,000: going on, or stopped',
    ]


@pytest.mark.parametrize(
    ('names', 'shown'),
    [
        (None, '3'),
        (('cat', '<b>dog</b>', 'a, b'), "3: 'cat', '<b>dog</b>', 'a, b'"),
        (tuple(map(str, range(1200))), "1,200'0', '1', "),
    ],
)
def test_the_classes_of_the_data_are_named(tmp_path, names, shown):
    workdir = record(tmp_path / 'run')
    number = 3 if names is None else len(names)
    write_data_facts(workdir, DataFacts(Spec('image', (8, 8, 1)), number, {}, class_names=names))
    page = page_of(workdir)
    (cell,) = page.table('Runs')['classes']
    assert cell.startswith(shown) and not page.all('b')
    assert cell.endswith("'999' and 200 more") == (number == 1200)


def test_warnings_of_a_kind_are_one_line(two, tmp_path):
    lost = 'the discriminator has lost: it ranks'
    warnings = [
        (100, f'{lost} 20%'),
        (200, f'{lost} <10%'),
        (200, 'no best <checkpoint>'),
        (900, f'{lost} 5%'),
    ]
    warned = record(tmp_path / 'run', [(900, 'train', {'loss': 1.0})], warnings=warnings)
    assert page_of(two[0], warned).table('Runs')['warnings'] == [
        '–',
        f'3 times from step 100 to 900: {lost} 5%step 200: no best <checkpoint>',
    ]
    assert 'warnings' not in page_of(*two).table('Runs')


def test_a_run_without_anything(tmp_path):
    workdir = record(tmp_path / 'run')
    page = page_of(workdir)
    assert page.data['charts'] == []
    texts = {text for _, text in page.all('p')}
    assert {'Nothing was evaluated yet.', 'No images were written yet.'} <= texts


def test_not_finite_evaluations(tmp_path):
    workdir = record(tmp_path / 'run', [(1, 'eval', {'loss': float('nan'), 'psnr': 2.5})])
    table = page_of(workdir).table('Evaluation')
    assert table['loss'] == ['not finite']
    assert table['psnr'] == ['2.5']


def test_names_are_text(tmp_path):
    evil = '</script><script>alert(1)</script>&amp;"\'<!--'
    flat = evil.replace('/', '∕')  # no folder
    log = [(1, 'train', {evil: 1.0}), (1, 'eval', {evil: 2.0})]
    workdirs = [
        record(tmp_path / f'{n}{flat}', log, [(1, flat, image(0))], task=evil, steps={evil: n})
        for n in (1, 2)
    ]
    page = page_of(*workdirs)
    assert len(page.all('script')) == 2
    assert page.data['runs'] == [workdir.name for workdir in workdirs]
    assert [chart['name'] for chart in page.data['charts']] == [evil]
    assert page.table('Runs')['task'] == [evil, evil]
    assert page.all('img')[0][0]['alt'] == f'{flat} of 1{flat}, step 1'
    assert flat in page.all('h3')[0][1]
    assert f'steps.{evil}' in page.table('Keys that differ')


def test_the_environment_and_the_command(two):
    page = page_of(two[0])
    assert page.table('Environment')['machine'] == ['a <machine>']
    assert ({}, 'jax 0.10.2') in page.all('li')
    assert ({}, 'python -m x') in page.all('pre')
    assert any('2026-02-03 04:05 UTC' in text for _, text in page.all('p'))
