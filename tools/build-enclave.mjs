// Builds the enclave program as one file and prints what a verifier pins: `npm run measure`. Plain JavaScript.
// The same sources and package-lock.json give the same bytes, wherever the project lies; ONNX Runtime stays outside, it is native.
// The measurement covers the program and every file of the runtime that it loads on Linux x64, where SGX, TDX and SEV-SNP are.
// `--out FOLDER` also copies the runtime's files, so that the folder holds all that runs inside besides Node and the system.
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const ENTRY = 'src/trusted/platform/enclave-main.ts';
const PROGRAM = 'distillock-enclave.mjs';
/** What onnxruntime-node loads when it is imported; everything else of the two packages is for other machines or for installing. */
const RUNTIME = [
  ['onnxruntime-node', /^(package\.json|dist\/[^/]+\.js|bin\/napi-v6\/linux\/x64\/[^/]+)$/],
  ['onnxruntime-common', /^(package\.json|dist\/cjs\/.+\.js|dist\/cjs\/package\.json)$/],
];

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** The bundled program's text. Readable on purpose: whoever pins its hash should be able to read it. */
export async function bundleEnclave(root) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: [ENTRY],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20.12',
    charset: 'utf8',
    external: ['onnxruntime-node'],
    legalComments: 'none',
    // A linked node_modules folder must not show its own place in the file.
    preserveSymlinks: true,
    // Settings of this build only, whatever tsconfig.json says beyond them.
    tsconfigRaw: { compilerOptions: { target: 'ES2023', verbatimModuleSyntax: true } },
    logLevel: 'silent',
  });
  return outputFiles[0].contents;
}

/** `[path, SHA-256]` of the runtime's files, sorted. */
export function runtimeFiles(root) {
  return RUNTIME.flatMap(([name, wanted]) => {
    const folder = join(root, 'node_modules', name);
    const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((path) => path.replaceAll('\\', '/'));
    const found = paths.filter((path) => wanted.test(path)).sort();
    return found.map((path) => [`node_modules/${name}/${path}`, sha256(readFileSync(join(folder, path)))]);
  });
}

/** One line for each file, as sha256sum prints them; the measurement is the hash of these lines. */
export function measure(program, files) {
  const lines = [[PROGRAM, sha256(program)], ...files].map(([path, hash]) => `${hash}  ${path}\n`);
  return { program: sha256(program), measurement: sha256(lines.join('')), lines };
}

async function main() {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const at = process.argv.indexOf('--out');
  const out = at === -1 ? join(root, 'dist', 'enclave') : process.argv[at + 1];
  const program = await bundleEnclave(root);
  const files = runtimeFiles(root);
  const { measurement, lines } = measure(program, files);
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, PROGRAM), program);
  writeFileSync(join(out, 'SHA256SUMS'), lines.join(''));
  if (at !== -1) for (const [path] of files) cpSync(join(root, path), join(out, path), { dereference: true });
  const place = relative(process.cwd(), join(out, PROGRAM));
  process.stdout.write(`${lines.join('')}\nprogram      ${place}\nmeasurement  ${measurement}\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
