// Several bundles of one model put together: whatever one leaves open, in the basis and the order of token ids of another. Zone: owner (as
// attacker). Bundles have secrets of their own, but the weights beneath are the same, so parts that two leave open give the turn between
// their bases exactly (Gram matching, Procrustes), and every other part goes along. Collapse (arXiv 2609.10117) aligns re-locked views so.
import type { Student } from '../edge/train/student.js';
import type { DecoderConfig } from '../model/config.js';
import { type Alignment, alignBasis, type ItemSet } from './align-basis.js';
import { assembleClone, rebase, rebaseBlock, timesTransposed } from './assemble.js';
import { basesOf, EMBEDDING, inOrder, type OpenBasis, type OpenBundle, openTables } from './open-parts.js';

export interface Merged {
  /** In the basis of the first bundle's first open part, gains folded into their readers. Parts that no bundle gave are zero. */
  readonly model: Student;
  /** Blocks found. */
  readonly blocks: ReadonlySet<number>;
  /** Tables found, both in one order of rows. */
  readonly tables: ReadonlySet<string>;
  /** Turn [width, width] from the merged basis to each basis of the first bundle that could be tied to it, by number of the basis. */
  readonly turns: ReadonlyMap<number, Float64Array>;
}

/** One basis of one bundle. */
interface View extends OpenBasis {
  readonly bundle: number;
  readonly model: Student;
  readonly tables: readonly string[];
}

/** Squared distance of paired rows, as a share, between two locks of one model: rounding. */
const SAME_MODEL = 1e-6;

/** `bundles[0]` is the one whose basis the others are brought into. Null where it leaves nothing open that can be aligned. */
export async function mergeBundles(config: DecoderConfig, bundles: readonly OpenBundle[]): Promise<Merged | null> {
  const views = bundles.flatMap((bundle, i) => viewsOf(config, bundle, i));
  const first = views.find(({ bundle }) => bundle === 0);
  if (first === undefined) return null;
  const merging = new Merging(config, first);
  const waiting = new Set(views.filter((view) => view !== first));
  // A view may be tied to what another one has brought in.
  for (let grown = true; grown; ) {
    grown = false;
    for (const view of waiting) {
      if (!(await merging.add(view))) continue;
      waiting.delete(view);
      grown = true;
    }
  }
  return merging;
}

function viewsOf(config: DecoderConfig, bundle: OpenBundle, number: number): View[] {
  const model = assembleClone({ config, weights: bundle.weights }, new Map());
  rebase(model, 0, null);
  const readable = openTables(bundle);
  return basesOf(bundle).map((basis) => {
    const tables = readable.filter((name) => (name === EMBEDDING ? basis.embedding : basis.head));
    return { ...basis, bundle: number, model, tables };
  });
}

class Merging implements Merged {
  readonly model: Student;
  readonly blocks: Set<number> = new Set();
  readonly tables: Set<string> = new Set();
  readonly turns: Map<number, Float64Array> = new Map();
  readonly #width: number;
  readonly #neurons: string;
  /** Bundle whose ids the tables are in. */
  #ids: number | null = null;

  constructor(config: DecoderConfig, first: View) {
    this.model = assembleClone({ config, weights: new Map() }, new Map());
    this.#width = config.hiddenSize;
    this.#neurons = config.gatedMlp ? 'gate_proj' : 'up_proj';
    const width = this.#width;
    this.turns.set(
      first.basis,
      Float64Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0)),
    );
    this.#takeBlocks(first, null);
    for (const table of first.tables) this.#takeTable(first, table, null, null);
  }

  /** Brings a view in; false where it shares nothing with what is there, or is of another model. */
  async add(view: View): Promise<boolean> {
    const shared = view.tables.filter((table) => this.tables.has(table));
    const blocks = view.blocks.filter((block) => this.blocks.has(block));
    const sets = [
      ...(shared.length > 0 ? [this.#set(view, shared)] : []),
      ...blocks.map((b) => this.#set(view, [this.#nameOf(b)])),
    ];
    if (sets.length === 0) return false;
    const alignment = await alignBasis(sets, this.#width);
    if (!(alignment.distance < SAME_MODEL)) return false;
    if (view.bundle === 0) this.turns.set(view.basis, alignment.q);
    this.#takeBlocks(view, alignment.q);
    await this.#takeTables(view, alignment, shared.length > 0);
    return true;
  }

  #nameOf(block: number): string {
    return `model.layers.${block}.mlp.${this.#neurons}.weight`;
  }

  #set({ model }: View, names: readonly string[]): ItemSet {
    return {
      ancestor: names.map((name) => this.model.parameters.get(name)!.data),
      locked: names.map((name) => model.parameters.get(name)!.data),
    };
  }

  #takeBlocks({ model, blocks }: View, q: Float64Array | null): void {
    for (const block of blocks) {
      if (this.blocks.has(block)) continue;
      if (q !== null) rebaseBlock(model, block, q);
      for (const [name, { data }] of model.parameters)
        if (name.startsWith(`model.layers.${block}.`)) this.model.parameters.get(name)!.data.set(data);
      this.blocks.add(block);
    }
  }

  async #takeTables(view: View, { q, map }: Alignment, shared: boolean): Promise<void> {
    const missing = view.tables.filter((table) => !this.tables.has(table));
    if (missing.length === 0) return;
    // Ids of another bundle can be translated only by a table that both have.
    if (!shared && this.#ids !== null && this.#ids !== view.bundle) return;
    const order = shared && this.#ids !== view.bundle ? await map(0) : null;
    for (const table of missing) this.#takeTable(view, table, q, order);
  }

  #takeTable({ model, bundle }: View, table: string, q: Float64Array | null, order: Int32Array | null): void {
    const width = this.#width;
    const locked = model.parameters.get(table)!.data;
    const rows = q === null ? locked : timesTransposed(locked, q, width);
    this.model.parameters.get(table)!.data.set(order === null ? rows : inOrder(rows, order, width));
    this.tables.add(table);
    this.#ids ??= bundle;
  }
}
