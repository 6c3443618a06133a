// A hub repository id: fetched from a server that speaks the hub's API, opened from the cache afterwards, explained without either.

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { failsWith, inTemporaryFolder, storiesFolder } from './fixtures.js';

const commit = 'a'.repeat(40);
let server: Server;
let previous: string | undefined;
const fetched: string[] = [];

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = decodeURIComponent(request.url ?? '');
  const names = await readdir(storiesFolder);
  const entry = async (path: string): Promise<object> => ({
    type: 'file',
    path,
    oid: Buffer.from(path).toString('hex').padEnd(40, '0'),
    size: (await readFile(join(storiesFolder, path))).length,
    lastCommit: { id: 'b'.repeat(40), title: '', date: '2024-01-01T00:00:00.000Z' },
  });
  const json = (value: unknown): void =>
    void response.setHeader('content-type', 'application/json').end(JSON.stringify(value));
  const resolved = new RegExp(`^/me/stories/resolve/${commit}/(.+)$`).exec(url);
  if (url.startsWith('/api/models/me/stories/tree/')) json(await Promise.all(names.map(entry)));
  else if (url.startsWith('/api/models/me/stories/paths-info/')) {
    let body = '';
    for await (const chunk of request) body += chunk;
    json(await Promise.all((JSON.parse(body).paths as string[]).map(entry)));
  } else if (url.startsWith('/api/models/me/stories'))
    json({ _id: '1', id: 'me/stories', modelId: 'me/stories', sha: commit });
  else if (resolved !== null) {
    const bytes = await readFile(join(storiesFolder, resolved[1]!));
    const [start, end] = /bytes=(\d+)-(\d+)/
      .exec(request.headers.range ?? '')
      ?.slice(1)
      .map(Number) ?? [0, bytes.length - 1];
    if (request.headers.range !== 'bytes=0-0') fetched.push(resolved[1]!);
    const part = bytes.subarray(start, end! + 1);
    response.statusCode = request.headers.range === undefined ? 200 : 206;
    response.setHeader('etag', `"${resolved[1]}"`).setHeader('content-range', `bytes ${start}-${end}/${bytes.length}`);
    response.setHeader('content-length', part.length).end(part);
  } else response.writeHead(404).end('{}');
}

before(async () => {
  server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  previous = process.env.HF_ENDPOINT;
  process.env.HF_ENDPOINT = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  if (previous === undefined) delete process.env.HF_ENDPOINT;
  else process.env.HF_ENDPOINT = previous;
  server.close();
  server.closeAllConnections();
});

test('fetched into the cache, opened from there, explained when neither works', async () => {
  await inTemporaryFolder(async (cacheDir) => {
    const checkpoint = await openCheckpoint('me/stories', { cacheDir });
    assert.ok(checkpoint.path.endsWith(join('models--me--stories', 'snapshots', commit)), checkpoint.path);
    assert.equal((await checkpoint.tensors.read('model.norm.weight')).length, 64);
    await checkpoint.tensors.close();
    assert.ok(fetched.includes('model.safetensors') && !fetched.includes('README.md'), fetched.join());

    await assert.rejects(
      openCheckpoint('me/other', { cacheDir }),
      failsWith('hub-unreachable', 'me/other', 'HF_TOKEN'),
    );
    server.close();
    server.closeAllConnections();
    const offline = await openCheckpoint('me/stories', { cacheDir });
    assert.equal(offline.path, checkpoint.path);
    await offline.tensors.close();
    await assert.rejects(openCheckpoint('me/third', { cacheDir }), failsWith('hub-unreachable', 'me/third', 'network'));
  });
});
