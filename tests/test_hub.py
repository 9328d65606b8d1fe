"""Weights and runs on the Hugging Face Hub, of which a stand-in is on this machine."""

import json

import jax
import numpy as np
import pytest

import vq_jax
from tests.hub import TOKEN, StandIn, served
from tests.initialised import initialised
from tests.test_sealed import small_config
from tests.weights.models import random_weights
from vq_jax.buckets import address_of, copy_of
from vq_jax.errors import UserError
from vq_jax.hub import upload
from vq_jax.spec import Spec
from vq_jax.tasks import complete_config, conversion, make_task
from vq_jax.tasks.conversion import convert
from vq_jax.tasks.restore import write_for_inference
from vq_jax.training.mirror import Mirror
from vq_jax.training.run_dir import DataFacts
from vq_jax.training.state import abstract_batch
from vq_jax.weights import write_pytorch


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, which huggingface_hub takes for the Hub; who uses it is logged in."""
    constants = pytest.importorskip('huggingface_hub.constants', reason="pip install 'vq_jax[hub]'")
    standin = StandIn()
    with served(standin) as address:
        monkeypatch.setattr(constants, 'ENDPOINT', address)
        template = '/{repo_id}/resolve/{revision}/{filename}'
        monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', address + template)
        monkeypatch.setenv('HF_TOKEN', TOKEN)
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
        yield standin


LOG = [
    {'step': 2, 'split': 'eval', 'psnr': 11.25},
    {'step': 4, 'split': 'train', 'psnr': 99.5},
    {'step': 4, 'split': 'eval', 'psnr': 12.75, 'dead_codes': 3.0},
]


def written(workdir, step, origin=None):
    """A run of random weights, which is what inference needs of one."""
    config = complete_config(small_config())
    spec = Spec('image', (8, 8, 1))
    task = make_task(config, spec, 10)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_batch(1, spec))
    state = initialised(task.init, jax.random.key(step), batch)
    write_for_inference(workdir, config, DataFacts(spec, 10, origin=origin), step, state.for_inference())
    (workdir / 'metrics.jsonl').write_text(''.join(f'{json.dumps(line)}\n' for line in LOG))
    return workdir


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return written(tmp_path_factory.mktemp('runs') / 'run', 4)


@pytest.fixture(scope='module')
def taming(tmp_path_factory):
    """The content of a file of taming-transformers."""
    path = tmp_path_factory.mktemp('taming') / 'last.ckpt'
    write_pytorch(path, {'state_dict': random_weights('taming')})
    return path.read_bytes()


def test_weights_are_converted_from_the_hub(hub, taming):
    hub.repositories['owner/vqgan'] = [{'weights/last.ckpt': taming, 'weights/model.py': b'raise SystemExit'}]
    made = convert('hf://owner/vqgan/weights')
    assert made.facts.origin['file'] == 'hf://owner/vqgan/weights/last.ckpt'
    assert made.facts.origin['project'] == 'taming'
    (path,) = [path for _, path in hub.asked if '/resolve/' in path]
    assert path == '/owner/vqgan/resolve/main/weights/last.ckpt'  # and nothing else


@pytest.fixture
def found(monkeypatch):
    """What `convert` would read."""
    monkeypatch.setattr(conversion, '_convert', lambda source, *_: source)
    return convert


@pytest.mark.parametrize(
    'address, told',
    [
        ('hf://owner/vqgan/weights/last.ckpt', 'hf://owner/vqgan/weights/last.ckpt'),
        ('hf://owner/vqgan@0/weights', 'hf://owner/vqgan@0/weights/last.ckpt'),
        ('hf://owner/vqgan/weights@0', 'hf://owner/vqgan@0/weights/last.ckpt'),
        ('hf://owner/vqgan/weights/last.ckpt@0', 'hf://owner/vqgan@0/weights/last.ckpt'),
        ('hf://owner/vqgan', 'hf://owner/vqgan/model.safetensors'),
    ],
)
def test_what_an_address_names(hub, found, address, told):
    hub.repositories['owner/vqgan'] = [
        {'weights/last.ckpt': b'before'},
        {'weights/last.ckpt': b'now', 'model.safetensors': b'1', 'model.bin': b'2', 'config.json': b'{}'},
    ]
    path = found(address)
    assert address_of(path) == told
    if path.name == 'last.ckpt':
        assert path.read_bytes() == (b'before' if '@' in address else b'now')
    else:
        assert sorted(other.name for other in path.parent.iterdir()) == ['config.json', 'model.safetensors']
    hub.asked.clear()
    assert found(address) == path
    assert not [path for _, path in hub.asked if '/resolve/' in path]  # what is there


def test_a_file_without_an_ending_has_an_address_too(hub, found):
    hub.repositories['owner/maskgit'] = [
        {'checkpoint': b'1', 'folder/checkpoint': b'2', 'config.json': b'{}'}
    ]
    for name in 'checkpoint', 'folder/checkpoint':
        path = found(f'hf://owner/maskgit/{name}')
        assert address_of(path) == f'hf://owner/maskgit/{name}'
        assert path.read_bytes() == hub.repositories['owner/maskgit'][0][name]
    with pytest.raises(UserError, match='there is no file hf://owner/maskgit/none; check its name'):
        found('hf://owner/maskgit/none')


@pytest.mark.parametrize(
    'address, told',
    [
        ('hf://datasets/owner/tfds', 'hf://datasets/owner/tfds'),
        ('hf://datasets/owner/tfds@0', 'hf://datasets/owner/tfds@0'),
        ('hf://datasets/owner/tfds/mnist@0', 'hf://datasets/owner/tfds@0/mnist'),
    ],
)
def test_addresses_of_repositories_of_data(address, told):
    assert address_of(copy_of(address)) == told
    with pytest.raises(UserError, match='is no address on the Hugging Face Hub'):
        copy_of('hf://datasets/owner')


def test_what_is_not_on_the_hub(hub):
    hub.repositories['owner/vqgan'] = [{'a.ckpt': b'1', 'b.ckpt': b'2'}]
    mistakes = {
        'hf://owner/vqgan': 'hf://owner/vqgan has several files of weights, a.ckpt, b.ckpt; name the file',
        'hf://owner/vqgan/c.ckpt': 'there is no file hf://owner/vqgan/c.ckpt',
        'hf://owner/none': 'hf://owner/none has no file of weights',
        'hf://owner': "'hf://owner' is no address on the Hugging Face Hub; write it as hf://OWNER/NAME",
        'hf://owner/../x': 'is no address on the Hugging Face Hub',
        'hf://spaces/owner/name': 'is no address on the Hugging Face Hub',
    }
    for address, words in mistakes.items():
        with pytest.raises(UserError) as caught:
            convert(address)
        assert words in str(caught.value)
    with pytest.raises(UserError, match='hf://owner/none does not exist'):
        vq_jax.load('hf://owner/none')
    with pytest.raises(UserError, match=r'^hf://owner/run is read, and not trained in; .* --upload hf://'):
        Mirror('hf://owner/run')


def test_no_name_on_the_hub_leads_out_of_the_copy(hub, found, tmp_path):
    escaping = ('../last.ckpt', '/last.ckpt', 'a/../../last.ckpt', './last.ckpt', 'a\n/last.ckpt')
    hub.repositories['owner/vqgan'] = [{**dict.fromkeys(escaping, b'bad'), 'last.ckpt': b'good'}]
    found('hf://owner/vqgan')
    files = [path for path in (tmp_path / 'cache').rglob('*') if path.is_file()]
    assert files == [copy_of('hf://owner/vqgan') / 'last.ckpt']
    assert address_of(files[0]) == 'hf://owner/vqgan/last.ckpt'


def test_a_run_that_was_uploaded_opens(hub, trained, tmp_path):
    evaluation = tmp_path / 'evaluation.json'
    checksum = vq_jax.load(trained)._restored.identity()['checksum']
    record = {'split': 'test[:16]', 'step': 4, 'run': {'checksum': checksum}, 'psnr': 12.5}
    evaluation.write_text(json.dumps(record))
    url = upload(trained, 'hf://owner/digits', evaluations=[evaluation])
    assert url.endswith('/owner/digits')
    opened, here = vq_jax.load('hf://owner/digits'), vq_jax.load(trained)
    same = (opened.state.eval_variables(), here.state.eval_variables())
    jax.tree.map(np.testing.assert_array_equal, *same)
    assert opened.step == here.step == 4 and opened.name == 'digits'
    assert opened._restored.identity()['workdir'] == 'hf://owner/digits'
    _, files = hub.repositories['owner/digits']
    assert {name.partition('/')[0] for name in files} == {
        *('.gitattributes', 'README.md', 'checkpoints', 'config.json', 'data.json', 'metrics.jsonl')
    }

    card = files['README.md'].decode()
    _, front, text = card.split('---\n', 2)
    yaml = pytest.importorskip('yaml')
    assert yaml.safe_load(front) == {'library_name': 'vq_jax', 'tags': ['jax', here.config.task, 'image']}
    log, _, evaluation = text.partition('## Evaluation of test[:16]')
    assert '| psnr | 12.5 |' in evaluation
    assert '| psnr | 12.75 |' in log and '| dead_codes | 3 |' in log
    assert '99.5' not in text and '11.25' not in text
    assert f'vq_jax {vq_jax.__version__}, jax {jax.__version__}' in text and checksum in text
    assert "run = vq_jax.load('hf://owner/digits')" in text and '| steps | 4 of 4 |' in text


def test_what_is_uploaded_takes_the_place_of_what_was_there(hub, trained, tmp_path):
    upload(trained, 'hf://owner/digits')
    before = vq_jax.load('hf://owner/digits')
    upload(written(tmp_path / 'run', 2), 'hf://owner/digits')
    now = vq_jax.load('hf://owner/digits')
    assert (before.step, now.step) == (4, 2)
    assert before._restored.identity()['checksum'] != now._restored.identity()['checksum']
    assert vq_jax.load('hf://owner/digits@1').step == 4
    upload('hf://owner/digits', 'hf://owner/copy')
    copied, files = hub.repositories['owner/copy'][-1], hub.repositories['owner/digits'][-1]
    assert copied['metrics.jsonl'] == files['metrics.jsonl'] and b'| psnr | 11.25 |' in copied['README.md']


def test_a_private_run_goes_to_no_repository_that_others_see(hub, trained):
    upload(trained, 'hf://owner/secret', private=True)
    upload(trained, 'hf://owner/secret', private=True)
    assert hub.private == {'owner/secret'} and len(hub.repositories['owner/secret']) == 3
    hub.repositories['owner/shown'] = [{'.gitattributes': b''}]
    with pytest.raises(
        UserError, match=r'^hf://owner/shown is there already, and others see it; name another'
    ):
        upload(trained, 'hf://owner/shown', private=True)
    assert hub.repositories['owner/shown'] == [{'.gitattributes': b''}]


def test_the_card_of_converted_weights_has_no_number_of_others(hub, tmp_path):
    origin = {'project': 'dit', 'model': 'DiT-XL/2', 'source': 'https://there', 'licence': 'CC BY-NC 4.0'}
    origin |= {'file': 'a|<b>`![](c).pt', 'sha256': '12ab', 'facts': {'FID': '2.27'}}
    upload(written(tmp_path / 'run', 0, origin), 'hf://owner/dit')
    card = hub.repositories['owner/dit'][-1]['README.md'].decode()
    assert 'license' not in card.split('---')[1]  # the licence is that of their code
    assert 'under CC BY-NC 4.0;' in card and '2.27' not in card and '12ab' in card
    assert 'converted from a&#124;&lt;b>![]&#40;c).pt of a model of dit' in card


def test_mistakes_in_uploading(hub, trained, tmp_path, monkeypatch):
    other = tmp_path / 'other.json'
    other.write_text(json.dumps({'run': {'checksum': 'another'}, 'psnr': 50.0}))
    with pytest.raises(UserError, match='is no evaluation of these weights; evaluate'):
        upload(trained, 'hf://owner/digits', evaluations=[other])
    for address in ('hf://owner/digits/folder', 'hf://owner/digits@1', 'hf://owner', 'gs://bucket/run'):
        with pytest.raises(UserError, match=r'hf://OWNER/NAME'):
            upload(trained, address)
    assert not hub.repositories
    monkeypatch.setenv('HF_TOKEN', 'hf_another')
    with pytest.raises(UserError, match=r'^hf://owner/digits cannot be written .*logged in \(as by hf auth'):
        upload(trained, 'hf://owner/digits')
    assert not hub.repositories
