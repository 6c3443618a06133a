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
  /** Token embedding of the graph's input ids, and of their positions where those are learned. */
  embed(name: string): Value;
  /** The stream with what is pending added, for whoever goes on with it: the next span, or a sublayer without a norm before it. */
  sum(stream: Stream): Value;
  /** Adds what is pending, then normalises: the new residual and its normalised copy. */
  norm(stream: Stream, name: string): { normed: Value; residual: Value };
  /** Self-attention of block `index`, projections included. */
  attention(x: Value, index: number): Value;
  /** Feed-forward of block `index`: down(act(gate(x)) · up(x)), or down(act(up(x))). */
  feedForward(x: Value, index: number): Value;
  /** Norm of a sublayer's output, before it is added to the residual. */
  outputNorm(x: Value, name: string, index: number): Value;
}

export type Sublayer = 'attention' | 'feedForward';

/** Checkpoint name of a block's part. */
export function blockName(index: number, part: string): string {
  return `model.layers.${index}.${part}`;
}

/** Names of the norms around a sublayer, null where the family has none; without `.weight`. */
export function normNames(
  norms: DecoderConfig['norms'],
  index: number,
  sublayer: Sublayer,
): { readonly before: string | null; readonly after: string | null } {
  const name = (part: string): string => blockName(index, part);
  const first = sublayer === 'attention';
  const after = name(first ? 'post_attention_layernorm' : 'post_feedforward_layernorm');
  if (norms === 'post') return { before: null, after };
  if (norms === 'both') return { before: name(first ? 'input_layernorm' : 'pre_feedforward_layernorm'), after };
  return { before: name(first ? 'input_layernorm' : 'post_attention_layernorm'), after: null };
}

function sublayer(layers: Layers, config: DecoderConfig, index: number, kind: Sublayer, stream: Stream): Stream {
  const { before, after } = normNames(config.norms, index, kind);
  const whole = before === null ? layers.sum(stream) : null;
  const input = whole === null ? layers.norm(stream, before!) : { normed: whole, residual: whole };
  const output = kind === 'attention' ? layers.attention(input.normed, index) : layers.feedForward(input.normed, index);
  return { residual: input.residual, pending: after === null ? output : layers.outputNorm(output, after, index) };
}

/** One block: attention, then feed-forward, each added to the residual. */
export function decoderBlock(layers: Layers, config: DecoderConfig, index: number, stream: Stream): Stream {
  const mixed = sublayer(layers, config, index, 'attention', stream);
  return sublayer(layers, config, index, 'feedForward', mixed);
}

/** What one span of a plan computes: `entry` is the stream handed over, or null where the span embeds. */
export function decoderSpan(
  layers: Layers,
  config: DecoderConfig,
  { first, end, finalNorm }: Pick<Span, 'first' | 'end' | 'finalNorm'>,
  entry: Value | null = null,
): Value {
  let stream: Stream = { residual: entry ?? layers.embed('model.embed_tokens'), pending: null };
  for (let i = first; i < end; i += 1) stream = decoderBlock(layers, config, i, stream);
  return finalNorm ? layers.norm(stream, 'model.norm').normed : layers.sum(stream);
}

/** Embedding, all blocks and the final norm: the hidden states that the head reads. */
export function decoderBody(layers: Layers, config: DecoderConfig): Value {
  return decoderSpan(layers, config, { first: 0, end: config.numHiddenLayers, finalNorm: true });
}
