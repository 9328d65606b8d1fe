"""The command that makes a page of runs."""

import tomllib

from tests.reporting.recorded import trained
from tests.runs import ROOT, run


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


def test_mistakes_are_one_sentence(tmp_path):
    workdir = trained(tmp_path / 'run')
    (tmp_path / 'file').write_text('')
    for arguments, part in {
        (workdir,): '--output is missing',
        ('--output', tmp_path / 'x.html'): 'RUN is missing',
        (tmp_path / 'none', '--output', tmp_path / 'x.html'): 'does not exist',
        (workdir, '--output', tmp_path): 'is a directory',
        (workdir, '--output', tmp_path / 'file' / 'x.html'): 'choose another --output',
        (workdir, '--output', tmp_path / 'x.html', '--max_pictures', 0): 'give 1 or more',
    }.items():
        printed, errors = report(*arguments, status=2)
        assert printed == ''
        assert errors.startswith('error: ')
        assert errors.count('\n') == 1
        assert part in errors
    assert not (tmp_path / 'x.html').exists()


def test_an_installed_package_has_the_parts_of_the_page():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    declared = project['tool']['setuptools']['package-data']['vq_jax.reporting']
    there = (ROOT / 'vq_jax' / 'reporting').iterdir()
    assert sorted(declared) == sorted(p.name for p in there if p.suffix not in ('.py', '') and p.is_file())
