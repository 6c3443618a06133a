// Keeps the trusted code small and closed: lines of code against a limit, imports against an exact allow-list.
// Plain JavaScript: it runs before the build. `npm run check`.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { importsOf } from './imports.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const trusted = join(root, 'src', 'trusted');
// An hour of reading at forty lines a minute. 2,000 before the enclave computed parts of the model itself.
const MAX_LINES = 2500;
/** npm packages of the platform adapters; each must be pinned exactly and need nothing outside this list. */
const PACKAGES = ['@hpke/core', '@hpke/dhkem-x25519', '@hpke/common', 'onnxruntime-node', 'onnxruntime-common'];
/** Named by onnxruntime-node for its download script only, which is never run; the sandbox does not even contain them. */
const INSTALL_ONLY = ['adm-zip', 'global-agent'];
const CLOSED_ROOMS = ['wire', 'lock', 'enclave'];

/** Lines that hold code once comments and blank lines are gone. */
export function countCode(source) {
  const lines = source.replaceAll(/\/\*[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, '')).split('\n');
  return lines.filter((line) => line.trim() !== '' && !line.trim().startsWith('//')).length;
}

const faults = [];
const counts = new Map();
for (const name of readdirSync(trusted, { recursive: true, encoding: 'utf8' }).sort()) {
  if (!name.endsWith('.ts')) continue;
  const file = join(trusted, name);
  const source = readFileSync(file, 'utf8');
  const room = name.split('/')[0];
  if (!name.endsWith('.d.ts')) counts.set(room, (counts.get(room) ?? 0) + countCode(source));
  for (const { specifier, line } of importsOf(source)) {
    const closed = CLOSED_ROOMS.includes(room);
    const own = specifier.startsWith('.') && !relative(trusted, join(file, '..', specifier)).startsWith('..');
    const allowed =
      own ||
      specifier === 'node:crypto' ||
      (!closed && (specifier.startsWith('node:') || PACKAGES.includes(specifier)));
    if (!allowed) faults.push(`${relative(root, file)}:${line}: trusted code may not import ${specifier}`);
  }
  for (const [index, text] of source.split('\n').entries()) {
    if (/\b(eval|require|Function)\s*\(|\bimport\s*\((?!')/.test(text)) {
      faults.push(`${relative(root, file)}:${index + 1}: trusted code may not load code at run time`);
    }
  }
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
for (const name of PACKAGES) {
  const direct = manifest.dependencies[name];
  if (direct !== undefined && !/^\d+\.\d+\.\d+$/.test(direct))
    faults.push(`package.json:1: ${name} must be pinned to an exact version`);
  const entry = lock.packages[`node_modules/${name}`];
  if (!entry?.integrity) faults.push(`package-lock.json:1: ${name} has no integrity hash`);
  for (const needed of Object.keys(entry?.dependencies ?? {})) {
    if (!PACKAGES.includes(needed) && !INSTALL_ONLY.includes(needed))
      faults.push(`package-lock.json:1: ${name} brings in ${needed}, which trusted code may not use`);
  }
}

const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
const rooms = [...counts].map(([room, count]) => `${room} ${count}`).join(', ');
console.log(`trusted code: ${total} lines of at most ${MAX_LINES} (${rooms})`);
if (total > MAX_LINES) faults.push(`src/trusted:1: ${total} lines of code, the limit is ${MAX_LINES}`);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;
