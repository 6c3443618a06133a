// Documents → items: the prompt of each, what may be chosen, and what is right. Zone: edge.
import { MalformedError } from '../../trusted/wire/errors.js';
import { fieldError, fieldName, fieldValue, textOf, textsOf } from './document-fields.js';
import { readDocuments, type TaskDocument } from './read-documents.js';
import type { Task } from './task.js';

export interface ChoiceItem {
  readonly document: TaskDocument;
  readonly prompt: string;
  readonly choices: readonly string[];
  /** Index of the right choice. */
  readonly target: number;
}

export interface GenerationItem {
  readonly document: TaskDocument;
  readonly prompt: string;
  /** Null where nothing is compared. */
  readonly target: string | null;
}

export async function readChoiceItems(task: Task, limit: number | null): Promise<ChoiceItem[]> {
  // All labels of the file are choices, however few documents are asked.
  const documents = await readDocuments(task.dataset, null);
  const labels = task.outputType === 'classification' ? labelsOf(task, documents) : null;
  const before = await promptOpening(task, (shot) => {
    const choices = choicesOf(task, shot, labels);
    return choices[targetOf(task, shot, choices)]!;
  });
  return documents.slice(0, limit ?? documents.length).map((document) => {
    const choices = choicesOf(task, document, labels);
    const prompt = before + textOf(document, task.docToText);
    return { document, prompt, choices, target: targetOf(task, document, choices) };
  });
}

export async function readGenerationItems(task: Task, limit: number | null): Promise<GenerationItem[]> {
  const { docToTarget } = task;
  const documents = await readDocuments(task.dataset, limit);
  const before = await promptOpening(task, (shot) => textOf(shot, docToTarget!));
  return documents.map((document) => {
    const target = docToTarget === null ? null : textOf(document, docToTarget);
    return { document, prompt: before + textOf(document, task.docToText), target };
  });
}

/** Description and solved examples, as lm-eval joins them. */
async function promptOpening(task: Task, answerOf: (shot: TaskDocument) => string): Promise<string> {
  const { description, fewshot, targetDelimiter } = task;
  if (fewshot === null) return description;
  const shots = await readDocuments(fewshot.file, fewshot.count);
  if (shots.length < fewshot.count) {
    const message = `${fewshot.file}: has ${shots.length} examples and num_fewshot is ${fewshot.count}`;
    throw new MalformedError('task-fewshot', message, { file: fewshot.file });
  }
  const solved = shots.map(
    (shot) => textOf(shot, task.docToText) + targetDelimiter + answerOf(shot) + fewshot.delimiter,
  );
  return description + solved.join('');
}

function labelsOf({ dataset, docToTarget, docToChoice }: Task, documents: readonly TaskDocument[]): readonly string[] {
  if (docToChoice !== null && typeof docToChoice !== 'string') return docToChoice;
  const labels = [...new Set(documents.map((document) => textOf(document, docToTarget!)))].sort();
  if (labels.length >= 2) return labels;
  const message = `${dataset}: a classification needs two labels and the file has ${labels.length}; name all of them in doc_to_choice`;
  throw new MalformedError('task-labels', message, { file: dataset });
}

function choicesOf({ docToChoice }: Task, document: TaskDocument, labels: readonly string[] | null): readonly string[] {
  if (labels !== null) return labels;
  return typeof docToChoice === 'string' ? textsOf(document, docToChoice) : docToChoice!;
}

/** A number is an index from 0; text is one of the choices, or else such a number. */
function targetOf({ docToTarget }: Task, document: TaskDocument, choices: readonly string[]): number {
  const value = fieldValue(document, docToTarget!);
  const asText = typeof value === 'string' ? choices.indexOf(value) : -1;
  if (asText >= 0) return asText;
  const index =
    typeof value === 'number' ? value : typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : -1;
  if (Number.isInteger(index) && index >= 0 && index < choices.length) return index;
  const shown = choices.slice(0, 5).map((choice) => JSON.stringify(choice));
  const more = choices.length > 5 ? ` and ${choices.length - 5} more` : '';
  const problem = `is ${JSON.stringify(value)}, which is not among the choices ${shown.join(', ')}${more}`;
  throw fieldError(document, fieldName(docToTarget!), problem, 'task-label');
}
