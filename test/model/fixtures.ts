// Where the tests of this folder find their files, and small checks they share.
// Paths are relative to the package root, which is where the test runner starts.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DistillockError } from '../../src/trusted/wire/errors.js';

export const storiesFolder = 'assets/stories260k';
export const tinyLlama = 'test/fixtures/gguf/tiny-llama.gguf';
export const tinyQwen2 = 'test/fixtures/gguf/tiny-qwen2.gguf';

/** The SmolLM2 GGUF, or undefined where it was not fetched; in CI its absence is a failure, not a skip. */
export function smollm2File(): string | undefined {
  const file = process.env.DISTILLOCK_SMOLLM2_GGUF ?? '.cache/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf';
  if (existsSync(file)) return file;
  if (process.env.CI === 'true') throw new Error(`${file} is missing: run tools/fetch-smollm2.sh before the tests.`);
  return undefined;
}

export async function readJson<T>(file: string): Promise<T> {
  return JSON.parse(await readFile(file, 'utf8')) as T;
}

/** Runs with a fresh folder that is removed afterwards. */
export async function inTemporaryFolder<T>(run: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-test-'));
  try {
    return await run(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The predicate for assert.throws: an error of ours with this code, whose message names every given word. */
export function failsWith(code: string, ...words: string[]): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof DistillockError, `expected an error of ours, got ${error}`);
    assert.equal(error.code, code, error.message);
    for (const word of words) assert.ok(error.message.includes(word), `"${error.message}" does not name ${word}`);
    return true;
  };
}
