// The matrices of a model, quantised with calibration text: block after block, each observed on what the quantised blocks before it hand
// over, so that later blocks take back what earlier ones lost (GPTQ, arXiv 2210.17323). Zone: owner, at lock time.
import { multiply } from '../graph/product.js';
import { Session } from '../graph/runtime.js';
import type { DecoderConfig } from '../model/config.js';
import { type ErrorFeedback, factorHessian } from '../model/error-feedback.js';
import { quantiseWithFeedback } from '../model/gptq.js';
import { type CalibrationStream, ObservedBlocks } from '../model/observed-blocks.js';
import { dequantiseBlocks } from '../model/quantise-blocks.js';
import type { Span } from '../model/spans.js';
import { blockTensors, type StoredTensor, storedTensors } from '../model/stored-weight.js';
import { buildFinalNorm } from '../model/streamed-graphs.js';
import { transposed, type WeightTile } from '../model/weight-tiles.js';
import { embeddingWeight, headWeight, positionsWeight, type SegmentWeight } from '../model/weights.js';

/** The model to be quantised, as its spans will hold it. */
export interface CalibrationSource {
  readonly config: DecoderConfig;
  readonly spans: readonly Span[];
  readonly bits: 4 | 8;
  readonly denseOutputGains: boolean;
  /** Token sequences of equal length, in the original vocabulary. */
  readonly sequences: readonly Int32Array[];
  weightOf(weight: SegmentWeight, span: Span): Promise<Float32Array>;
  /** Tiles of the embedding; whole rows. */
  embeddingTiles(weight: SegmentWeight, span: Span): AsyncIterable<WeightTile>;
  /** Rows of the embedding that a span keeps tokens in. */
  rowOf(token: number, span: Span): number;
  /** [width, width]: takes hidden states of a span into the basis of the next; null where it is the same. */
  exitChange(span: Span): Promise<Float32Array | null>;
  /** Called between pieces of work; what it throws ends the calibration. */
  onStep?(): void;
}

export class CalibratedWeights {
  readonly #source: CalibrationSource;
  readonly #blocks: ObservedBlocks;
  readonly #tokens: number;
  /** Hidden states before block `block`; the last value is the number of blocks: after the final norm. */
  #reached: { readonly block: number; readonly hidden: Float32Array } | null = null;
  /** Of the block before that. */
  #stored = new Map<string, readonly StoredTensor[]>();

  constructor(source: CalibrationSource) {
    this.#source = source;
    this.#blocks = new ObservedBlocks(source.config, { denseOutputGains: source.denseOutputGains });
    this.#tokens = source.sequences[0]!.length;
  }

  /** What a matrix of an accelerator span is stored as; null for what is not quantised: vectors and tables. Blocks in order, then the head. */
  async tensorsOf(weight: SegmentWeight, span: Span): Promise<readonly StoredTensor[] | null> {
    if ((weight.format ?? 'float32') === 'float32') return null;
    if (weight.block !== null) {
      await this.#reach(weight.block + 1);
      return this.#stored.get(weight.name)!;
    }
    const { hidden } = await this.#reach(this.#source.config.numHiddenLayers);
    const width = weight.shape[0]!;
    const rows = hidden.length / width;
    const columns = transposed(hidden, rows, width);
    const hessian = await multiply(columns, hidden, { rows: width, inner: rows, columns: width });
    return this.#quantise(weight, await this.#source.weightOf(weight, span), await factorHessian(hessian, width));
  }

  close(): Promise<void> {
    return this.#blocks.close();
  }

  async #quantise(weight: SegmentWeight, data: Float32Array, feedback: ErrorFeedback): Promise<readonly StoredTensor[]> {
    const { bits } = this.#source;
    return blockTensors(weight, bits, await quantiseWithFeedback(data, weight.shape[1]!, bits, feedback));
  }

  async #reach(block: number): Promise<{ readonly block: number; readonly hidden: Float32Array }> {
    this.#reached ??= { block: 0, hidden: await this.#embed() };
    while (this.#reached.block < block) {
      this.#source.onStep?.();
      const hidden = await this.#through(this.#reached.block, this.#reached.hidden);
      this.#reached = { block: this.#reached.block + 1, hidden };
    }
    return this.#reached;
  }

  async #embed(): Promise<Float32Array> {
    const { config, spans, sequences, rowOf, embeddingTiles, weightOf } = this.#source;
    const span = spans[0]!;
    const width = config.hiddenSize;
    const rows = sequences.flatMap((ids) => Array.from(ids, (id) => rowOf(id, span)));
    const hidden = new Float32Array(rows.length * width);
    const table = embeddingWeight(config);
    for await (const { row, rows: count, column, columns, data } of embeddingTiles(table, span)) {
      rows.forEach((wanted, i) => {
        if (wanted < row || wanted >= row + count) return;
        hidden.set(data.subarray((wanted - row) * columns, (wanted - row + 1) * columns), i * width + column);
      });
    }
    if (config.positions === 'learned') {
      const positions = await weightOf(positionsWeight(config), span);
      for (let i = 0; i < hidden.length; i += 1) hidden[i]! += positions[i % (this.#tokens * width)]!;
    }
    return this.#leave(span, span.first === span.end, hidden);
  }

  /** Hidden states after a block, quantised first where it lies on the accelerator. */
  async #through(index: number, hidden: Float32Array): Promise<Float32Array> {
    const { spans, weightOf } = this.#source;
    const span = spans.find(({ first, end }) => index >= first && index < end)!;
    const stream: CalibrationStream = { tokens: this.#tokens, hidden };
    const weights = new Map<string, Float32Array>();
    const list = this.#blocks.weightsOf(index);
    for (const weight of list) weights.set(weight.name, await weightOf(weight, span));
    const given = ({ name }: SegmentWeight): Float32Array => weights.get(name)!;
    if (span.place === 'accelerator') {
      const hessians = await this.#blocks.observe(index, given, stream);
      const factors = new Map<Float32Array, ErrorFeedback>();
      this.#stored = new Map();
      for (const weight of list) {
        const hessian = hessians.get(weight.name);
        if (hessian === undefined) continue;
        this.#source.onStep?.();
        const [inputs, outputs] = weight.shape as [number, number];
        const feedback = factors.get(hessian) ?? (await factorHessian(hessian, inputs));
        factors.set(hessian, feedback);
        const { bits } = this.#source;
        const quantised = await quantiseWithFeedback(given(weight), outputs, bits, feedback);
        this.#stored.set(weight.name, blockTensors(weight, bits, quantised));
        weights.set(weight.name, dequantiseBlocks(quantised, inputs, outputs));
      }
    }
    return this.#leave(span, index + 1 === span.end, await this.#blocks.run(index, given, stream));
  }

  /** Hidden states as the next span reads them, where this one has ended. */
  async #leave(span: Span, ended: boolean, hidden: Float32Array): Promise<Float32Array> {
    if (!ended) return hidden;
    const { config, exitChange, weightOf } = this.#source;
    const width = config.hiddenSize;
    const rows = hidden.length / width;
    let handed = hidden;
    if (span.finalNorm) {
      const { model, weights } = buildFinalNorm(config);
      const session = await Session.open(model, { spin: false });
      const { weight, inputs } = weights[0]!;
      const gain = { data: await weightOf(weight, span), shape: weight.shape };
      const out = await session.run({ hidden: { data: hidden, shape: [rows, width] }, [inputs[0]!.name]: gain });
      handed = out['mapped']!.data as Float32Array;
      await session.close();
    }
    const change = await exitChange(span);
    return change === null ? handed : multiply(handed, change, { rows, inner: width, columns: width });
  }
}
