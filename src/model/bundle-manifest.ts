// Reads manifest.json field by field: what a bundle that comes from elsewhere must be, before its files are used. Zone: edge, owner.
// DESIGN section 5. The types are the enclave's own (trusted/wire/manifest.ts), which relies on the owner's signature alone.
import { type JsonValue, parseCanonicalJson } from '../trusted/wire/canonical-json.js';
import { MalformedError } from '../trusted/wire/errors.js';
import { Fields } from '../trusted/wire/fields.js';
import { MAX_MANIFEST_BYTES, MAX_VOCAB_SIZE } from '../trusted/wire/limits.js';
import {
  type BundleSegment,
  type EnclavePrecision,
  FORMAT_VERSION,
  type Manifest,
  type Place,
  type Quantization,
  type Scheme,
  SEALED_PART,
} from '../trusted/wire/manifest.js';

const MAX_HIDDEN_SIZE = 1 << 16;
export const SCHEMES: readonly Scheme[] = ['permutation', 'rotation'];
export const QUANTIZATIONS: readonly Quantization[] = ['none', 'int8', 'int4'];
const PLACES: readonly Place[] = ['accelerator', 'enclave'];
const PRECISIONS: readonly EnclavePrecision[] = ['float32', 'int8'];
/** Relative, at most one folder deep, no dot files: nothing outside the bundle can be named. */
const PATH = /^(?:[a-z0-9_-]{1,64}\/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^[0-9a-f]{64}$/;

function parsePlace(value: unknown): Place {
  const place = PLACES.find((known) => known === value);
  if (place === undefined) throw new MalformedError('manifest', 'manifest.plan.blocks: unknown place');
  return place;
}

function parseSegment(item: JsonValue): BundleSegment {
  const segment = new Fields(item, 'manifest.segments');
  const name = segment.text('name', /^[a-z0-9-]+$/);
  const path = (key: string): string => segment.text(key, PATH);
  const read: BundleSegment =
    segment.choice('place', PLACES) === 'accelerator'
      ? { place: 'accelerator', name, graph: path('graph'), data: path('data') }
      : { place: 'enclave', name, sealed: path('sealed'), precision: segment.choice('precision', PRECISIONS) };
  segment.end();
  return read;
}

/** Every file that a segment needs. */
export function segmentFiles(segment: BundleSegment): readonly string[] {
  return segment.place === 'accelerator' ? [segment.graph, segment.data] : [segment.sealed];
}

/** Throws MalformedError on any missing, unknown or out-of-range field, and on two files of one path. */
export function parseManifest(bytes: Uint8Array): Manifest {
  const fields = new Fields(parseCanonicalJson(bytes, MAX_MANIFEST_BYTES), 'manifest');
  const formatVersion = fields.integer('formatVersion', FORMAT_VERSION, FORMAT_VERSION) as typeof FORMAT_VERSION;
  const shape = fields.record('model');
  shape.integer('vocabSize', 1, MAX_VOCAB_SIZE);
  shape.integer('hiddenSize', 1, MAX_HIDDEN_SIZE);
  const plan = fields.record('plan');
  const manifest: Manifest = {
    formatVersion,
    createdBy: fields.text('createdBy', /^[ -~]{1,64}$/),
    model: fields.value('model') as Manifest['model'],
    scheme: fields.choice('scheme', SCHEMES),
    quantize: fields.choice('quantize', QUANTIZATIONS),
    plan: {
      embedding: plan.choice('embedding', PLACES),
      blocks: plan.list('blocks', 4096).map(parsePlace),
      head: plan.choice('head', PLACES),
    },
    segments: fields.list('segments', 4096).map(parseSegment),
    files: fields.list('files', 8192).map((item) => {
      const file = new Fields(item, 'manifest.files');
      const size = file.integer('size', 0, Number.MAX_SAFE_INTEGER);
      const read = { path: file.text('path', PATH), size, sha256: file.text('sha256', DIGEST) };
      file.end();
      return read;
    }),
    ownerKeyId: fields.text('ownerKeyId', /^[A-Za-z0-9_-]{43}$/),
    tokenizerSha256: fields.text('tokenizerSha256', DIGEST),
  };
  plan.end();
  fields.end();
  const paths = new Set(manifest.files.map((file) => file.path));
  const needed = [SEALED_PART, ...manifest.segments.flatMap(segmentFiles)];
  if (paths.size !== manifest.files.length || needed.some((path) => !paths.has(path))) {
    throw new MalformedError('manifest', 'manifest.files: a path is listed twice, or a needed file is not listed');
  }
  return manifest;
}
