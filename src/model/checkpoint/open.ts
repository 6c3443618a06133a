// The one way in: a local folder, a .gguf file or a hub repository id becomes a checked Checkpoint.
// Zone: edge and owner.

import { stat } from 'node:fs/promises';
import { MalformedError } from '../../trusted/wire/errors.js';
import { openGguf } from './gguf.js';
import { type Checkpoint, openDirectory } from './hf-directory.js';
import { fetchRepository, type HubOptions, isRepositoryId } from './hub.js';

/**
 * A path that exists always wins over a repository id of the same spelling. Every tensor the configuration demands is checked
 * for presence and shape. Close `tensors` when done.
 */
export async function openCheckpoint(spec: string, options: HubOptions = {}): Promise<Checkpoint> {
  const found = await stat(spec).catch(() => undefined);
  if (found?.isDirectory()) return openDirectory(spec);
  if (found !== undefined) {
    if (spec.endsWith('.gguf')) return openGguf(spec);
    throw new MalformedError(
      'checkpoint-unknown',
      `${spec} is a file but not a .gguf: give a model folder or a GGUF file.`,
      { file: spec },
    );
  }
  if (isRepositoryId(spec) && !spec.endsWith('.gguf')) return openDirectory(await fetchRepository(spec, options));
  throw new MalformedError(
    'file-missing',
    `${spec} does not exist and is no hub repository id (owner/name): check the path.`,
    { file: spec },
  );
}
