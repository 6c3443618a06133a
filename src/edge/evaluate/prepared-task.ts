// A task ready to be put to any model: items as token ids. Zone: edge. Reading it finds every fault of the data before anything is charged.
import { encodeChoice, encodePrompt, type Wording } from './encode.js';
import { type ChoiceItem, type GenerationItem, readChoiceItems, readGenerationItems } from './items.js';
import { type LikelihoodPlan, planLikelihoods } from './likelihood-plan.js';
import type { Task } from './task.js';

interface Common {
  readonly task: Task;
  /** Documents whose prompt was cut from the left. */
  readonly cut: number;
}

export interface PreparedChoices extends Common {
  readonly kind: 'choices';
  readonly items: readonly ChoiceItem[];
  readonly plan: LikelihoodPlan;
}

export interface PreparedGeneration extends Common {
  readonly kind: 'generation';
  readonly items: readonly GenerationItem[];
  readonly prompts: readonly Int32Array[];
}

export type PreparedTask = PreparedChoices | PreparedGeneration;

/** The first `limit` documents of a task. Throws MalformedError naming file, line and field. */
export async function prepareTask(task: Task, wording: Wording, limit: number | null): Promise<PreparedTask> {
  if (task.outputType === 'generate_until') {
    const items = await readGenerationItems(task, limit);
    const encoded = items.map(({ prompt, document }) =>
      encodePrompt(wording, prompt, task.maxGenToks, document.origin),
    );
    const cut = encoded.filter((one) => one.cut).length;
    return { kind: 'generation', task, cut, items, prompts: encoded.map(({ ids }) => ids) };
  }
  const items = await readChoiceItems(task, limit);
  const encoded = items.map(({ prompt, choices, document }) =>
    choices.map((choice) => encodeChoice(wording, prompt, task.targetDelimiter, choice, document.origin)),
  );
  const cut = encoded.filter((choices) => choices.some((choice) => choice.cut)).length;
  return { kind: 'choices', task, cut, items, plan: planLikelihoods(encoded) };
}
