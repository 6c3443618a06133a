// The bench command line: NAME, --runs, --json; a table with verdicts; exit code 1 when a bar is missed.
import { Command, CommanderError } from 'commander';
import { describeError, formatError, UsageError } from '../src/cli/errors.js';
import { wholeNumber } from '../src/cli/options.js';
import { renderTable } from '../src/cli/table.js';
import { formatNumber, type OutputStream, paint, wantsColour } from '../src/cli/terminal.js';
import { writeFileAtomic } from '../src/model/files.js';
import { MalformedError } from '../src/trusted/wire/errors.js';
import type { RunBench } from './bench.js';
import { type BenchReport, type BenchResult, benchReportSchema, type Machine, meetsBar } from './schema.js';

export interface BenchCommand {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: NodeJS.ProcessEnv;
  readonly list: () => Promise<readonly string[]>;
  readonly load: (name: string) => Promise<RunBench>;
  readonly machine: () => Machine;
}

/** Runs the command line; gives the exit code and never throws. */
export async function runBenchCommand(argv: readonly string[], command: BenchCommand): Promise<number> {
  const { stdout, stderr, env } = command;
  const program = new Command('bench')
    .description('Measures one thing; without a name lists what can be measured.')
    .argument('[name]', 'bench to run')
    .option('--json <file>', 'write the results here as JSON')
    .option('--runs <n>', 'counted runs to take the median of', wholeNumber(1, 1000), 5)
    .option('--seconds <n>', 'length of a timed load, where a bench has one', wholeNumber(1, 3600))
    .exitOverride()
    .configureOutput({ writeOut: (text) => stdout.write(text), outputError: () => {} });
  try {
    program.parse(argv, { from: 'user' });
    const [name] = program.args;
    const { json, runs, seconds } = program.opts<{
      readonly json?: string;
      readonly runs: number;
      readonly seconds?: number;
    }>();
    if (name === undefined) {
      for (const known of await command.list()) stdout.write(`${known}\n`);
      return 0;
    }
    const run = await command.load(name);
    const results = await run({
      runs,
      log: (line) => stderr.write(`${line}\n`),
      ...(seconds === undefined ? {} : { seconds }),
    });
    const report = checked({ name, date: new Date().toISOString(), machine: command.machine(), results });
    stdout.write(resultTable(report, wantsColour(stdout, env)));
    if (json !== undefined) await writeFileAtomic(json, `${JSON.stringify(report, null, 2)}\n`);
    return results.every(meetsBar) ? 0 : 1;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const shown =
      error instanceof CommanderError ? new UsageError('usage', error.message.replace(/^error: /, '')) : error;
    stderr.write(formatError(shown, { json: false, debug: (env.DISTILLOCK_DEBUG ?? '') !== '' }));
    return describeError(shown).exitCode;
  }
}

/** A bench whose own results break the schema is a defect of the bench. */
function checked(report: BenchReport): BenchReport {
  const result = benchReportSchema.safeParse(report);
  if (result.success) return report;
  const issue = result.error.issues[0]!;
  throw new MalformedError('bench-result', `${report.name}: ${issue.path.join('.')}: ${issue.message}`, {
    name: report.name,
  });
}

function resultTable({ name, machine, results }: BenchReport, colour: boolean): string {
  const columns = [
    { title: name },
    ...['median', 'min', 'max', 'runs', 'bar'].map((title) => ({ title, numeric: true })),
    { title: '' },
  ];
  const rows = results.map((result) => [
    `${result.metric} (${result.unit})`,
    ...[result.median, result.min, result.max, result.runs].map(formatNumber),
    result.bar === null ? '' : `${result.better === 'lower' ? '≤' : '≥'} ${formatNumber(result.bar)}`,
    verdict(result, colour),
  ]);
  const { cpu, cores, memory_gb, node, onnxruntime } = machine;
  const where = `${cpu}, ${cores} cores, ${memory_gb} GB, node ${node}, onnxruntime ${onnxruntime}`;
  return `${renderTable(columns, rows, colour)}${paint(colour, 'dim', where)}\n`;
}

function verdict(result: BenchResult, colour: boolean): string {
  if (result.bar === null) return '';
  return meetsBar(result) ? paint(colour, 'green', 'pass') : paint(colour, 'red', 'FAIL');
}
