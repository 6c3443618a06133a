// Opens a bundle: the owner's signature first, then size and SHA-256 of every file, then and only then its contents. Zone: edge.
// DESIGN section 5. A truncated, altered, missing or foreign file is a named error before any compute.
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseManifest } from '../model/bundle-manifest.js';
import type { DecoderConfig } from '../model/config.js';
import { digestFile } from '../model/file-digest.js';
import { spansOf } from '../model/spans.js';
import { type DistillockError, MalformedError, VerificationError } from '../trusted/wire/errors.js';
import { keyId } from '../trusted/wire/jws.js';
import { type BundleFile, bundleId, type Manifest, verifyManifest } from '../trusted/wire/manifest.js';
import { configOfManifest } from './bundle-config.js';
import type { RunnableSegment } from './teacher/accelerator.js';

export interface OpenBundleOptions {
  /** Raw Ed25519 public key of the owner, pinned (`loadOwnerPublicKey`). */
  readonly ownerKey: Uint8Array;
  /** False skips hashing the files (sizes are still checked), for a look at a large bundle. */
  readonly checkHashes?: boolean;
}

export interface Bundle {
  readonly dir: string;
  readonly bundleId: string;
  readonly manifest: Manifest;
  readonly config: DecoderConfig;
  /** In the order of `manifest.segments`; `graph` is an absolute path. */
  readonly segments: readonly RunnableSegment[];
}

async function readPart(dir: string, name: string, code: string): Promise<Uint8Array> {
  try {
    return await readFile(join(dir, name));
  } catch (cause) {
    const file = join(dir, name);
    throw new MalformedError(
      code,
      `${file} cannot be read: not a bundle, or incomplete; copy it again`,
      { file },
      cause,
    );
  }
}

function rename(error: unknown, dir: string): unknown {
  const file = join(dir, 'manifest.jws');
  if (error instanceof VerificationError) {
    const message = `${file}: the bundle was not signed by the expected owner, or manifest.json was altered`;
    return new VerificationError('bundle-signature', message, { file }, error);
  }
  const { code, message } = error as DistillockError;
  if (error instanceof MalformedError) return new MalformedError(code, `${dir}: ${message}`, { dir }, error);
  return error;
}

/** Throws VerificationError or MalformedError when a listed file is missing, cut or altered. */
export async function checkBundleFile(dir: string, listed: BundleFile, checkHashes: boolean): Promise<void> {
  const file = join(dir, listed.path);
  const found = await stat(file).catch(() => undefined);
  if (found === undefined || !found.isFile()) {
    throw new MalformedError('bundle-file-missing', `${file} is missing from the bundle; copy it again`, { file });
  }
  if (found.size !== listed.size) {
    const message = `${file} has ${found.size} bytes, the owner signed ${listed.size}; copy the bundle again`;
    throw new VerificationError('bundle-file-size', message, { file, size: found.size, expected: listed.size });
  }
  if (checkHashes && (await digestFile(file)).sha256 !== listed.sha256) {
    throw new VerificationError('bundle-file-hash', `${file} is not the file the owner signed; copy the bundle again`, {
      file,
    });
  }
}

/** Throws MalformedError when the segments are not what the plan comes to. */
function checkPlan({ plan, segments }: Manifest, dir: string): void {
  const places = spansOf(plan).map(({ place }) => place);
  if (places.length === segments.length && places.every((place, i) => place === segments[i]!.place)) return;
  throw new MalformedError('plan', `${dir}: the plan in manifest.json and its segments do not fit; lock it again`, {
    dir,
  });
}

/**
 * Throws VerificationError ('bundle-signature', 'owner-key', 'bundle-file-size', 'bundle-file-hash') or MalformedError
 * ('manifest-missing', 'signature-missing', 'bundle-file-missing', or what is wrong inside manifest.json).
 */
export async function openBundle(dir: string, options: OpenBundleOptions): Promise<Bundle> {
  const bytes = await readPart(dir, 'manifest.json', 'manifest-missing');
  const jws = Buffer.from(await readPart(dir, 'manifest.jws', 'signature-missing'))
    .toString('latin1')
    .trim();
  let manifest: Manifest;
  try {
    verifyManifest(bytes, jws, options.ownerKey);
    manifest = parseManifest(bytes);
  } catch (error) {
    throw rename(error, dir);
  }
  if (manifest.ownerKeyId !== keyId(options.ownerKey)) {
    throw new VerificationError('owner-key', `${dir}: manifest.json names another owner than the one who signed it`, {
      dir,
    });
  }
  checkPlan(manifest, dir);
  for (const file of manifest.files) await checkBundleFile(dir, file, options.checkHashes ?? true);
  const segments = manifest.segments.map((segment): RunnableSegment => {
    return segment.place === 'enclave'
      ? { place: 'enclave' }
      : { place: 'accelerator', graph: join(dir, segment.graph) };
  });
  return { dir, bundleId: bundleId(bytes), manifest, config: configOfManifest(manifest), segments };
}
