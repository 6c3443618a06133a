// The one way in: a local folder, a .gguf file or a hub repository id becomes a checked Checkpoint.
// A PEFT folder becomes its base with the adapters merged in.
// Zone: edge and owner.

import { stat } from 'node:fs/promises';
import { MalformedError } from '../../trusted/wire/errors.js';
import { adaptCheckpoint } from './adapted.js';
import { openGguf } from './gguf.js';
import { type Checkpoint, openDirectory } from './hf-directory.js';
import { fetchRepository, type HubOptions, isRepositoryId } from './hub.js';
import { isAdapterFolder, readAdapterBase } from './peft.js';

/**
 * A path that exists always wins over a repository id of the same spelling. Every tensor the configuration demands is checked
 * for presence and shape. Close `tensors` when done.
 */
export async function openCheckpoint(spec: string, options: HubOptions = {}): Promise<Checkpoint> {
  const found = await stat(spec).catch(() => undefined);
  if (await isAdapterFolder(spec)) return openAdapted(spec);
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

/** The adapters of a PEFT folder on `base`, or on the checkpoint that its adapter_config.json names. */
export async function openAdapted(folder: string, base?: string, options: HubOptions = {}): Promise<Checkpoint> {
  if (!(await isAdapterFolder(folder)))
    throw new MalformedError(
      'adapter-missing',
      `${folder} holds no adapter_config.json: give a folder that PEFT or distill wrote`,
      {
        file: folder,
      },
    );
  const name = base ?? (await readAdapterBase(folder));
  if (await isAdapterFolder(name))
    throw new MalformedError('adapter-base', `${name}, the base of ${folder}, is an adapter too: fuse it first`, {
      file: folder,
    });
  return adaptCheckpoint(await openCheckpoint(name, options), folder, name);
}
