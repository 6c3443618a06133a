// Where the benches find the real SmolLM2-135M-Instruct.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EnvironmentError } from '../../src/trusted/wire/errors.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** The GGUF that tools/fetch-smollm2.sh fetched, or the one named by the environment. */
export function findSmolLm2(): string {
  const named = process.env.DISTILLOCK_SMOLLM2_GGUF;
  if (named !== undefined && existsSync(named)) return named;
  const folder = join(root, '.cache', 'smollm2');
  const file = existsSync(folder) ? readdirSync(folder).find((name) => name.endsWith('.gguf')) : undefined;
  if (file === undefined)
    throw new EnvironmentError('model-missing', 'SmolLM2-135M-Instruct is not here; run tools/fetch-smollm2.sh first');
  return join(folder, file);
}
