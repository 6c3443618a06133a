// npm run bench -- NAME [--json FILE] [--runs N]
import { listBenches, loadBench } from './bench.js';
import { runBenchCommand } from './command.js';
import { describeMachine } from './machine.js';

process.exitCode = await runBenchCommand(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  list: listBenches,
  load: loadBench,
  machine: describeMachine,
});
