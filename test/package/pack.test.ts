// The package as a stranger gets it: what the tarball holds, and that it works in an empty folder.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { readJson } from '../model/fixtures.js';
import { temporaryFolder } from '../owner/tiny-model.js';

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

interface PackageJson {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
}

const run = promisify(execFile);
const shell = process.platform === 'win32';
const megabyte = 2 ** 20;

async function pack(folder: string): Promise<Packed> {
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { shell });
  return (JSON.parse(stdout) as Packed[])[0]!;
}

test('the tarball holds the built package, the bundled teacher and nothing else', async (t) => {
  const { files, size, unpackedSize } = await pack(await temporaryFolder(t));
  const paths = files.map(({ path }) => path);
  const allowed =
    /^(dist\/src\/.*\.(js|d\.ts)|dist\/enclave\/(distillock-enclave\.mjs|SHA256SUMS)|deploy\/.*|assets\/.*|docs\/[^/]+\.md|LICENSE|README\.md|CHANGELOG\.md|package\.json)$/;
  assert.deepEqual(
    paths.filter((path) => !allowed.test(path)),
    [],
  );
  const wanted = ['LICENSE', 'dist/src/cli/main.js', 'dist/src/trusted/platform/enclave-main.js'];
  const assets = ['stories260k/model.safetensors', 'stories260k/LICENSE', 'text/train.txt', 'text/README.md'];
  for (const path of [...wanted, ...assets.map((name) => `assets/${name}`)]) assert.ok(paths.includes(path), path);
  const { exports } = await readJson<PackageJson>('package.json');
  for (const entry of Object.values(exports))
    for (const path of typeof entry === 'string' ? [entry] : Object.values(entry))
      assert.ok(paths.includes(path.replace('./', '')), `${path} is exported but not packed`);
  const weights = paths.filter((path) => /\.(safetensors|gguf|bin|onnx|data|pt)$/.test(path));
  assert.deepEqual(weights, ['assets/stories260k/model.safetensors']);
  assert.ok(size < 2.5 * megabyte && unpackedSize < 6 * megabyte, `${size} bytes packed, ${unpackedSize} unpacked`);
});

test('installed from the tarball into an empty folder, the command and every entry point work', async (t) => {
  const folder = await temporaryFolder(t);
  const { filename } = await pack(folder);
  const home = join(folder, 'app');
  await mkdir(home);
  await writeFile(join(home, 'package.json'), '{"name":"app","version":"1.0.0","type":"module"}\n');
  const options = { cwd: home, shell, maxBuffer: 64 * megabyte };
  const install = [
    'install',
    '--ignore-scripts',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    join(folder, filename),
  ];
  await run('npm', install, { ...options, timeout: 240_000 });
  const { version, exports, dependencies } = await readJson<PackageJson>(resolve('package.json'));

  const npx = ['--no-install', 'distillock'];
  assert.equal((await run('npx', [...npx, '--version'], options)).stdout.trim(), version);
  const entries = Object.keys(exports).filter((name) => !name.endsWith('.json'));
  const imports = entries.map((name) => `await import(${JSON.stringify(name.replace('.', 'distillock'))})`);
  await run(process.execPath, ['--input-type=module', '--eval', imports.join('; ')], options);
  // A development dependency that the code needs would be missing here.
  for (const name of Object.keys(dependencies)) await stat(join(home, 'node_modules', name));

  await run('npx', [...npx, 'demo'], { ...options, timeout: 600_000 });
  const report = JSON.parse(await readFile(join(home, 'demo-out', 'report.json'), 'utf8')) as Record<string, unknown>;
  for (const key of ['teacher', 'student', 'frequencyOnly', 'budget', 'egressBytesAfterUnlock'])
    assert.ok(key in report, `report.json has no ${key}`);
  assert.equal(report.egressBytesAfterUnlock, 0);
});
