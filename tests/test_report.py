"""The command that makes a page of runs."""

import tomllib

import pytest

from tests.reporting.browser import Browser, find_browser
from tests.reporting.recorded import trained
from tests.runs import ROOT, refused, run
from vq_jax.tables import read_table
from vq_jax.tables.results import Results


def report(*arguments, status=0):
    return run(arguments, module='vq_jax.report', status=status)


def test_the_command(tmp_path):
    workdirs = [trained(tmp_path / name) for name in ('a', 'b <c>')]
    output = tmp_path / 'new' / 'report.html'
    printed, _ = report(*workdirs, '--output', output)
    assert printed == f'2 runs in {output}\n'
    page = output.read_text(encoding='utf-8')
    assert 'a, b &lt;c&gt;' in page
    assert (
        f'python -m vq_jax.report {workdirs[0]} &#x27;{tmp_path}/b &lt;c&gt;&#x27; --output {output}' in page
    )
    assert '1 × cpu (cpu)' in page


def test_nothing_in_a_run_directory_is_run(tmp_path):
    """Neither a table nor modules that are called as those which the command imports."""
    workdir = trained(tmp_path / 'run')
    names = ('table', 'absl', 'difflib', 'jax', 'json', 'msgspec', 'numpy', 'sitecustomize', 'torch')
    for name in names:
        (workdir / f'{name}.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
    output = tmp_path / 'report.html'
    run([workdir, '--output', output], module='vq_jax.report')
    run(['.', '--output', output], module='vq_jax.report', cwd=workdir)
    assert output.is_file() and not (tmp_path / 'ran').exists()
    (workdir / 'config.json').unlink()
    _, errors = report(workdir, '--output', output, status=2)
    assert f'{workdir} is no run, but holds a table.py, which is a program; if you trust it' in errors
    assert not (tmp_path / 'ran').exists()


def test_mistakes_are_one_sentence(tmp_path):
    workdir = trained(tmp_path / 'run')
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder.html').mkdir()
    mistakes = {
        (workdir,): '--output is missing',
        ('--output', tmp_path / 'x.html'): 'RUN is missing; name runs, or a folder',
        (tmp_path / 'none', '--output', tmp_path / 'x.html'): 'does not exist',
        (workdir, '--output', tmp_path / 'x.png'): 'x.png; give a name that ends in .html',
        (workdir, '--output', tmp_path / 'folder.html'): 'is a directory',
        (workdir, '--output', tmp_path / 'file' / 'x.html'): 'choose another --output',
        (workdir, '--output', tmp_path / 'x.html', '--max_images', 0): 'give 1 or more',
    }
    for errors, part in zip(refused('vq_jax.report', *mistakes), mistakes.values(), strict=True):
        assert errors.startswith('error: ')
        assert errors.count('\n') == 1
        assert part in errors
    assert not list(tmp_path.glob('x.*'))


def test_an_installed_package_has_the_parts_of_the_page():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    declared = project['tool']['setuptools']['package-data']['vq_jax.reporting']
    there = (ROOT / 'vq_jax' / 'reporting').iterdir()
    assert sorted(declared) == sorted(p.name for p in there if p.suffix not in ('.py', '') and p.is_file())


TABLE = """
from vq_jax.tables import Plot, Row, Table

def get_table():
    config, numbers = 'configs/image/quickstart.py', {'MSE': 'mse', 'use': 'codebook_usage'}
    rows = (
        Row('first', 'First', config, numbers, {}, {'MSE': '0.25'}, facts={'k': 1}),
        Row('second <x>', 'Second', config, numbers, {'seed': 1}, facts={'k': 2}),
        Row('third', 'Third', config, {'MSE': 'mse'}, {'seed': 2}, facts={'k': 3}),
    )
    return Table('Codes & use', 'Nobody 2000', rows, 'They <differ>.', (Plot('mse', 'k', 'MSE'),))
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Two rows were run, and the run of the first is there."""
    monkeypatch.chdir(ROOT)
    folder = tmp_path / 'codes'
    folder.mkdir()
    (folder / 'table.py').write_text(TABLE)
    table = read_table(folder)
    results = Results(folder, table)
    for row in table.rows[:2]:
        made = {'data': 'digits test', 'steps': 40, 'hardware': '2 cores', 'commit': 'abc'}
        results.save(row, {'metrics': {'mse': row.facts['k'] / 8, 'codebook_usage': 0.5}, **made})
    trained(tmp_path / 'runs' / 'first')
    return folder


@pytest.mark.skipif(find_browser() is None, reason='no Chromium on the PATH, and CHROME_BIN is not set')
def test_an_experiment_in_a_browser(experiment, tmp_path):
    output, other = tmp_path / 'report.html', trained(tmp_path / 'other', factor=2.0)
    printed, _ = report('--experiment', experiment, other, f'--workdir={tmp_path}/runs', '--output', output)
    assert printed == f'1 table and 2 runs in {output}\n'
    browser = Browser(tmp_path / 'profile')
    try:
        browser.open(output)
        rows = browser.run(
            "[...document.querySelectorAll('.experiment tr')].map("
            '(row) => [...row.children].map((cell) => cell.textContent))'
        )
        assert rows == [
            ['run', 'MSE, paper', 'MSE, ours', 'use, ours', 'data', 'steps', 'hardware', 'commit'],
            ['First', '0.25', '0.125', '0.5', 'digits test', '40', '2 cores', 'abc'],
            ['Second', '', '0.25', '0.5', 'digits test', '40', '2 cores', 'abc'],
            ['Third', '', 'not run', '', '', '', '', ''],
        ]
        # The run of the first row has its colour in the table, the curves and the legend.
        colours = browser.run(
            "['.experiment tbody .swatch', '.legend .swatch'].map((found) => "
            '[...document.querySelectorAll(found)].map((x) => getComputedStyle(x).backgroundColor))'
        )
        names = browser.run("[...document.querySelectorAll('.legend button')].map((x) => x.textContent)")
        assert names == ['other', 'first'] and colours[0] == colours[1][1:]
        assert browser.run("document.querySelectorAll('[data-name=loss] path.curve').length") == 4
        plot = browser.run(
            '(image => [image.alt, image.complete, image.naturalWidth > 100])'
            "(document.querySelector('.plots img'))"
        )
        assert plot == ['MSE against k', True, True]
        assert '--rows third' in browser.run("document.querySelector('.experiment details').textContent")
        assert (
            browser.run("document.querySelector('.experiment p').textContent")
            == 'Nobody 2000. They <differ>.'
        )
        sections = browser.run("[...document.querySelectorAll('h2')].map((x) => x.textContent)")
        assert sections == ['Images', 'Table', 'Runs', 'Config', 'Evaluation', 'Curves', 'Environment']
        images = browser.run("[...document.querySelectorAll('.images img')].map((x) => x.alt)")
        assert 'code_usage of first, step 40' in images
        assert 'JAX' in browser.run("document.getElementById('environment').parentElement.textContent")
        browser.open(output, width=360, height=700)
        assert browser.run('document.documentElement.scrollWidth') == 360
        assert browser.errors == []
        assert {request.partition(':')[0] for request in browser.requests} <= {'file', 'data'}
    finally:
        browser.close()


@pytest.mark.skipif(find_browser() is None, reason='no Chromium on the PATH, and CHROME_BIN is not set')
def test_an_experiment_without_runs(experiment, tmp_path):
    output = tmp_path / 'report.html'
    printed, _ = report('--experiment', experiment, f'--workdir={tmp_path}/none', '--output', output)
    assert printed.splitlines() == [
        f'1 table and 0 runs in {output}',
        f'{experiment}: no runs in {tmp_path}/none (--workdir), so no curves and images.',
    ]
    browser = Browser(tmp_path / 'profile')
    try:
        browser.open(output)
        assert browser.errors == []
        assert browser.run("document.querySelectorAll('.experiment tbody tr').length") == 3
        assert 'There is no run yet.' in browser.run('document.body.textContent')
    finally:
        browser.close()


def test_one_workdir_is_of_one_experiment(tmp_path):
    workdir = trained(tmp_path / 'run')
    _, errors = report(workdir, f'--workdir={tmp_path}', '--output', tmp_path / 'x.html', status=2)
    assert errors == ('error: --workdir is of one experiment, and 0 were named; name one, or leave it out.\n')
