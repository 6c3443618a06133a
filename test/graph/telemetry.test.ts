// The runtime must not report to its vendor. With reporting on it keeps a device id and an event store in the home folder
// (the control, which must show them); through our runtime layer nothing may appear.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../owner/tiny-model.js';

const runtime = resolve('dist/src/graph');
const nowhere = 'http://127.0.0.1:9';

/** Runs a module in a process with an empty home; the files it left there and in its temporary folder. */
async function leftBehind(t: Parameters<typeof temporaryFolder>[0], source: string): Promise<string[]> {
  const home = await temporaryFolder(t);
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    encoding: 'utf8',
    // Only what it needs: a CI variable would suppress the reporting by itself. The control's reports end at a closed port.
    env: { PATH: process.env.PATH, HOME: home, TMPDIR: home, https_proxy: nowhere, HTTPS_PROXY: nowhere },
  });
  assert.equal(run.status, 0, run.stderr);
  return readdirSync(home, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(home.length + 1));
}

const graph = `
  const { Graph } = await import(${JSON.stringify(`${runtime}/graph.js`)});
  const { encodeModel } = await import(${JSON.stringify(`${runtime}/onnx.js`)});
  const graph = new Graph();
  const x = graph.input('x', 'float32', [2]);
  graph.output('y', graph.emitOne('Neg', [x], { shape: [2] }));
  const model = encodeModel(graph);
`;

test('a session through our runtime layer leaves nothing behind', async (t) => {
  const files = await leftBehind(
    t,
    `${graph}
    const { Session } = await import(${JSON.stringify(`${runtime}/runtime.js`)});
    const session = await Session.open(model);
    await session.run({ x: { data: Float32Array.of(1, 2), shape: [2] } });
    await session.close();`,
  );
  assert.deepEqual(files, []);
});

test('control: the bare runtime keeps a device id', { skip: process.platform === 'win32' }, async (t) => {
  const files = await leftBehind(
    t,
    `${graph}
    const ort = (await import('onnxruntime-node')).default;
    const session = await ort.InferenceSession.create(model);
    await session.run({ x: new ort.Tensor('float32', Float32Array.of(1, 2), [2]) });`,
  );
  assert.ok(
    files.some((file) => file.endsWith('deviceid')),
    `expected the device id among ${files.join(', ') || 'no files'}; if the runtime stopped reporting, this layer can go`,
  );
});
