// A `gramine-sgx` on the PATH that runs fake-gramine-enclave.ts, and a manifest for it. Not a test itself.
import { mkdir, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export interface FakeManifest {
  readonly bundleDir: string;
  /** Base64url. */
  readonly ownerKey: string;
  readonly stateFile: string;
  /** What the enclave says that it runs on. */
  readonly says: string;
  /** What it says instead of its true address. */
  readonly address?: string;
}

const fakeEnclave = fileURLToPath(new URL('./fake-gramine-enclave.js', import.meta.url));

/** Returns `gramine_app` for `distillock-enclave.manifest.sgx` in a new folder below `home`. */
export async function playGramine(
  t: TestContext,
  home: string,
  manifest: Pick<FakeManifest, 'bundleDir' | 'ownerKey'> & Partial<FakeManifest>,
): Promise<string> {
  const folder = join(home, 'gramine');
  await mkdir(folder, { recursive: true });
  const script = `#!/bin/sh\nexec '${process.execPath}' '${fakeEnclave}' "$@"\n`;
  await writeFile(join(folder, 'gramine-sgx'), script, { mode: 0o755 });
  const path = process.env.PATH ?? '';
  process.env.PATH = `${folder}${delimiter}${path}`;
  t.after(() => {
    process.env.PATH = path;
  });
  const whole: FakeManifest = { stateFile: join(home, 'sealed-state.bin'), says: 'sgx', ...manifest };
  await writeFile(join(folder, 'distillock-enclave.manifest.sgx'), JSON.stringify(whole));
  return join(folder, 'distillock-enclave');
}
