// The matrices of a model, quantised with calibration text: matrix after matrix, each observed on what those before it hand over now and on
// what they handed over before, so that later ones take back what earlier ones lost (GPTQ, arXiv 2210.17323; GPTAQ, arXiv 2504.02692).
// Zone: owner, at lock time.
import { multiply } from '../graph/product.js';
import { Session } from '../graph/runtime.js';
import type { DecoderConfig } from '../model/config.js';
import { correctedWeight, type ErrorFeedback, factorHessian } from '../model/error-feedback.js';
import { quantiseWithFeedback } from '../model/gptq.js';
import { type CalibrationStream, ObservedBlocks } from '../model/observed-blocks.js';
import { type BlockWeight, dequantiseBlocks } from '../model/quantise-blocks.js';
import type { Span } from '../model/spans.js';
import { blockTensors, type StoredTensor } from '../model/stored-weight.js';
import { buildFinalNorm } from '../model/streamed-graphs.js';
import { transposed, type WeightTile } from '../model/weight-tiles.js';
import { embeddingWeight, positionsWeight, type SegmentWeight } from '../model/weights.js';
import { MalformedError } from '../trusted/wire/errors.js';
import type { CalibrationState, ReachedBlock } from './calibration-state.js';

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
  /** Where a lock that may be killed keeps how far it is. */
  readonly state?: CalibrationState;
  /** Called between pieces of work; what it throws ends the calibration. */
  onStep?(): void;
}

/** A block's matrices, quantised, and what comes out of it. */
interface QuantisedBlock {
  readonly block: number;
  readonly tensors: ReadonlyMap<string, readonly StoredTensor[]>;
  readonly next: ReachedBlock;
}

export class CalibratedWeights {
  readonly #source: CalibrationSource;
  readonly #blocks: ObservedBlocks;
  readonly #tokens: number;
  #last: QuantisedBlock | null = null;

  /** Throws MalformedError('calibration-sequences'). */
  constructor(source: CalibrationSource) {
    this.#source = source;
    this.#blocks = new ObservedBlocks(source.config, { denseOutputGains: source.denseOutputGains });
    this.#tokens = lengthOf(source);
  }

  /**
   * What a matrix with an integer format, of an accelerator span, is stored as. Fastest when asked for block after block, the head last.
   * Memory: one block in float32, twice, the hidden states of the text, three times, and four squares of its widest input's size.
   */
  async tensorsOf(weight: SegmentWeight, span: Span): Promise<readonly StoredTensor[]> {
    if (weight.block !== null) return (await this.#through(weight.block)).tensors.get(weight.name)!;
    const { config, weightOf } = this.#source;
    const { hidden, original } = halves(await this.#before(config.numHiddenLayers));
    const width = weight.shape[0]!;
    const shape = { rows: width, inner: hidden.length / width, columns: width };
    const columns = transposed(hidden, shape.inner, width);
    const lost = original.map((x, i) => x - hidden[i]!);
    const shift = await multiply(columns, lost, shape);
    const feedback = await factorHessian(await multiply(columns, hidden, shape), width);
    const rounded = await this.#round(weight, await weightOf(weight, span), shift, feedback);
    return blockTensors(weight, this.#source.bits, rounded);
  }

  close(): Promise<void> {
    return this.#blocks.close();
  }

  /** Rounded so that the layer's outputs stay near what they were, although its inputs have changed. */
  async #round(
    weight: SegmentWeight,
    data: Float32Array,
    shift: Float32Array,
    feedback: ErrorFeedback,
  ): Promise<BlockWeight> {
    this.#source.onStep?.();
    const outputs = weight.shape[1]!;
    const target = await correctedWeight(data, outputs, shift, feedback);
    return quantiseWithFeedback(target, outputs, this.#source.bits, feedback);
  }

  /** Hidden states before a block, or with the number of blocks: what the head reads. */
  async #before(block: number): Promise<ReachedBlock> {
    let reached = this.#last === null || this.#last.block >= block ? await this.#start(block) : this.#last.next;
    while (reached.block < block) reached = (await this.#quantise(reached)).next;
    return reached;
  }

  async #start(block: number): Promise<ReachedBlock> {
    const { config, sequences, state } = this.#source;
    const saved = await state?.load(2 * sequences.length * this.#tokens * config.hiddenSize);
    return saved && saved.block <= block ? saved : { block: 0, hidden: await this.#embed() };
  }

  async #through(block: number): Promise<QuantisedBlock> {
    if (this.#last?.block !== block) this.#last = await this.#quantise(await this.#before(block));
    return this.#last;
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
    const left = await this.#leave(span, span.first === span.end, hidden);
    return joined(left, left);
  }

  /** Quantises a block, where it lies on the accelerator, and passes the text through it: as it was, and as it has become. */
  async #quantise(reached: ReachedBlock): Promise<QuantisedBlock> {
    const { spans, bits, weightOf, state } = this.#source;
    const { block } = reached;
    await state?.save(reached);
    const span = spans.find(({ first, end }) => block >= first && block < end)!;
    const before = halves(reached);
    const given = new Map<string, Float32Array>();
    for (const weight of this.#blocks.weightsOf(block)) given.set(weight.name, await weightOf(weight, span));
    const become = new Map(given);
    const streamOf = (data: ReadonlyMap<string, Float32Array>, hidden: Float32Array): CalibrationStream => ({
      weightOf: ({ name }) => data.get(name)!,
      tokens: this.#tokens,
      hidden,
    });
    const original = streamOf(given, before.original);
    const stream = streamOf(become, before.hidden);
    const tensors = new Map<string, readonly StoredTensor[]>();
    for (const readers of span.place === 'accelerator' ? this.#blocks.readersOf(block) : []) {
      const { hessian, shift } = await this.#blocks.observe(block, readers[0]!, stream, original);
      const feedback = await factorHessian(hessian, readers[0]!.shape[0]!);
      for (const weight of readers) {
        const [inputs, outputs] = weight.shape as [number, number];
        const rounded = await this.#round(weight, given.get(weight.name)!, shift, feedback);
        tensors.set(weight.name, blockTensors(weight, bits, rounded));
        become.set(weight.name, dequantiseBlocks(rounded, inputs, outputs));
      }
    }
    const ended = block + 1 === span.end;
    const after = await this.#leave(span, ended, await this.#blocks.run(block, stream));
    const afterOriginal = await this.#leave(span, ended, await this.#blocks.run(block, original));
    return { block, tensors, next: { block: block + 1, hidden: joined(after, afterOriginal) } };
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

/** Hidden states behind the quantised blocks, and in the model as it was: one after the other where they are kept. */
function joined(hidden: Float32Array, original: Float32Array): Float32Array {
  const both = new Float32Array(2 * hidden.length);
  both.set(hidden);
  both.set(original, hidden.length);
  return both;
}

function halves({ hidden }: ReachedBlock): { readonly hidden: Float32Array; readonly original: Float32Array } {
  return { hidden: hidden.subarray(0, hidden.length / 2), original: hidden.subarray(hidden.length / 2) };
}

/** The length that all sequences have. */
function lengthOf({ config, sequences }: CalibrationSource): number {
  const length = sequences[0]?.length ?? 0;
  const known = (id: number): boolean => id >= 0 && id < config.vocabSize;
  if (length > 0 && sequences.every((ids) => ids.length === length && ids.every(known))) return length;
  const message = `calibration wants sequences of one length, of ids below ${config.vocabSize}; got ${sequences.length} sequences`;
  throw new MalformedError('calibration-sequences', message, { sequences: sequences.length });
}
