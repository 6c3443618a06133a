// Rotary frequency tables, with the stretches that long-context checkpoints use.
// Zone: edge. Formulas as in transformers' modeling_rope_utils (linear, llama3).
import { type DecoderConfig, usesLocalRope } from './config.js';

/** Which table a block reads: `local` belongs to blocks with a window in families with two bases. */
export type RopeKind = 'global' | 'local';

/** Names of the graph inputs that hold a table. */
export const ropeInputs: Readonly<Record<RopeKind, { readonly cos: string; readonly sin: string }>> = {
  global: { cos: 'rope_cos', sin: 'rope_sin' },
  local: { cos: 'rope_cos_local', sin: 'rope_sin_local' },
};

/** The tables that a decoder's blocks read; none where positions are learned. */
export function ropeKinds(config: DecoderConfig): RopeKind[] {
  if (config.positions === 'learned') return [];
  const locals = Array.from({ length: config.numHiddenLayers }, (_, block) => usesLocalRope(config, block));
  return [...(locals.includes(false) ? ['global' as const] : []), ...(locals.includes(true) ? ['local' as const] : [])];
}

/** Angular frequency θᵢ of each of the headDim/2 pairs. */
export function rotaryFrequencies(config: DecoderConfig, kind: RopeKind = 'global'): Float64Array {
  const half = config.headDim / 2;
  const scaling = kind === 'local' ? null : config.ropeScaling;
  const base = kind === 'local' ? (config.localRopeTheta ?? config.ropeTheta) : config.ropeTheta;
  return Float64Array.from({ length: half }, (_, i) => {
    const plain = base ** (-i / half);
    if (scaling === null) return plain;
    if (scaling.type === 'linear') return plain / scaling.factor;
    const wavelength = (2 * Math.PI) / plain;
    const longest = scaling.originalMaxPositionEmbeddings / scaling.lowFreqFactor;
    const shortest = scaling.originalMaxPositionEmbeddings / scaling.highFreqFactor;
    if (wavelength < shortest) return plain;
    if (wavelength > longest) return plain / scaling.factor;
    const blend =
      (scaling.originalMaxPositionEmbeddings / wavelength - scaling.lowFreqFactor) /
      (scaling.highFreqFactor - scaling.lowFreqFactor);
    return (1 - blend) * (plain / scaling.factor) + blend * plain;
  });
}

/** cos and sin of position·θᵢ, each [positions, headDim/2] row-major. */
export function rotaryTables(
  config: DecoderConfig,
  positions: number,
  kind: RopeKind = 'global',
): { cos: Float32Array; sin: Float32Array } {
  const frequencies = rotaryFrequencies(config, kind);
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let p = 0; p < positions; p += 1) {
    for (let i = 0; i < half; i += 1) {
      cos[p * half + i] = Math.cos(p * frequencies[i]!);
      sin[p * half + i] = Math.sin(p * frequencies[i]!);
    }
  }
  return { cos, sin };
}

/** Every table that a forward graph of this decoder asks for, by input name; shapes [positions, headDim/2]. */
export function rotaryFeeds(
  config: DecoderConfig,
  positions: number,
): Record<string, { data: Float32Array; shape: number[] }> {
  const shape = [positions, config.headDim / 2];
  const feeds: Record<string, { data: Float32Array; shape: number[] }> = {};
  for (const kind of ropeKinds(config)) {
    const { cos, sin } = rotaryTables(config, positions, kind);
    feeds[ropeInputs[kind].cos] = { data: cos, shape };
    feeds[ropeInputs[kind].sin] = { data: sin, shape };
  }
  return feeds;
}
