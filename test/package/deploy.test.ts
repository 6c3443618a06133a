// The deployment files: Gramine's manifest template, the systemd units and their notes, as far as a machine without hardware can tell.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { temporaryFolder } from '../owner/tiny-model.js';

const run = promisify(execFile);
const TEMPLATE = 'deploy/gramine/distillock-enclave.manifest.template';
/** Given by gramine-manifest itself. */
const BUILT_IN: Readonly<Record<string, string>> = {
  'gramine.libos': '/gramine/libsysdb.so',
  'gramine.runtimedir()': '/gramine/lib',
};
type Toml = string | number | boolean | readonly Toml[] | { readonly [key: string]: Toml };

/** Variables of the template's header. */
const declared = (text: string): string[] => /^# Variables \(-D\): (.+)$/m.exec(text)?.[1]?.split(', ') ?? [];

/** The one loop and the substitutions that the template uses, as Jinja would do them; anything else is left and found. */
function render(template: string, values: Readonly<Record<string, string>>): string {
  const looped = template.replaceAll(
    /\{% for (\w+) in (\w+)\.split\(\) %\}\n([\s\S]*?)\{% endfor %\}\n/g,
    (_, name: string, list: string, body: string) =>
      (values[list] ?? assert.fail(`${list} is not declared`))
        .split(' ')
        .filter((item) => item !== '')
        .map((item) => body.replaceAll(`{{ ${name} }}`, item))
        .join(''),
  );
  return looped.replaceAll(
    /\{\{ (.+?) \}\}/g,
    (_, name: string) => values[name] ?? assert.fail(`${name} is not declared`),
  );
}

/** The part of TOML that the manifest uses: dotted keys, strings, integers, booleans, arrays, inline tables, comments. */
function parseToml(text: string): Map<string, Toml> {
  const bare = text.replaceAll(/^\s*#.*$/gm, '');
  const found = new Map<string, Toml>();
  for (const [, key, value] of bare.matchAll(/^([\w.]+) = ([^\n]*(?:\n[\s\S]*?(?=^(?:[\w.]+ = )|$(?![\s\S])))?)/gm)) {
    const json = value!
      .replaceAll(/([{,]\s*)(\w+) = /g, '$1"$2": ')
      .replaceAll(/,(\s*\])/g, '$1')
      .trim();
    assert.ok(!found.has(key!), `${key} twice`);
    found.set(key!, JSON.parse(json) as Toml);
  }
  const left = bare.replaceAll(/^([\w.]+) = ([^\n]*(?:\n[\s\S]*?(?=^(?:[\w.]+ = )|$(?![\s\S])))?)/gm, '').trim();
  assert.equal(left, '', 'lines that are no settings');
  return found;
}

test("Gramine's manifest: parses, is closed, and trusts exactly the files that are measured", async (t) => {
  const template = await readFile(TEMPLATE, 'utf8');
  const folder = await temporaryFolder(t);
  const enclave = join(folder, 'enclave');
  const bundle = join(folder, 'bundle');
  await run(process.execPath, ['tools/build-enclave.mjs', '--out', enclave]);
  await mkdir(join(bundle, 'segments'), { recursive: true });
  for (const name of ['manifest.json', 'manifest.jws', 'enclave.sealed', 'segments/1.sealed', 'segments/3.sealed'])
    await writeFile(join(bundle, name), '');
  const values: Record<string, string> = {
    ...BUILT_IN,
    node: '/usr/bin/node',
    arch_libdir: '/lib/x86_64-linux-gnu',
    enclave_dir: enclave,
    bundle_dir: bundle,
    sealed_files: 'segments/1.sealed segments/3.sealed',
    state_dir: join(folder, 'state'),
    owner_key: 'A'.repeat(43),
    memory_bytes: '4096000000',
    enclave_size: '8G',
  };
  assert.deepEqual(
    declared(template).sort(),
    Object.keys(values)
      .filter((name) => !(name in BUILT_IN))
      .sort(),
  );
  for (const name of declared(template))
    assert.match(template, new RegExp(`\\{\\{ ${name} \\}\\}|in ${name}\\.split`), name);
  const manifest = parseToml(render(template, values));

  assert.equal(manifest.get('sgx.debug'), false);
  assert.equal(manifest.get('sgx.remote_attestation'), 'dcap');
  assert.equal(manifest.get('sgx.file_check_policy'), 'strict');
  assert.equal(manifest.get('libos.entrypoint'), '/usr/bin/node');
  assert.ok(Number(manifest.get('sgx.max_threads')) >= 32);
  const keys = [...manifest.keys()];
  assert.deepEqual(
    keys.filter((key) => /insecure|allowed_files|passthrough|env_src|argv_src/.test(key)),
    [],
  );
  for (const key of keys.filter((name) => name.startsWith('loader.env.')))
    assert.equal(typeof manifest.get(key), 'string', key);

  const argv = manifest.get('loader.argv') as string[];
  assert.deepEqual(argv.slice(2), ['sgx', '/bundle', '/state', 'tcp:0', values.owner_key, values.memory_bytes]);
  const mounts = manifest.get('fs.mounts') as { type?: string; path: string; uri: string; key_name?: string }[];
  const mounted = (path: string) => mounts.find((mount) => path === mount.path || path.startsWith(`${mount.path}/`));
  for (const path of argv.slice(1).filter((word) => word.startsWith('/')))
    assert.ok(mounted(path), `${path} is not mounted`);
  assert.deepEqual(mounted('/state'), {
    type: 'encrypted',
    path: '/state',
    uri: `file:${values.state_dir}`,
    key_name: '_sgx_mrenclave',
  });

  const trusted = manifest.get('sgx.trusted_files') as string[];
  const below = (root: string) =>
    trusted.filter((uri) => uri.startsWith(`file:${root}/`)).map((uri) => uri.slice(`file:${root}/`.length));
  const measured = (await readFile(join(enclave, 'SHA256SUMS'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => line.split('  ')[1]);
  assert.deepEqual(below(enclave).sort(), measured.sort());
  for (const root of [enclave, bundle])
    for (const path of below(root))
      assert.ok((await stat(join(root, path))).isFile(), `${path} is trusted but missing`);
  assert.equal(below(bundle).length, 5);
  // Whatever is mounted from the host in the clear is trusted, as a file or as a folder.
  for (const { type, uri } of mounts)
    if (type !== 'encrypted')
      assert.ok(
        trusted.some((file) => file.startsWith(uri)),
        `${uri} is mounted but not trusted`,
      );
});

test('the units pass systemd-analyze verify', async (t) => {
  const analyze = (...args: string[]) => spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  if (analyze('--version').status !== 0) {
    t.skip('systemd-analyze is not installed');
    return;
  }
  // The unit names where Node lies in the image; here it may lie elsewhere.
  const folder = await temporaryFolder(t);
  for (const name of await readdir('deploy/systemd')) {
    const text = await readFile(join('deploy/systemd', name), 'utf8');
    const here = text.replace('ExecStart=/usr/bin/node ', `ExecStart=${process.execPath} `);
    await writeFile(join(folder, name), here.replace('/lib/systemd/systemd-socket-proxyd', process.execPath));
  }
  const units = (await readdir(folder)).map((name) => join(folder, name));
  const good = analyze('verify', ...units);
  assert.equal(good.status, 0, good.stderr);
  assert.equal(good.stderr, '');
  await writeFile(join(folder, 'distillock-enclave.service'), '[Service]\nExecStart=/nowhere\nProtectHomes=yes\n');
  assert.match(
    analyze('verify', join(folder, 'distillock-enclave.service')).stderr,
    /ProtectHomes/,
    'a control that fails',
  );
});

test('the unit passes what the program takes, in its order, and follows no parent', async () => {
  const unit = await readFile('deploy/systemd/distillock-enclave.service', 'utf8');
  const program = '/usr/bin/node /opt/distillock/enclave/distillock-enclave.mjs';
  const bundle = '/var/lib/distillock/bundle /var/lib/distillock/state /run/distillock/enclave.sock';
  const variable = (name: string) => `\u0024{${name}}`;
  const command = [
    program,
    variable('PLATFORM'),
    bundle,
    ...['OWNER_KEY', 'MEMORY_BYTES', 'SEALING_KEY_FILE'].map(variable),
  ];
  assert.equal(/^ExecStart=(.+)$/m.exec(unit)?.[1], command.join(' '));
  assert.match(unit, /^ReadWritePaths=\/sys\/kernel\/config\/tsm\/report$/m);
});

test('what has not run on hardware says so', async () => {
  const names = await readdir('deploy', { recursive: true });
  const files = [];
  for (const name of names) if ((await stat(join('deploy', name))).isFile()) files.push(join('deploy', name));
  const adapters = ['sgx.ts', 'tsm.ts', 'vm-state.ts'].map((name) => join('src/trusted/platform', name));
  assert.ok(files.length >= 7, files.join());
  for (const file of [...files, ...adapters]) assert.match(await readFile(file, 'utf8'), /not run on hardware/i, file);
});
