// Fetches a model repository from the Hugging Face hub into the local cache, only the files a checkpoint needs.
// Zone: edge and owner. Used only when no local path has the name. Cache folder, HF_TOKEN and HF_ENDPOINT are those of the
// other Hugging Face tools; what was fetched before opens without a network.

import { access, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { downloadFileToCacheDir, getHFHubCachePath, listFiles, modelInfo } from '@huggingface/hub';
import { DistillockError, EnvironmentError, MalformedError } from '../../trusted/wire/errors.js';
import { writeFileAtomic } from '../files.js';
import { indexFileName } from './safetensors.js';
import { tokenizerFileNames } from './tokenizer-files.js';

export interface HubOptions {
  /** Defaults to the Hugging Face cache folder (HF_HOME). */
  readonly cacheDir?: string;
  /** Branch, tag or commit; main by default. */
  readonly revision?: string;
}

/** `owner/name`, as on the hub. */
export function isRepositoryId(spec: string): boolean {
  return /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(spec);
}

/** Returns the local snapshot folder. Throws EnvironmentError that explains what to do without a network. */
export async function fetchRepository(repo: string, options: HubOptions = {}): Promise<string> {
  const { cacheDir = getHFHubCachePath(), revision = 'main' } = options;
  const cached = join(cacheDir, `models--${repo.replace('/', '--')}`);
  const reference = join(cached, 'refs', revision);
  try {
    const snapshot = await download(repo, revision, cacheDir);
    await mkdir(dirname(reference), { recursive: true });
    // Written last: a reference means that every file of its snapshot is there.
    await writeFileAtomic(reference, Buffer.from(snapshot.commit));
    return snapshot.folder;
  } catch (error) {
    if (error instanceof DistillockError) throw error;
    const commit = await readFile(reference, 'utf8').catch(() => revision);
    const folder = join(cached, 'snapshots', commit.trim());
    if (await exists(join(folder, 'config.json'))) return folder;
    throw unreachable(repo, error);
  }
}

async function download(repo: string, revision: string, cacheDir: string): Promise<{ folder: string; commit: string }> {
  const { HF_TOKEN: accessToken, HF_ENDPOINT: hubUrl } = process.env;
  const site = { ...(accessToken === undefined ? {} : { accessToken }), ...(hubUrl === undefined ? {} : { hubUrl }) };
  // One commit for all files: by branch name the library puts each file under the commit that last changed it.
  const { sha: commit } = await modelInfo({ name: repo, revision, additionalFields: ['sha'], ...site });
  const paths: string[] = [];
  for await (const { type, path } of listFiles({ repo, revision: commit, ...site })) {
    if (type === 'file' && isNeeded(path)) paths.push(path);
  }
  if (!paths.includes('config.json')) {
    throw new MalformedError(
      'repository-invalid',
      `The hub repository ${repo} has no config.json: it is not a transformers checkpoint.`,
      { repo },
    );
  }
  const wanted = paths.includes('model.safetensors') ? paths.filter((path) => !isShard(path)) : paths;
  let folder = '';
  for (const path of wanted)
    folder = dirname(await downloadFileToCacheDir({ repo, path, revision: commit, cacheDir, ...site }));
  return { folder, commit };
}

function unreachable(repo: string, cause: unknown): EnvironmentError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new EnvironmentError(
    'hub-unreachable',
    `No local file or folder is named "${repo}", and fetching it from the Hugging Face hub failed (${reason}). ` +
      'Check the name and the network, set HF_TOKEN for a gated model, or give the path of a downloaded checkpoint.',
    { repo },
    cause,
  );
}

function isNeeded(path: string): boolean {
  const names: readonly string[] = tokenizerFileNames;
  return path === 'config.json' || path === 'model.safetensors' || isShard(path) || names.includes(path);
}

function isShard(path: string): boolean {
  return path === indexFileName || /^model-\d+-of-\d+\.safetensors$/.test(path);
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
