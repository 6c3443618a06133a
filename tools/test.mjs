// Runs every *.test.js under dist/test, or those whose path holds one of the arguments: `npm test -- graph train/resume`.
// Node 20's runner takes no glob, and given a folder it would run the modules that tests share as tests too.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const compiled = join(root, 'dist', 'test');
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const flags = process.argv.slice(2).filter((argument) => argument.startsWith('--'));

// A compiled test whose source is gone is left over from another commit.
const source = (path) => join(root, 'test', path.replace(/\.js$/, '.ts'));
const files = readdirSync(compiled, { recursive: true })
  .filter((path) => path.endsWith('.test.js') && existsSync(source(path)))
  .filter((path) => wanted.length === 0 || wanted.some((part) => path.replaceAll('\\', '/').includes(part)))
  .sort()
  // The longest one first, or all others wait for it at the end.
  .sort((a, b) => Number(b.startsWith('package')) - Number(a.startsWith('package')))
  .map((path) => relative(root, join(compiled, path)));
if (files.length === 0) {
  process.stderr.write(`no test matches ${wanted.join(', ')}\n`);
  process.exit(1);
}
const options = ['--test', '--test-concurrency=3', '--test-reporter=spec', ...flags];
const { status, signal } = spawnSync(process.execPath, [...options, ...files], { cwd: root, stdio: 'inherit' });
process.exit(status ?? (signal === 'SIGINT' ? 130 : 1));
