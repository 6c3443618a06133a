// `--tasks text,classification=banking.jsonl,my-task.yaml`: which tasks are meant. Zone: edge.
import { extname, resolve } from 'node:path';
import { MalformedError } from '../../trusted/wire/errors.js';
import { TASKS, type Task } from './task.js';
import { readTaskFile } from './task-file.js';

/** Held-out text of the run's own data: perplexity, and KL and agreement with the teacher. */
export const TEXT_TASK = 'text';

export interface ChosenTasks {
  readonly text: boolean;
  readonly tasks: readonly Task[];
  /** Lines for the user about what was not read. */
  readonly notes: readonly string[];
}

/** Throws MalformedError('task-unknown') that lists what there is, 'task-twice' for two tasks of one name. */
export async function chooseTasks(words: readonly string[]): Promise<ChosenTasks> {
  const tasks: Task[] = [];
  const notes: string[] = [];
  for (const word of words) {
    if (word === TEXT_TASK) continue;
    const [kind, file] = word.split(/=(.*)/s, 2) as [string, string | undefined];
    if (file !== undefined && file !== '' && Object.hasOwn(TASKS, kind)) {
      tasks.push({ ...TASKS[kind]!.defaults, name: kind, dataset: resolve(file) });
    } else if (file === undefined && ['.yaml', '.yml', '.json'].includes(extname(word).toLowerCase())) {
      const { task, ignored } = await readTaskFile(word);
      if (ignored.length > 0) notes.push(`${word}: not read here: ${ignored.join(', ')}`);
      tasks.push(task);
    } else throw unknownTask(word);
  }
  const names = tasks.map(({ name }) => name);
  const twice = names.find((name, i) => name === TEXT_TASK || names.indexOf(name) < i);
  if (twice !== undefined) {
    const message = `two tasks are called "${twice}"; give one of them another name in a task file (task: …)`;
    throw new MalformedError('task-twice', message, { task: twice });
  }
  return { text: words.includes(TEXT_TASK), tasks, notes };
}

function unknownTask(word: string): MalformedError {
  const known = Object.keys(TASKS).map((name) => `${name}=FILE.jsonl`);
  const message = `there is no task "${word}"; give ${TEXT_TASK}, ${known.join(', ')}, or a task file (.yaml, .json)`;
  return new MalformedError('task-unknown', message, { task: word });
}
