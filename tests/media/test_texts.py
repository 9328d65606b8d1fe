import numpy as np

from vq_jax.media import Texts, show
from vq_jax.spec import Spec, Tokens


def test_texts_stand_below_what_they_are():
    spec = Spec('text', (4,), tokens=Tokens('bytes'))
    batches = {
        'originals': np.array([[97, 98, -1, -1], [99, 10, 100, -1]]),
        'samples': np.array([[27, 91, -1, -1], [-1, -1, -1, -1]]),
    }
    shown = show('samples', batches, spec)
    assert list(shown) == ['samples']
    assert shown['samples'].files('x') == {
        'x.txt': b'--- originals 1 ---\nab\n\n--- originals 2 ---\nc\nd\n\n'
        b'--- samples 1 ---\n\\x1b[\n\n--- samples 2 ---\n\n'
    }
    named = shown['samples'].of_columns(['one', 'two'])
    assert '--- originals 2, two ---' in named.joined()
    assert named.of_columns(['no', 'no']) == named
    assert shown['samples'].of_columns(['one']) == shown['samples']


def test_names_are_on_one_line_and_no_terminal_obeys_them():
    texts = Texts((('a\x1b[2J', ('x\ny',)),), ('b\nc\x1b]0;d\x07',))
    assert texts.joined() == '--- a\\x1b[2J 1, b\\nc\\x1b]0;d\\x07 ---\nx\ny\n'


def test_tokens_of_which_no_text_is_known_are_not_shown():
    assert show('samples', {'samples': np.zeros((1, 4), np.int32)}, Spec('text', (4,))) == {}


def test_a_log_keeps_them_as_one_text():
    class Log(dict):
        def text(self, step, name, text):
            self[step, name] = text

    log, texts = Log(), Texts((('samples', ('a',)),))
    texts.log(log, 3, 'samples')
    assert log == {(3, 'samples'): '--- samples 1 ---\na\n'}
