"""The page in a real browser: what is drawn, by mouse, keys and on a phone."""

import json
import math

import numpy as np
import pytest

from tests.reporting.browser import Browser, find_browser
from tests.reporting.recorded import image, record, sound, trained
from vq_jax.media import Sound
from vq_jax.reporting import Environment, make_page, read_runs

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason='no Chromium on the PATH, and CHROME_BIN is not set'
)


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp('profile'))
    yield browser
    browser.close()


@pytest.fixture(autouse=True)
def _no_errors_and_no_network(browser):
    browser.requests.clear()
    browser.errors.clear()
    yield
    assert browser.errors == []
    assert {request.partition(':')[0] for request in browser.requests} <= {'file', 'data'}


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    return write(folder, trained(folder / 'a'), trained(folder / 'b', factor=3.0))


def write(folder, *workdirs):
    page = make_page(read_runs(workdirs), Environment('3', 'here', 'cpu', {}), 'python -m x')
    path = folder / 'page.html'
    path.write_text(page, encoding='utf-8')
    return path


def chart(name):
    return f"document.querySelector('[data-name={json.dumps(name)}]')"


def points(browser, name, which='path.curve'):
    """The points of each line of a chart, in pixels; a gap begins a new list."""
    paths = browser.run(f"[...{chart(name)}.querySelectorAll('{which}')].map((p) => p.getAttribute('d'))")
    return [
        [[tuple(map(float, point.split())) for point in part.split('L')] for part in path.split('M')[1:]]
        for path in paths
    ]


def tip(browser, name):
    """What the chart says of the place of its cursor; None if it says nothing."""
    return browser.run(
        f'(({{hidden, children}}) => hidden ? null : [...children].map((x) => x.textContent))'
        f"({chart(name)}.querySelector('.tip'))"
    )


def test_lines_go_through_the_numbers(browser, two):
    browser.open(two)
    lines = points(browser, 'loss')
    assert [[len(part) for part in line] for line in lines] == [[8], [2], [8], [2]]
    (a_train,), (a_eval,), (b_train,), _ = lines
    # Pixels are linear in steps and in values, so that their fit has no residue.
    steps = np.arange(5, 41, 5)
    x, y = np.array(a_train).T
    assert np.ptp(x - np.polyval(np.polyfit(steps, x, 1), steps)) < 0.2
    slope = np.polyfit(1 / steps, y, 1)
    np.testing.assert_allclose(np.polyval(slope, 1 / steps), y, atol=0.1)
    np.testing.assert_allclose(np.polyval(slope, 3 / steps), np.array(b_train)[:, 1], atol=0.5)
    np.testing.assert_allclose(np.polyval(slope, [0.2, 0.4]), np.array(a_eval)[:, 1], atol=0.5)


def test_log_scale(browser, two):
    browser.open(two)
    browser.run("document.getElementById('log').click()")
    y = np.array(points(browser, 'loss')[0][0])[:, 1]
    steps = np.arange(5, 41, 5)
    fit = np.polyfit(np.log(steps), y, 1)
    np.testing.assert_allclose(np.polyval(fit, np.log(steps)), y, atol=0.1)


def test_values_under_the_mouse(browser, two):
    browser.open(two)
    box = browser.run(
        f'(({{x, y, width, height}}) => [x, y, width, height])'
        f"(({chart('loss')}.scrollIntoView(), {chart('loss')}.querySelector('svg').getBoundingClientRect()))"
    )
    x = points(browser, 'loss')[0][0][3][0]
    browser.move(box[0] + x + 2, box[1] + 60)
    assert tip(browser, 'loss') == ['step 20', 'a: train 0.05, eval 0.2', 'b: train 0.15, eval 0.6']
    browser.move(2, 2)
    assert tip(browser, 'loss') is None


def test_values_by_keys(browser, two):
    browser.open(two)
    browser.run(f"{chart('psnr')}.querySelector('svg').focus()")
    browser.key('ArrowRight')
    assert tip(browser, 'psnr') == ['step 20', 'a: eval 40', 'b: eval 40']
    browser.key('End')
    assert tip(browser, 'psnr')[0] == 'step 40'
    browser.key('ArrowRight')
    assert tip(browser, 'psnr')[0] == 'step 40'
    browser.key('Escape')
    assert tip(browser, 'psnr') is None
    browser.run(f"{chart('loss')}.querySelector('svg').focus()")
    browser.key('ArrowLeft')
    browser.key('ArrowLeft')
    # A curve without that step says which it has.
    assert tip(browser, 'loss')[:2] == ['step 35', 'a: train 0.028571, eval 0.4 (step 40)']


def test_a_run_that_ended_before_says_nothing(browser, tmp_path):
    short = record(tmp_path / 'short', [(1, 'train', {'loss': 2.0})])
    long = record(tmp_path / 'long', [(1, 'train', {'loss': 3.0}), (9, 'train', {'loss': float('nan')})])
    browser.open(write(tmp_path, short, long))
    browser.run(f"{chart('loss')}.querySelector('svg').focus()")
    browser.key('Home')
    assert tip(browser, 'loss') == ['step 1', 'short: train 2', 'long: train 3']
    browser.key('End')
    assert tip(browser, 'loss') == ['step 9', 'long: train not finite']


def test_smoothing(browser, two):
    browser.open(two)
    raw = points(browser, 'loss')
    browser.run(
        "(slider => { slider.value = 10; slider.dispatchEvent(new Event('input')); })"
        "(document.getElementById('smoothing'))"
    )
    assert points(browser, 'loss', '.faint') == [raw[0], raw[2]]
    # Weights that fall by e over a tenth of the 40 steps, normalised.
    values, keep, expected = 1 / np.arange(5, 41, 5), math.exp(-5 / 4), []
    for i in range(len(values)):
        weights = keep ** np.arange(i, -1, -1)
        expected.append(weights @ values[: i + 1] / weights.sum())
    pixel = np.polyfit(values, np.array(raw[0][0])[:, 1], 1)
    smoothed = np.array(points(browser, 'loss', '.curve:not(.faint, .other)')[0][0])[:, 1]
    np.testing.assert_allclose(smoothed, np.polyval(pixel, expected), atol=0.2)


def test_smoothing_of_a_thinned_curve_is_of_all_its_points(browser, tmp_path):
    log = [(step, 'train', {'loss': float(step % 50 == 0)}) for step in range(1, 5001)]
    browser.open(write(tmp_path, record(tmp_path / 'run', log)))
    browser.run(
        "(slider => { slider.value = 5; slider.dispatchEvent(new Event('input')); })"
        "(document.getElementById('smoothing'))"
    )
    raw = np.array(points(browser, 'loss', '.faint')[0][0])[:, 1]
    bottom, top = raw.max(), raw.min()
    smoothed = np.array(points(browser, 'loss', '.curve:not(.faint, .other)')[0][0])[-50:, 1]
    np.testing.assert_allclose((bottom - smoothed) / (bottom - top), 0.02, atol=0.01)


def test_runs_are_hidden_everywhere(browser, two):
    browser.open(two)
    lines = points(browser, 'loss')
    browser.run('document.querySelector(\'[data-toggle="1"]\').focus()')
    browser.key('Enter')
    assert (
        browser.run("document.querySelector('[data-toggle=\"1\"]').getAttribute('aria-pressed')") == 'false'
    )
    assert len(points(browser, 'loss')) == 2
    # The axis is now that of the run which is left.
    assert points(browser, 'loss')[0] != lines[0]
    shown = '[...document.querySelectorAll(\'[data-run="{}"]\')].map((x) => x.checkVisibility())'
    assert not any(browser.run(shown.format(1)))
    assert any(browser.run(shown.format(0)))
    browser.run('document.querySelector(\'[data-toggle="1"]\').click()')
    assert points(browser, 'loss') == lines


def visible(browser):
    return browser.run(
        "[...document.querySelectorAll('.images img')].filter((x) => x.checkVisibility()).map((x) => x.alt)"
    )


def test_images_step_together(browser, tmp_path):
    a = record(tmp_path / 'a', images=[(step, 'samples', image(step)) for step in (10, 20, 30)])
    b = record(tmp_path / 'b', images=[(step, 'samples', image(step)) for step in (20, 40)])
    browser.open(write(tmp_path, a, b))
    assert visible(browser) == ['samples of a, step 30', 'samples of b, step 40']
    browser.run("document.getElementById('step').focus()")
    seen = []
    for _ in range(3):
        browser.key('ArrowLeft')
        seen.append(visible(browser))
    assert seen == [
        ['samples of a, step 30', 'samples of b, step 20'],
        ['samples of a, step 20', 'samples of b, step 20'],
        ['samples of a, step 10'],
    ]
    captions = browser.run("[...document.querySelectorAll('.at')].map((x) => x.textContent)")
    assert captions == ['step 10', 'none before step 11']
    size = browser.run("(x => [x.naturalWidth, x.naturalHeight])(document.querySelector('.images img'))")
    assert size == [12, 8]


def test_each_recording_of_a_sound_has_a_button(browser, tmp_path):
    names = tuple(f'{kind} {i}' for i in (1, 2) for kind in ('originals', 'reconstructions'))
    sounds = [
        (step, 'samples_sound', Sound(np.stack([sound(4 * step + i) for i in range(4)]), 8000, names))
        for step in (1, 2)
    ]
    browser.open(write(tmp_path, record(tmp_path / 'run', sounds=sounds)))
    table = "[...document.querySelectorAll('.cues')].filter((x) => x.checkVisibility())"
    assert browser.run(f'{table}.map((x) => [x.dataset.step, [...x.rows].map((y) => y.innerText)])') == [
        ['2', ['originals\t▶ 1\t▶ 2', 'reconstructions\t▶ 1\t▶ 2']]
    ]
    button = f'{table}[0].querySelector(\'[aria-label="Play reconstructions 2"]\')'
    started = browser.run(f"""new Promise((done) => {{
      const audio = {table}[0].previousElementSibling;
      audio.addEventListener('seeked', () => done([audio.dataset.step, audio.currentTime]), {{ once: true }});
      {button}.click();
    }})""")
    assert started[0] == '2' and started[1] == pytest.approx(3 * (100 + 2000) / 8000, abs=0.1)
    browser.run("document.getElementById('step').focus()")
    browser.key('ArrowLeft')
    assert browser.run(f'{table}.map((x) => x.dataset.step)') == ['1']


def test_gaps_and_single_points(browser, tmp_path):
    values = [1.0, 2.0, float('nan'), 3.0, float('inf'), 1.0, -1.0]
    log = [(step, 'train', {'loss': value}) for step, value in enumerate(values, 1)]
    browser.open(write(tmp_path, record(tmp_path / 'run', log)))
    assert [len(part) for part in points(browser, 'loss')[0]] == [2, 1, 2]
    assert browser.run(f"{chart('loss')}.querySelectorAll('circle').length") == 1
    note = f"{chart('loss')}.querySelector('.note').textContent"
    assert browser.run(note) == 'train: 2 not finite, from step 3.'
    browser.run("document.getElementById('log').click()")
    assert browser.run(note) == 'train: 2 not finite, from step 3. Zero and below are left out.'
    assert [len(part) for part in points(browser, 'loss')[0]] == [2, 1, 1]


@pytest.mark.parametrize(
    'values',
    [(5e-324, 1e308), (-1.7e308, 1.7e308), (1.0, 1.0000000000000002), (0.0, 5e-324), (1e308, 1.1e308)],
)
def test_extremes_are_drawn(browser, tmp_path, values):
    """Ranges that overflow, and of one rounding: neither hangs the page."""
    log = [(step, 'train', {'loss': value}) for step, value in enumerate(values, 1)]
    browser.open(write(tmp_path, record(tmp_path / 'run', log)))
    for _ in range(2):
        y = [y for line in points(browser, 'loss') for part in line for _, y in part]
        assert y and all(0 < place < 200 for place in y)
        browser.run("document.getElementById('log').click()")


@pytest.mark.parametrize('value', [0.0, -3.0, 5e-324, 1e-30, 1e30, 1.7e308, float('nan')])
def test_constants(browser, tmp_path, value):
    log = [(step, 'train', {'loss': value}) for step in (1, 2)]
    browser.open(write(tmp_path, record(tmp_path / 'run', log)))
    for _ in range(2):
        y = [y for line in points(browser, 'loss') for part in line for _, y in part]
        assert len(y) == (0 if math.isnan(value) else 2)
        assert all(0 < place < 200 for place in y)
        assert (
            len(browser.run(f"[...{chart('loss')}.querySelectorAll('text')].map((x) => x.textContent)")) < 20
        )
        browser.run("document.getElementById('log').click()")


@pytest.mark.parametrize('dark', [False, True])
def test_a_phone(browser, two, dark):
    browser.open(two, width=360, height=700, dark=dark)
    assert browser.run('document.documentElement.scrollWidth') == 360
    paper, ink = browser.run('(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))')
    luminance = [sum(map(int, colour.strip('rgb()').split(', '))) for colour in (paper, ink)]
    assert (luminance[0] < luminance[1]) == dark
    assert abs(luminance[0] - luminance[1]) > 500


def test_names_are_text(browser, tmp_path):
    evil = '</script><img src=x onerror=alert(1)>'
    browser.open(write(tmp_path, record(tmp_path / 'run', [(1, 'train', {evil: 1.0})], task=evil)))
    assert browser.run("document.querySelector('.chart figcaption').textContent") == evil
    assert browser.run("document.querySelectorAll('img').length") == 0
