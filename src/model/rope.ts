// Rotary frequency tables, with the stretches that long-context checkpoints use.
// Zone: edge. Formulas as in transformers' modeling_rope_utils (linear, llama3).
import type { DecoderConfig } from './config.js';

/** Angular frequency θᵢ of each of the headDim/2 pairs. */
export function rotaryFrequencies(config: DecoderConfig): Float64Array {
  const half = config.headDim / 2;
  const scaling = config.ropeScaling;
  return Float64Array.from({ length: half }, (_, i) => {
    const plain = config.ropeTheta ** (-i / half);
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
export function rotaryTables(config: DecoderConfig, positions: number): { cos: Float32Array; sin: Float32Array } {
  const frequencies = rotaryFrequencies(config);
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
