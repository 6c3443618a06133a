// Every prediction as a line of JSON: task, doc_id, model, and what that model made of the document. Zone: edge.
// Lines are written as models finish tasks; the file holds prompts and answers, and stays on this device.
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeFileError } from '../../model/files.js';
import type { DocumentResult } from './results.js';

export class Predictions {
  readonly #file: string;
  readonly #handle: FileHandle;

  private constructor(file: string, handle: FileHandle) {
    this.#file = file;
    this.#handle = handle;
  }

  /** Replaces what `file` held. Throws EnvironmentError when it cannot be written. */
  static async open(file: string): Promise<Predictions> {
    try {
      await mkdir(dirname(file), { recursive: true });
      return new Predictions(file, await open(file, 'w'));
    } catch (error) {
      throw describeFileError(error, file, 'write');
    }
  }

  /** `doc_id` counts a task's documents from 0, as in lm-eval. */
  async write(task: string, model: string, results: readonly DocumentResult[]): Promise<void> {
    const lines = results.map(
      ({ prediction }, doc_id) => `${JSON.stringify({ task, doc_id, model, ...prediction })}\n`,
    );
    try {
      await this.#handle.appendFile(lines.join(''));
    } catch (error) {
      throw describeFileError(error, this.#file, 'write');
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
