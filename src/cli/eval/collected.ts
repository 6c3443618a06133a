// Results as models finish tasks: kept for the table, and written to the predictions file. Zone: edge.
import { Predictions } from '../../edge/evaluate/predictions.js';
import { type DocumentResult, summarise } from '../../edge/evaluate/results.js';
import type { EvalCell, EvalMeasure, ModelRole } from '../verbs/eval.js';

export class Collected {
  readonly #byTask: Map<string, Map<ModelRole, readonly DocumentResult[]>> = new Map();
  readonly #file: string | null;
  #predictions: Predictions | null = null;

  /** `file`: of the predictions, or null. */
  constructor(file: string | null) {
    this.#file = file;
  }

  /** Opens the predictions file: after everything else that can be refused, before anything is charged. */
  async start(): Promise<void> {
    if (this.#file !== null) this.#predictions = await Predictions.open(this.#file);
  }

  async close(): Promise<void> {
    await this.#predictions?.close();
  }

  async add(task: string, role: ModelRole, results: readonly DocumentResult[]): Promise<void> {
    const models = this.#byTask.get(task) ?? new Map<ModelRole, readonly DocumentResult[]>();
    this.#byTask.set(task, models.set(role, results));
    await this.#predictions?.write(task, role, results);
  }

  of(task: string, role: ModelRole): readonly DocumentResult[] | undefined {
    return this.#byTask.get(task)?.get(role);
  }

  /** A line for each measure of each task, in the order of `tasks`. */
  measures(tasks: readonly string[], seed: number): EvalMeasure[] {
    return tasks.flatMap((task) => {
      const lines = new Map<string, Partial<Record<ModelRole, EvalCell>>>();
      // A student has every measure of a text, its teacher some: the longest list gives the order.
      const models = [...(this.#byTask.get(task) ?? [])].map(([role, all]) => [role, summarise(all, seed)] as const);
      models.sort(([, a], [, b]) => Object.keys(b).length - Object.keys(a).length);
      for (const [role, measures] of models)
        for (const [measure, cell] of Object.entries(measures))
          lines.set(measure, { ...lines.get(measure), [role]: cell });
      return [...lines].map(([measure, cells]) => {
        return { task, measure, documents: Object.values(cells)[0]!.documents, models: cells };
      });
    });
  }
}
