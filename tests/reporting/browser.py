"""A headless Chromium, told what to do over a pipe (Chrome DevTools Protocol), where one is installed."""

import base64
import json
import os
import shutil
import subprocess

NAMES = ('chromium', 'chromium-headless-shell', 'chromium-browser', 'google-chrome', 'chrome')


def find_browser():
    """The path of CHROME_BIN or of a Chromium on the PATH, None if there is none."""
    return os.environ.get('CHROME_BIN') or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in a browser; every connection that it asks for is recorded in `requests`."""

    def __init__(self, folder):
        # It reads commands from descriptor 3 and writes answers to descriptor 4.
        (read_command, self._to), (self._from, write_answer) = os.pipe(), os.pipe()
        arguments = [find_browser(), '--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe']
        self._process = subprocess.Popen(
            [
                'bash',  # sh knows descriptors of one digit only
                '-c',
                f'exec "$0" "$@" 3<&{read_command} 4>&{write_answer}',
                *arguments,
                f'--user-data-dir={folder}',
            ],
            pass_fds=(read_command, write_answer),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_command)
        os.close(write_answer)
        self._number, self._rest, self._session = 0, b'', None
        self.requests, self.errors = [], []
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Network', 'Runtime', 'Log'):
            self.call(f'{domain}.enable')

    def call(self, method, **params):
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._to, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._read()
            if answer.get('id') == self._number:
                assert 'error' not in answer, answer
                return answer['result']

    def _read(self):
        while b'\0' not in self._rest:
            part = os.read(self._from, 1 << 16)
            assert part, 'the browser has ended'
            self._rest += part
        text, _, self._rest = self._rest.partition(b'\0')
        message = json.loads(text)
        match message.get('method'):
            case 'Network.requestWillBeSent':
                self.requests.append(message['params']['request']['url'])
            case 'Runtime.exceptionThrown':
                self.errors.append(message['params']['exceptionDetails'])
            case 'Log.entryAdded':
                self.errors.append(message['params']['entry'])
        return message

    def open(self, path, *, width=1280, height=900, dark=False):
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.call('Emulation.setEmulatedMedia', features=[scheme])
        self.call('Page.navigate', url=path.absolute().as_uri())
        self.settle()

    def settle(self):
        """Waits until the page is loaded and what changed is drawn."""
        self.run("""new Promise((done) => {
          const drawn = () => requestAnimationFrame(() => requestAnimationFrame(done));
          document.readyState === 'complete' ? drawn() : addEventListener('load', drawn);
        }).then(() => true)""")

    def run(self, expression):
        """The value of an expression of JavaScript in the page; promises are waited for."""
        result = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def key(self, key):
        text = {'text': '\r'} if key == 'Enter' else {}
        self.call('Input.dispatchKeyEvent', type='keyDown', key=key, code=key, **text)
        self.call('Input.dispatchKeyEvent', type='keyUp', key=key, code=key)
        self.settle()

    def move(self, x, y):
        self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)
        self.settle()

    def image(self, path):
        """Writes a PNG of the whole page."""
        size = self.call('Page.getLayoutMetrics')['cssContentSize']
        clip = {'x': 0, 'y': 0, 'width': size['width'], 'height': size['height'], 'scale': 1}
        png = self.call('Page.captureScreenshot', clip=clip, captureBeyondViewport=True)['data']
        path.write_bytes(base64.b64decode(png))

    def close(self):
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait()
