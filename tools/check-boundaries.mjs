// Enforces the import table of docs/ARCHITECTURE.md: which room may import which. Plain JavaScript: it runs before the build. `npm run check`.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { importsOf } from './imports.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const src = join(root, 'src');
const ALL = [
  'trusted/wire',
  'trusted/lock',
  'trusted/enclave',
  'trusted/platform',
  'attest',
  'graph',
  'model',
  'owner',
  'edge',
  'audit',
  'cli',
];
/** Room → rooms it may import besides itself; the same table as in docs/ARCHITECTURE.md. */
const TABLE = {
  'trusted/wire': [],
  'trusted/lock': ['trusted/wire'],
  'trusted/enclave': ['trusted/wire', 'trusted/lock'],
  'trusted/platform': ['trusted/wire', 'trusted/lock', 'trusted/enclave'],
  attest: ['trusted/wire'],
  graph: ['trusted/wire'],
  model: ['trusted/wire', 'graph'],
  owner: ['attest', 'trusted/lock', 'trusted/wire', 'graph', 'model'],
  edge: ['trusted/wire', 'graph', 'model'],
  audit: ALL,
  cli: ALL,
  '': ALL,
};

/** The room of a path below src; '' for files that lie in src itself (the package's index). */
function roomOf(path) {
  const parts = relative(src, path).split(/[\\/]/);
  if (parts.length === 1) return '';
  return parts[0] === 'trusted' && parts.length > 2 ? `trusted/${parts[1]}` : parts[0];
}

const faults = [];
for (const name of readdirSync(src, { recursive: true, encoding: 'utf8' }).sort()) {
  if (!/\.m?ts$/.test(name) || name.endsWith('.d.ts')) continue;
  const file = join(src, name);
  const room = roomOf(file);
  const place = (line) => `${relative(root, file)}:${line}`;
  const allowed = TABLE[room];
  if (allowed === undefined) {
    faults.push(`${place(1)}: no such room as ${room}; add it to the table here and in docs/ARCHITECTURE.md`);
    continue;
  }
  for (const { specifier, line } of importsOf(readFileSync(file, 'utf8'))) {
    // These switch the runtime's reporting off before it loads; any other import would come without that.
    const runtimes = [join('graph', 'runtime.ts'), join('trusted', 'platform', 'runtime.ts')];
    if (specifier === 'onnxruntime-node' && !runtimes.includes(relative(src, file)))
      faults.push(
        `${place(line)}: only ${runtimes.map((path) => `src/${path}`).join(' and ')} may import onnxruntime-node`,
      );
    if (!specifier.startsWith('.')) continue;
    const target = resolve(file, '..', specifier);
    const outside = relative(src, target).startsWith('..');
    const other = outside ? 'code outside src' : roomOf(target);
    if (outside || (other !== room && !allowed.includes(other)))
      faults.push(`${place(line)}: ${room || 'src'} may not import ${other} (${specifier})`);
  }
}

const documented = readFileSync(join(root, 'docs', 'ARCHITECTURE.md'), 'utf8');
for (const room of Object.keys(TABLE)) {
  if (room !== '' && !documented.includes(`| \`src/${room}\` `))
    faults.push(`docs/ARCHITECTURE.md:1: the table has no row for src/${room}`);
}
console.log(`boundaries: ${faults.length === 0 ? 'every import keeps to the table' : `${faults.length} faults`}`);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;
