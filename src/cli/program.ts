// argv → one verb → exit code. Loads only the verb that is asked for, so that --help stays quick.
import { Command, CommanderError } from 'commander';
import { describeError, formatError, UsageError } from './errors.js';
import { listenForInterrupt } from './interrupt.js';
import { createProgress } from './progress.js';
import { type OutputStream, wantsColour } from './terminal.js';
import type { AnyVerb, Context, VerbEntry, VerbGroup } from './verb.js';

export interface ProgramOptions {
  readonly version: string;
  readonly verbs: readonly VerbEntry[];
  /** Every first word of a two-word verb. */
  readonly groups?: readonly VerbGroup[];
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: NodeJS.ProcessEnv;
  /** Ends the process on the second Ctrl-C. */
  readonly exit: (code: number) => void;
}

/** Runs the command line; gives the exit code and never throws. `words` are argv without node and script. */
export async function runProgram(words: readonly string[], options: ProgramOptions): Promise<number> {
  const { stdout, stderr, env } = options;
  const argv = words[0] === 'help' && words.length > 1 ? [...words.slice(1), '--help'] : words;
  const json = argv.includes('--json');
  let exitCode = 0;
  const debug = (env.DISTILLOCK_DEBUG ?? '') !== '';
  try {
    const [first, second] = argv.filter((word) => !word.startsWith('-'));
    const asked = options.verbs.find(({ name }) => name === first || name === `${first} ${second}`);
    const verb = asked === undefined ? null : await asked.load();
    const program = createProgram(options, verb, json);
    if (argv.length === 0) {
      program.outputHelp();
      return 0;
    }
    const group = program.commands.find((command) => command.name() === first && command.commands.length > 0);
    if (group !== undefined && argv.length === 1) {
      group.outputHelp();
      return 0;
    }
    const own = verb === null ? undefined : findCommand(program, verb.name);
    await program.parseAsync(own === undefined ? argv : argv.map((word) => spellFlag(word, own)), { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const shown = error instanceof CommanderError ? usageError(error) : error;
    stderr.write(formatError(shown, { json, debug }));
    return describeError(shown).exitCode;
  }

  function createProgram(
    { version, verbs, groups = [] }: ProgramOptions,
    verb: AnyVerb | null,
    asJson: boolean,
  ): Command {
    const program = new Command('distillock')
      .description("Distils a student from a locked teacher on the data owner's device.")
      .version(version, '-V, --version', 'print the version')
      .helpOption('-h, --help', 'print help')
      .exitOverride()
      .configureOutput({
        writeOut: (text) => stdout.write(text),
        writeErr: (text) => stderr.write(text),
        // Errors are printed once, by formatError.
        outputError: () => {},
      })
      .addHelpText('after', '\nRun `distillock VERB --help` for the options and examples of a verb.');
    for (const { name, summary } of verbs) {
      const words = name.split(' ');
      const parent = words.length === 1 ? program : openGroup(program, words[0]!, groups);
      const command = parent.command(words.at(-1)!).summary(summary).description(summary);
      if (verb?.name === name) defineVerb(command, verb, asJson);
    }
    return program;
  }

  function openGroup(program: Command, name: string, groups: readonly VerbGroup[]): Command {
    const made = findCommand(program, name);
    if (made !== undefined) return made;
    const summary = groups.find((group) => group.name === name)?.summary ?? '';
    return program
      .command(name)
      .summary(summary)
      .description(summary)
      .usage('VERB [options]')
      .helpCommand(false)
      .addHelpText('after', `\nRun \`distillock ${name} VERB --help\` for the options and examples of a verb.`);
  }

  function defineVerb(command: Command, verb: AnyVerb, asJson: boolean): void {
    verb.define(command);
    command
      .option('--json', 'print the result as JSON on stdout, errors as JSON on stderr')
      .helpOption('-h, --help', 'print help')
      .addHelpText('after', examplesText(verb))
      .action(async () => {
        const { context, stop } = createContext(asJson);
        try {
          const result = await verb.run(command, context);
          if (asJson) stdout.write(`${JSON.stringify(result ?? null)}\n`);
        } finally {
          stop();
        }
      });
  }

  function createContext(asJson: boolean): { context: Context; stop: () => void } {
    const onFirst = (): unknown => stderr.write('\nstopping; Ctrl-C again stops at once\n');
    const interrupt = listenForInterrupt(onFirst, options.exit);
    const open: { stop(): void }[] = [];
    const context: Context = {
      json: asJson,
      colour: wantsColour(stdout, env),
      interactive: stderr.isTTY === true,
      signal: interrupt.signal,
      print: (text) => asJson || stdout.write(text.endsWith('\n') ? text : `${text}\n`),
      write: (text) => asJson || stdout.write(text),
      note: (text) => stderr.write(`${text}\n`),
      refuse: () => {
        exitCode = 1;
      },
      progress(title) {
        const progress = createProgress(title, stderr);
        open.push(progress);
        return progress;
      },
    };
    return {
      context,
      stop: () => {
        for (const progress of open) progress.stop();
        interrupt.stop();
      },
    };
  }
}

function findCommand(program: Command, name: string): Command | undefined {
  let found: Command | undefined = program;
  for (const word of name.split(' ')) found = found?.commands.find((command) => command.name() === word);
  return found;
}

function examplesText({ examples }: AnyVerb): string {
  if (examples.length === 0) return '';
  return `\nExamples:\n${examples.map(([line, meaning]) => `  # ${meaning}\n  ${line}`).join('\n')}\n`;
}

/** Settings are spelled with underscores, other options with dashes; either spelling is understood for both. */
function spellFlag(word: string, command: Command): string {
  const match = /^--([^=]+)(=.*)?$/s.exec(word);
  if (match === null) return word;
  const [, name = '', value = ''] = match;
  const same = (flag: string): string => flag.replaceAll('_', '-');
  const option = command.options.find(({ long }) => same(long ?? '') === same(`--${name}`));
  return (option?.long ?? `--${name}`) + value;
}

function usageError(error: CommanderError): UsageError {
  return new UsageError('usage', `${error.message.replace(/^error: /, '')}; see --help`, {}, error);
}
