"""What is run for which row and in which order, with commands that end at once."""

import csv
import importlib.util
import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.runs import ROOT
from vq_jax.errors import UserError
from vq_jax.files import WriteError
from vq_jax.tables import read_table, running
from vq_jax.tables import results as tables_results
from vq_jax.tables.processes import Slot, Workers
from vq_jax.tables.results import Results, last_evaluation, read_evaluation
from vq_jax.tables.writing import summarize, write_table
from vq_jax.tasks import complete_config
from vq_jax.training.config import to_json

ROWS = """
    Row('classifier', 'Classifier', 'configs/image/classifier.py', {'accuracy': 'loss'}),
    Row('tokenizer', 'Tokenizer', 'configs/image/quickstart.py', {'MSE': 'loss'}, {'seed': SEED},
        comparison=Comparison('classifier', 30)),
    Row('prior', 'Prior', 'configs/image/quickstart_prior.py',
        {'bits': 'loss', 'distance': 'samples.classifier_frechet', 'time': 'samples.seconds_per_sample'},
        {'tokenizer.workdir': '{tokenizer}'}, comparison=Comparison('classifier', 20, 'train')),
    Row('greedy', 'Greedy', '{prior}', {'bits': 'loss'}, {'sampling.temperature': 0.0}),
    Row('other', 'Other', 'configs/image/quickstart.py', {'MSE': 'loss'}, {'seed': 3}),
    Row('large', 'Large', 'configs/image/quickstart.py', {'MSE': 'loss'},
        comparison=Comparison('inception'), large=True),
"""


class Machine:
    """In place of processes: leaves what the commands leave, and notes what they were."""

    def __init__(self):
        self.commands, self.slots, self.broken = [], [], {}
        self.together = None  # a barrier that as many commands must reach at once

    def run(self, workers, arguments, slot, log, lock):
        module, flags = arguments[0], dict(flag[2:].partition('=')[::2] for flag in arguments[1:])
        name = Path(flags['workdir']).name
        self.commands.append(list(arguments))
        self.slots.append(slot)
        if self.together:
            self.together.wait()
        if name in self.broken:
            return self.broken[name]
        if module == 'vq_jax.train':
            workdir = Path(flags['workdir'])
            workdir.mkdir(parents=True, exist_ok=True)
            config = cli_config(flags.pop('config'), flags)
            (workdir / 'config.json').write_text(json.dumps(to_json(config)))
            steps = {5: 1 / 5, config.steps: 1 / 7}
            lines = [{'split': 'eval', 'step': step, 'loss': loss} for step, loss in steps.items()]
            (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
            return 0
        record = {'dataset': 'digits', 'split': 'test', 'step': 7, 'loss': 0.5}
        if 'video' in flags:
            copies, predictions = ({'metrics': {'psnr': psnr}, 'curves': {}} for psnr in (10.0, 11.0))
            frames = {'run': {'step': 7}, 'frames': [3, 4], 'copies': copies, 'predictions': predictions}
            record = {'dataset': 'digits', 'split': 'test', **frames}
        if 'features' in flags:
            samples = {'images': 20, 'seconds_per_sample': None, 'metrics': {'classifier_frechet': 1.25}}
            record = {
                'run': {'step': 7},
                'reference': {'dataset': 'digits', 'split': 'train', 'images': 9, 'content': '9 images'},
                'features': {'workdir': 'here', 'checksum': 'abc'},
                'samples': samples,
                'reconstructions': {
                    'images': 9,
                    'lpips': {'checksum': 'def', 'weights': {'/here/vgg.npz': '123'}},
                    'metrics': {'psnr': 12.0},
                },
            }
        output = Path(flags['output'])
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(record))
        return 0


def cli_config(path, flags):
    """What the command makes of its flags."""
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    changes = {key.removeprefix('config.'): value for key, value in flags.items() if key != 'workdir'}
    config.update_from_flattened_dict(
        {key: int(value) if value.isdigit() else value for key, value in changes.items()}
    )
    return complete_config(config)


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(Workers, 'run', lambda *arguments: machine.run(*arguments))
    monkeypatch.setattr(running, 'find_slots', lambda jobs: [Slot(f'slot {i}', {}) for i in range(jobs)])
    return machine


@pytest.fixture
def folder(write):
    return write(ROWS, before='SEED = 1')


def did(machine):
    """The commands as module and directory, since the last time this was asked."""
    done = [
        (c[0].removeprefix('vq_jax.'), Path(c[1 if 'evaluate' in c[0] else 2]).name) for c in machine.commands
    ]
    machine.commands.clear()
    return done


def results(folder):
    return json.loads((folder / 'results.json').read_text())


def test_a_named_row_is_run_after_all_that_it_builds_on(folder, machine, tmp_path):
    work = tmp_path / 'runs'
    running.run_rows(folder, work, ['greedy'])
    assert [arguments[:3] for arguments in machine.commands] == [
        ['vq_jax.train', '--config=configs/image/classifier.py', f'--workdir={work}/classifier'],
        ['vq_jax.train', '--config=configs/image/quickstart.py', f'--workdir={work}/tokenizer'],
        ['vq_jax.evaluate', f'--workdir={work}/tokenizer', f'--features={work}/classifier'],
        ['vq_jax.train', '--config=configs/image/quickstart_prior.py', f'--workdir={work}/prior'],
        ['vq_jax.evaluate', f'--workdir={work}/prior', '--split=train'],
        ['vq_jax.evaluate', f'--workdir={work}/prior', '--override=sampling.temperature=0.0'],
    ]
    assert machine.commands[3][3:] == [f'--config.tokenizer.workdir={work}/tokenizer']
    references = [machine.commands[i][-2].removeprefix('--reference=') for i in (2, 4)]
    assert len(set(references)) == 2 and {Path(file).parent for file in references} == {work / 'classifier'}
    assert machine.commands[4][3:5] == [f'--features={work}/classifier', '--num=20']
    assert machine.commands[5][3:] == [f'--output={work}/greedy/evaluation.json']
    seen = results(folder)
    assert seen['prior']['metrics'] == {
        'loss': 1 / 7,
        'samples.classifier_frechet': 1.25,
        'samples.seconds_per_sample': None,
        'reconstructions.psnr': 12.0,
    }
    assert seen['prior']['data'] == 'glyphs test' and seen['greedy']['metrics'] == {'loss': 0.5}
    assert seen['prior']['comparison'] == {
        'features': {'checksum': 'abc'},
        'reference': {'dataset': 'digits', 'split': 'train', 'images': 9, 'content': '9 images'},
        'lpips': 'def',
        'samples': 20,
        'reconstructions': 9,
    }
    assert '| Prior |  |  | 0.1429 | 1.25 | not measured |' in (folder / 'table.md').read_text()


def test_frames_are_measured_of_the_run_of_another_row(write, machine, tmp_path):
    folder = write("""
    Row('a', 'A', 'configs/image/quickstart.py', {'loss': 'loss'}),
    Row('next', 'Next', '{a}', {'PSNR': 'predictions.psnr', 'of copies': 'copies.psnr'},
        comparison=FrameByFrame((3,))),
    Row('between', 'Between', '{a}', {'PSNR': 'predictions.psnr'}, comparison=FrameByFrame((1, 1), 'train')),
    """)
    work = tmp_path / 'runs'
    running.run_rows(folder, work)
    assert machine.commands[1][2:-1] == ['--video', '--given=3']
    assert machine.commands[2][2:-1] == ['--split=train', '--video', '--given=1,1']
    assert results(folder)['next']['metrics'] == {'copies.psnr': 10.0, 'predictions.psnr': 11.0}
    assert '| Next |  | 11 | 10 | digits test | 7 |' in (folder / 'table.md').read_text()
    machine.commands.clear()
    running.run_rows(folder, work)
    assert not machine.commands


def test_rows_that_were_run_are_left_alone(folder, machine, tmp_path):
    work = tmp_path / 'runs'
    running.run_rows(folder, work)
    assert len(machine.commands) == 7
    machine.commands.clear()
    running.run_rows(folder, work)
    assert did(machine) == []
    running.run_rows(folder, work, ['large'])
    assert (
        machine.commands[-1][2:5]
        == [
            '--features=inception',
            '--num=2000',
            machine.commands[-1][4],
        ]
        and str(work / 'inception') in machine.commands[-1][4]
    )


def test_rows_that_were_run_are_run_again_where_that_is_asked_for(folder, machine, tmp_path, capsys):
    """And what they build on is made where it is not there, but not made again where it is."""
    work, fresh = tmp_path / 'runs', tmp_path / 'fresh'
    running.run_rows(folder, work)
    everything = did(machine)
    running.run_rows(folder, fresh)
    assert did(machine) == []
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'nothing to do: these rows were run, see {folder}/results.json; --rerun runs them again.'
    )
    running.run_rows(folder, fresh, rerun=True)
    assert did(machine) == everything
    running.run_rows(folder, fresh, ['prior'], rerun=True)
    assert did(machine) == [('train', 'prior'), ('evaluate', 'prior')]
    running.run_rows(folder, tmp_path / 'other', ['other'], rerun=True)
    assert did(machine) == [('train', 'other')]

    # What was seen is kept if it cannot be seen again.
    before, machine.broken = results(folder), {'other': 2}
    with pytest.raises(UserError, match='not run to the end: other'):
        running.run_rows(folder, work, ['other'], rerun=True)
    assert results(folder) == before
    with pytest.raises(UserError, match='--jobs is 0; give 1 or more'):
        running.run_rows(folder, work, jobs=0)


def test_a_run_that_is_not_there_is_made_again_where_another_row_needs_it(folder, machine, tmp_path):
    running.run_rows(folder, tmp_path / 'runs', ['tokenizer'])
    did(machine)
    running.run_rows(folder, tmp_path / 'elsewhere', ['tokenizer'])
    assert did(machine) == []
    running.run_rows(folder, tmp_path / 'elsewhere', ['prior'])
    again = [('train', 'classifier'), ('train', 'tokenizer'), ('evaluate', 'tokenizer')]
    assert did(machine) == [*again, ('train', 'prior'), ('evaluate', 'prior')]


def test_a_run_of_another_config_is_not_built_on(folder, machine, write, tmp_path):
    """It is in the directory since before the table was changed, and was run again elsewhere."""
    old, new = tmp_path / 'old', tmp_path / 'new'
    running.run_rows(folder, old, ['tokenizer'])
    write(ROWS, before='SEED = 2')
    running.run_rows(folder, new, ['prior'])
    before = results(folder)
    did(machine)
    (folder / 'results.json').write_text(json.dumps({k: v for k, v in before.items() if k != 'prior'}))
    words = rf'^{old}/tokenizer holds a run .* row tokenizer has, which differs in seed \(there 1, now 2\); '
    with pytest.raises(UserError, match=words + f'give another --workdir, or remove {old}/tokenizer.$'):
        running.run_rows(folder, old, ['prior'])
    assert did(machine) == [] and 'prior' not in results(folder)
    # Nor is a run whose own config is right, but not that of the one below it.
    (folder / 'results.json').write_text(json.dumps(before))
    shutil.copytree(new / 'prior', old / 'prior')
    with pytest.raises(UserError, match=words):
        running.run_rows(folder, old, ['greedy'])
    # Another name of the same directory changes nothing.
    (tmp_path / 'link').symlink_to(new)
    running.run_rows(folder, tmp_path / 'link', ['greedy'])
    assert did(machine) == [('evaluate', 'prior')]


def test_a_run_that_was_cut_short_is_no_whole_run(folder, machine, tmp_path):
    """Its log ends in the middle of a line; or it was killed before it wrote its config."""
    running.run_rows(folder, tmp_path / 'runs', ['classifier'])
    log = tmp_path / 'runs' / 'classifier' / 'metrics.jsonl'
    assert last_evaluation(log.parent)['metrics'] == {'loss': 1 / 7}
    log.write_text(log.read_text()[:-9])
    assert last_evaluation(log.parent) is None
    (log.parent / 'config.json').unlink()
    assert last_evaluation(log.parent) is None


def test_a_row_is_run_again_when_what_it_builds_on_has_changed(folder, machine, write, tmp_path):
    running.run_rows(folder, tmp_path / 'runs', ['greedy', 'other'])
    did(machine)
    write(ROWS, before='SEED = 2')
    running.run_rows(folder, tmp_path / 'others', ['greedy', 'other'])
    assert {name for _, name in did(machine)} == {'classifier', 'tokenizer', 'prior'}
    assert 'Other | 0.1429' in (folder / 'table.md').read_text().replace(' |  |', ' |')


def test_a_failure_stays_with_those_that_build_on_it(folder, machine, tmp_path):
    machine.broken = {'tokenizer': 2}
    words = (
        r'^not run to the end: tokenizer \(vq_jax.train ended with status 2\); '
        r'prior \(it builds on tokenizer\); greedy \(it builds on prior\)\. '
        r'Mend it, and the same command goes on\.$'
    )
    with pytest.raises(UserError, match=words):
        running.run_rows(folder, tmp_path / 'runs')
    assert results(folder).keys() == {'classifier', 'other'}
    machine.broken.clear()
    did(machine)
    running.run_rows(folder, tmp_path / 'runs')
    assert ('train', 'classifier') not in did(machine)
    assert results(folder).keys() == {'classifier', 'tokenizer', 'prior', 'greedy', 'other'}


def test_results_that_a_full_disk_refuses_are_kept_for_later(folder, machine, tmp_path, monkeypatch):
    """And the other rows are run."""
    write, tried = tables_results.write_atomically, []

    def full_at_first(path, content):
        tried.append(path)
        if len(tried) == 1:
            raise WriteError(f'Cannot write {path} (No space left on device).')
        write(path, content)

    monkeypatch.setattr(tables_results, 'write_atomically', full_at_first)
    with pytest.raises(UserError, match=r'not run to the end: classifier \(Cannot write .*No space left'):
        running.run_rows(folder, tmp_path / 'runs', ['other', 'classifier'])
    assert set(results(folder)) == {'other', 'classifier'}
    assert '| not run |' not in (folder / 'table.md').read_text().partition('| Other |')[2].splitlines()[0]


def test_two_at_once(folder, machine, tmp_path):
    """The classifier and the other run need nothing; neither ends before both have begun."""
    machine.together = threading.Barrier(2)
    work = tmp_path / 'runs'
    running.run_rows(folder, work, ['classifier', 'other'], jobs=2)
    assert {slot.hardware for slot in machine.slots} == {'slot 0', 'slot 1'}
    seen = results(folder)
    assert {seen[name]['hardware'] for name in ('classifier', 'other')} == {'slot 0', 'slot 1'}
    machine.together = None
    did(machine)
    running.run_rows(folder, work, jobs=2)
    done = did(machine)
    assert done.index(('evaluate', 'tokenizer')) < done.index(('train', 'prior'))
    assert len(results(folder)) == 5


def test_two_experiments_at_once_keep_what_each_saw(folder, machine, tmp_path):
    table = read_table(folder)
    classifier, other = (row for row in table.rows if row.name in ('classifier', 'other'))
    first, second = Results(folder, table), Results(folder, table)
    seen = {'metrics': {}, 'data': 'digits test', 'steps': 7, 'hardware': '2 cores', 'commit': 'abc'}
    first.save(classifier, seen)
    second.save(other, seen)
    assert results(folder).keys() == {'classifier', 'other'} and second.of(classifier) is not None


OWN = """
from vq_jax.tasks import default_config

def get_config(version='old'):
    config = default_config('vqvae')
    if version == 'old':  # without a key that later versions have
        with config.optimizer.unlocked():
            del config.optimizer.ema_decay
    if version == 'other value':
        config.optimizer.ema_decay = 0.5
    if version == 'other default':
        config.optimizer.b1 = 0.8
    return config
"""


def read_own(write, version, overrides='{}'):
    rows = f"""
        Row('a', 'A', 'own.py:{version}', {{}}, {overrides}),
        Row('b', 'B', '{{a}}', {{}}, {{'batch_size': 2}}, comparison=Comparison('a', 5)),
    """
    folder = write(rows)
    (folder / 'own.py').write_text(OWN)
    return folder, read_table(folder)


@pytest.mark.parametrize(
    ('before', 'now', 'overrides', 'counted'),
    [
        ('old', 'new', '{}', True),
        ('new', 'new', '{}', True),
        ('old', 'other value', '{}', False),
        ('old', 'other default', '{}', False),
        ('new', 'other default', '{}', False),
        ('new', 'old', '{}', False),
        ('old', 'new', "{'seed': 1}", False),
        ('old', 'new', "{'optimizer.ema_decay': 0.5}", False),
    ],
)
def test_results_outlive_new_keys_of_their_configs(write, before, now, overrides, counted):
    """Where these have their defaults; other changes are other rows, and so are all that build on them."""
    seen = {'metrics': {}, 'data': 'digits test', 'steps': 7, 'hardware': '2 cores', 'commit': 'abc'}
    folder, table = read_own(write, before)
    for row in table.rows:
        Results(folder, table).save(row, seen)
    kept = {path.name: path.read_text() for path in folder.glob('*.json')}
    folder, table = read_own(write, now, overrides)
    results = Results(folder, table)
    assert [results.of(row) is not None for row in table.rows] == [counted, counted]
    results.keep_configs()
    assert {path.name: path.read_text() for path in folder.glob('*.json')} == kept
    # Of results without their configs, only the fingerprint is known.
    (folder / 'configs.json').unlink()
    assert (Results(folder, table).of(table.rows[1]) is not None) == (before == now)
    write_table(folder)
    assert (folder / 'configs.json').exists() == (before == now)


def test_a_run_of_before_a_new_key_is_built_on(folder, machine, tmp_path):
    work = tmp_path / 'runs'
    running.run_rows(folder, work, ['tokenizer'])
    path = work / 'tokenizer' / 'config.json'
    config = json.loads(path.read_text())
    del config['optimizer']['ema_decay']
    path.write_text(json.dumps(config))
    running.run_rows(folder, work, ['prior'])
    assert results(folder).keys() == {'classifier', 'tokenizer', 'prior'}


def test_configs_of_other_types(write):
    folder, table = read_own(write, 'new')
    (folder / 'configs.json').write_text('{"abc": {"config": 3, "overrides": {}}}')
    with pytest.raises(UserError, match=r'configs\.json does not hold what it should .*; restore it'):
        Results(folder, table)


def test_a_column_that_was_renamed_after_its_row_was_run(write, machine, tmp_path):
    row = "Row('a', 'A', 'configs/image/quickstart.py', {'MSE': '%s'}),"
    running.run_rows(write(row % 'loss'), tmp_path / 'runs')
    folder = write(row % 'los')
    with pytest.raises(UserError, match="table asks for 'los', and there is loss"):
        summarize(folder)
    (folder / 'results.json').write_text('{"a": ')
    with pytest.raises(UserError, match=r'results\.json is not valid JSON .*; restore it'):
        summarize(folder)


def test_a_number_that_is_not_there(write, machine, tmp_path):
    folder = write("Row('a', 'A', 'configs/image/quickstart.py', {'MSE': 'mean_square'}),")
    with pytest.raises(UserError, match=r"a \(its table asks for 'mean_square', and there is loss\)"):
        running.run_rows(folder, tmp_path / 'runs')


def test_a_commit_whose_code_was_changed_is_called_dirty(write, machine, tmp_path, monkeypatch):
    folder = write("Row('a', 'A', 'configs/image/quickstart.py', {'MSE': 'loss'}),")
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'code.py').write_text('x = 1')
    (folder / 'table.md').write_text('Written anew before the first row.')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, '__file__', str(tmp_path / 'code.py'))  # the package's own repository counts
    for name in ('GIT_AUTHOR', 'GIT_COMMITTER'):
        monkeypatch.setenv(f'{name}_NAME', 'Nobody')
        monkeypatch.setenv(f'{name}_EMAIL', 'nobody@example.com')
    git = ['git', '-c', 'init.defaultBranch=main']
    for command in (['init', '-q'], ['add', 'code.py', 'experiment'], ['commit', '-qm', 'One']):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout.strip()
    running.run_rows(folder, tmp_path / 'runs')
    assert len(head) == 40 and results(folder)['a']['commit'] == head
    assert f'| {head[:7]} |' in (folder / 'table.md').read_text()
    (folder / 'results.json').unlink()
    (tmp_path / 'code.py').write_text('x = 2')
    running.run_rows(folder, tmp_path / 'again')
    assert results(folder)['a']['commit'] == f'{head}-dirty'
    assert f'| {head[:7]}-dirty |' in (folder / 'table.md').read_text()


@pytest.mark.parametrize(
    'change', [{'metrics': {'loss': 'low'}}, {'commit': None}, {'steps': '5'}, {'data': ['a']}], ids=str
)
def test_results_of_other_types(change, write, machine, tmp_path):
    folder = write("Row('a', 'A', 'configs/image/quickstart.py', {'MSE': 'loss'}),")
    running.run_rows(folder, tmp_path / 'runs')
    seen = results(folder)
    seen['a'] |= change
    (folder / 'results.json').write_text(json.dumps(seen))
    with pytest.raises(UserError, match=r'results\.json does not hold what it should'):
        summarize(folder)


@pytest.mark.parametrize(
    'content',
    [
        '[]',
        '{"dataset": 3}',
        '{"reference": 3}',
        '{"reference": {}, "samples": {"metrics": []}}',
        '{"dataset": "a", "split": "b", "run": {"step": 1}, "frames": [], "copies": []}',
    ],
)
def test_an_evaluation_of_other_types(content, tmp_path):
    path = tmp_path / 'evaluation.json'
    path.write_text(content)
    with pytest.raises(UserError, match=r'evaluation\.json .*; remove it, and run the row again'):
        read_evaluation(path)


def test_what_was_seen_is_text_in_every_file(write, machine, tmp_path):
    folder = write("Row('a', 'A', 'configs/image/quickstart.py', {'MSE': 'loss'}),")
    running.run_rows(folder, tmp_path / 'runs')
    seen = results(folder)
    evil = '-1+cmd|"/C calc"!A0 <img src=x> ![x](http://127.0.0.1:9/)'
    seen['a'] |= {'data': evil, 'hardware': '=HYPERLINK("http://127.0.0.1:9/")', 'metrics': {'loss': -0.5}}
    (folder / 'results.json').write_text(json.dumps(seen))
    write_table(folder)
    with (folder / 'table.csv').open(newline='') as file:
        cells = list(csv.reader(file))[1]
    assert cells[1:3] == ['-0.5', f"'{evil}"] and cells[4].startswith("'=HYPERLINK")
    row = (folder / 'table.md').read_text().splitlines()[-1]
    assert '<img' not in row and '![x]' not in row and row.count(' | ') == len(cells) - 1
