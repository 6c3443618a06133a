// The decoder, defined once: how blocks are put together, whatever they are lowered to.
// Zone: edge and owner. `ForwardLayers` lowers to the runtime's fused operators, `TrainingLayers` to differentiable ones.
import type { Value } from '../graph/graph.js';
import type { DecoderConfig } from './config.js';
import type { Span } from './spans.js';

/** The residual stream: `pending` is the last sub-layer's output, not yet added, so that add and norm can be fused. */
export interface Stream {
  readonly residual: Value;
  readonly pending: Value | null;
}

/** What a decoder is made of. Names are checkpoint names without `.weight` / `.bias`. */
export interface Layers {
  /** Token embedding of the graph's input ids. */
  embed(name: string): Value;
  /** The stream with what is pending added, for whoever goes on with it. */
  sum(stream: Stream): Value;
  /** Adds what is pending, then normalises: the new residual and its normalised copy. */
  norm(stream: Stream, name: string): { normed: Value; residual: Value };
  /** Self-attention of block `index`, projections included. */
  attention(x: Value, index: number): Value;
  /** Gated feed-forward of block `index`: down(silu(gate(x)) · up(x)). */
  gatedMlp(x: Value, index: number): Value;
}

/** Checkpoint name of a block's part. */
export function blockName(index: number, part: string): string {
  return `model.layers.${index}.${part}`;
}

/** One pre-norm block (llama, mistral, qwen2). */
export function decoderBlock(layers: Layers, index: number, stream: Stream): Stream {
  const before = layers.norm(stream, blockName(index, 'input_layernorm'));
  const mixed = layers.attention(before.normed, index);
  const after = layers.norm(
    { residual: before.residual, pending: mixed },
    blockName(index, 'post_attention_layernorm'),
  );
  return { residual: after.residual, pending: layers.gatedMlp(after.normed, index) };
}

/** What one span of a plan computes: `entry` is the stream handed over, or null where the span embeds. */
export function decoderSpan(
  layers: Layers,
  { first, end, finalNorm }: Pick<Span, 'first' | 'end' | 'finalNorm'>,
  entry: Value | null = null,
): Value {
  let stream: Stream = { residual: entry ?? layers.embed('model.embed_tokens'), pending: null };
  for (let i = first; i < end; i += 1) stream = decoderBlock(layers, i, stream);
  return finalNorm ? layers.norm(stream, 'model.norm').normed : layers.sum(stream);
}

/** Embedding, all blocks and the final norm: the hidden states that the head reads. */
export function decoderBody(layers: Layers, config: DecoderConfig): Value {
  return decoderSpan(layers, { first: 0, end: config.numHiddenLayers, finalNorm: true });
}
