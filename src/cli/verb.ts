// What a verb is: its options and help, and what it does. One file per verb in verbs/, listed in verbs/table.ts.
import type { Command } from 'commander';
import type { Progress } from './progress.js';

/** What an action may use of the outside world. */
export interface Context {
  readonly json: boolean;
  /** Colour on stdout. */
  readonly colour: boolean;
  /** Aborted by Ctrl-C; stop where the work can be resumed and throw `signal.reason`. */
  readonly signal: AbortSignal;
  /** A line of result on stdout; nothing with --json. */
  print(text: string): void;
  /** Text as it comes on stdout, without a line break (generation); nothing with --json. */
  write(text: string): void;
  /** Whether somebody may be watching stderr. */
  readonly interactive: boolean;
  /** A line of information on stderr. */
  note(text: string): void;
  progress(title: string): Progress;
  /** The result is an answer, but "no": it is printed as usual, and the exit code is 1. */
  refuse(): void;
}

/** A verb without its action. */
export interface VerbHelp<Options> {
  /** One word, or a group and a word: `attest verify`. */
  readonly name: string;
  readonly summary: string;
  /** Shown at the end of --help. */
  readonly examples: readonly (readonly [command: string, meaning: string])[];
  /** Declares arguments and options. */
  define(command: Command): void;
  /** Typed options. Throws UsageError when they do not make sense together. */
  parse(command: Command): Options;
}

/** A verb that can be run. What `run` returns is the result that --json prints. */
export interface Verb<Options> extends VerbHelp<Options> {
  run(options: Options, context: Context): Promise<unknown>;
}

/** A verb whose options nobody else needs to know. */
export interface AnyVerb {
  readonly name: string;
  readonly summary: string;
  readonly examples: readonly (readonly [command: string, meaning: string])[];
  define(command: Command): void;
  run(command: Command, context: Context): Promise<unknown>;
}

export function anyVerb<Options>(verb: Verb<Options>): AnyVerb {
  return {
    name: verb.name,
    summary: verb.summary,
    examples: verb.examples,
    define: (command) => verb.define(command),
    run: async (command, context) => verb.run(verb.parse(command), context),
  };
}

/** A line of the verb table: enough for `distillock --help` without loading the verb. */
export interface VerbEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<AnyVerb>;
}

/** The first word of verbs whose names have two, such as `licence` of `licence serve`. */
export interface VerbGroup {
  readonly name: string;
  readonly summary: string;
}
