"""A stand-in for the Hugging Face Hub on this machine: what huggingface_hub needs of its protocol here."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = 'hf_standin'
DATE = '2026-01-0{}T00:00:00.000Z'


class StandIn:
    """Repositories by 'OWNER/NAME', each a list of revisions, which are files by their names.

    Attributes:
        private: the names of those that only their owners see.
        repositories: what there is; a branch 'main' is the last revision, and others are numbers.
        asked: the method and path of every request.
        address: where it answers.
    """

    def __init__(self):
        self.repositories, self.private, self.asked, self.address = {}, set(), [], None

    def files(self, name, revision):
        revisions = self.repositories[name]
        return revisions[-1 if revision == 'main' else int(revision)]

    def get(self, parts, query):
        """The status and the content of an answer."""
        if parts[:1] == ['api'] and parts[1:2] != ['models']:  # such as what agents there are
            return 404, b'{}'
        if parts[0] != 'api':  # OWNER/NAME/resolve/REVISION/FILE
            name, revision, file = '/'.join(parts[:2]), parts[3], '/'.join(parts[4:])
            content = self.files(name, revision).get(file)
            return (404, b'') if content is None else (200, content)
        name, what, *rest = '/'.join(parts[2:4]), parts[4] if len(parts) > 4 else 'revision', *parts[5:]
        if name not in self.repositories:
            return 401, b'{"error": "Repository Not Found"}'
        if what == 'revision':
            return 200, json.dumps({'id': name, 'sha': '0' * 40, 'private': name in self.private}).encode()
        revision, below = rest[0], '/'.join(rest[1:])
        found = self.files(name, revision)
        inside = {file: x for file, x in found.items() if not below or file.startswith(f'{below}/')}
        if not inside:
            return 404, b'{"error": "Entry Not Found"}'
        if query.get('recursive') == ['false']:
            inside = {file: x for file, x in inside.items() if '/' not in file[len(below) :].strip('/')}
        return 200, json.dumps([self.entry(name, *item) for item in inside.items()]).encode()

    def entry(self, name, file, content):
        """What is said of a file."""
        date = DATE.format(self.written(name, file))
        return {
            'type': 'file',
            'path': file,
            'size': len(content),
            'oid': hashlib.sha1(content).hexdigest(),
            'lastCommit': {'id': '0' * 40, 'title': 'a commit', 'date': date},
        }

    def written(self, name, file):
        """The number of the revision, from 1, in which a file came to be what it is."""
        contents = [files.get(file) for files in self.repositories[name]]
        return 1 + next(i for i, x in enumerate(contents) if set(contents[i:]) == {contents[-1]})

    def post(self, parts, body):
        if parts == ['api', 'repos', 'create']:
            asked = json.loads(body)
            name = f'{asked["organization"]}/{asked["name"]}'
            if asked.get('visibility') == 'private' and name not in self.repositories:
                self.private.add(name)
            self.repositories.setdefault(name, [{'.gitattributes': b''}])
            return 200, {'url': f'{self.address}/{name}', 'name': name}
        if parts == ['api', 'validate-yaml']:
            return 200, {'errors': [], 'warnings': []}
        name, what = '/'.join(parts[2:4]), parts[4]
        if what == 'preupload':
            files = json.loads(body)['files']
            return 200, {
                'files': [{'path': x['path'], 'uploadMode': 'regular', 'shouldIgnore': False} for x in files]
            }
        if what == 'paths-info':
            there, paths = self.files(name, parts[5]), parse_qs(body.decode())['paths']
            return 200, [self.entry(name, file, there[file]) for file in paths if file in there]
        assert what == 'commit'
        files = dict(self.repositories[name][-1])
        for line in map(json.loads, body.splitlines()):
            value = line['value']
            if line['key'] == 'file':
                files[value['path']] = base64.b64decode(value['content'])
            elif line['key'] == 'deletedFile':
                del files[value['path']]
        self.repositories[name].append(files)
        return 200, {'success': True, 'commitOid': '0' * 40, 'commitUrl': f'{self.address}/{name}/commit/0'}


@contextlib.contextmanager
def served(hub):
    """The address at which the stand-in answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *_):
            pass

        def parts(self):
            hub.asked.append((self.command, self.path))
            return [unquote(part) for part in urlsplit(self.path).path.strip('/').split('/')]

        def answer(self, status, content, kind='application/json'):
            self.send_response(status)
            if status in (401, 404):
                code = {401: 'RepoNotFound', 404: 'EntryNotFound'}[status]
                self.send_header('X-Error-Code', code)
            self.send_header('Content-Type', kind)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            if self.command != 'HEAD':
                self.wfile.write(content)

        def do_GET(self):
            parts, query = self.parts(), parse_qs(urlsplit(self.path).query)
            # A folder in a name of the tree is one quoted part.
            self.answer(*hub.get([p for part in parts for p in part.split('/')], query))

        def do_POST(self):
            body = self.rfile.read(int(self.headers['Content-Length']))
            parts = self.parts()
            if self.headers.get('Authorization') != f'Bearer {TOKEN}':
                return self.answer(403, b'{"error": "Forbidden"}')
            status, made = hub.post(parts, body)
            return self.answer(status, json.dumps(made).encode())

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f'http://127.0.0.1:{server.server_address[1]}'
    try:
        yield hub.address
    finally:
        server.shutdown()
        server.server_close()
