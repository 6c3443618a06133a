// The body of `distillock audit`: opens what is attacked and the original, runs every attack with its control against each bundle behind
// an enclave of its own, and writes what came out. Zone: owner; everything stays in a temporary folder, which goes away.
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Attack } from '../../audit/attack.js';
import { ATTACKS } from '../../audit/attacks/index.js';
import { severalBundles } from '../../audit/attacks/several-bundles.js';
import { chooseAttacks } from '../../audit/choose-attacks.js';
import { type Lab, openLab } from '../../audit/lab.js';
import { NO_SHIELD } from '../../audit/measure.js';
import type { OpenBundle } from '../../audit/open-parts.js';
import { type Probe, runProbes } from '../../audit/probe.js';
import { PROBES } from '../../audit/probes/index.js';
import { AUDIT_FORMAT, AUDIT_VERSION, type AuditReport, type ProbeRow } from '../../audit/report.js';
import { reportRows } from '../../audit/report-rows.js';
import { auditTarget, type Finding, type Lines, sharedRuns } from '../../audit/run-audit.js';
import { bundleTarget, type Target, unlockedTarget } from '../../audit/target.js';
import { openUnlockedModel, type UnlockedModel } from '../../edge/teacher/unlocked-model.js';
import { openCheckpoint } from '../../model/checkpoint/open.js';
import { writeFileAtomic } from '../../model/files.js';
import { InterruptedError } from '../errors.js';
import { licenseHere, startUnlicensed } from '../experiment/on-one-machine.js';
import { renderReport } from '../report/page.js';
import type { Context } from '../verb.js';
import type { AuditVerbOptions } from '../verbs/audit.js';
import { describeMachine, programVersion } from './about.js';
import { readAlso } from './also.js';
import { readAncestor } from './ancestor.js';
import { type AuditTexts, checkedText, readAuditTexts } from './audit-texts.js';
import { type AuditedBundle, asAudited, checkOriginal, lockAll, openGiven } from './audited-bundles.js';
import { commandOf } from './command-of.js';
import { auditPage, auditText } from './present.js';

export async function runAudit(options: AuditVerbOptions, context: Context): Promise<AuditReport> {
  const started = performance.now();
  const chosen = chooseAttacks<{ readonly name: string }>(options.attacks, [...ATTACKS, ...PROBES]);
  const attacks = ATTACKS.filter((attack) => chosen.includes(attack)).filter(
    ({ name, adversary }) =>
      (adversary !== 'ancestor' || options.ancestor !== null) &&
      (!name.startsWith(severalBundles.name) || options.also.length > 0),
  );
  const probes = PROBES.filter((probe) => chosen.includes(probe));
  const folder = await mkdtemp(join(tmpdir(), 'distillock-audit-'));
  // A second Ctrl-C ends the process at once; what was locked here goes all the same.
  const sweep = (): void => rmSync(folder, { recursive: true, force: true });
  process.once('exit', sweep);
  try {
    const opened = await openAll(options, folder, context);
    try {
      const learningRate = options.learningRate ?? standardRate(opened.original.config.hiddenSize);
      const { findings, lines } = await attackAll(options, opened, { attacks, learningRate }, context);
      const probed = await probeAll(opened, probes, context);
      const report = reportOf(options, opened, { findings, lines, probed }, { attacks, learningRate, started });
      await present(report, options, context);
      return report;
    } finally {
      await opened.original.close();
    }
  } catch (error) {
    // The usual hint is about training runs.
    if (context.signal.aborted)
      throw new InterruptedError('Nothing is kept: an audit starts again from the beginning.');
    throw error;
  } finally {
    process.off('exit', sweep);
    await rm(folder, { recursive: true, force: true });
  }
}

/** What black-box students of small and of usual widths learn well at. */
function standardRate(width: number): number {
  return width <= 128 ? 5e-3 : 1e-3;
}

interface Opened {
  readonly original: UnlockedModel;
  readonly bundles: readonly AuditedBundle[];
  readonly texts: AuditTexts;
  readonly lab: Lab;
  readonly control: Target;
  readonly also: readonly OpenBundle[];
  readonly topK: number;
  readonly folder: string;
}

async function openAll(options: AuditVerbOptions, folder: string, context: Context): Promise<Opened> {
  const { bundle, keys, model, topK: asked } = options;
  // Before the original is opened, which may take a while.
  const given = bundle === null ? null : await openGiven(bundle, keys!);
  context.note(`reading ${model}`);
  const original = await openUnlockedModel(model, context.signal);
  try {
    const checkpoint = await openCheckpoint(model);
    try {
      if (given !== null) await checkOriginal(given.bundle, given.keys, original, model, checkedText());
      const bundles =
        given !== null
          ? [asAudited(given)]
          : await lockAll(checkpoint, options.schemes, options.placements, folder, context);
      const texts = await readAuditTexts(options, bundles[0]!.locked.bundleDir);
      const { config, accelerator } = original;
      const lab = await openLab({ config, original: accelerator, texts: texts.texts, heldOut: texts.heldOut });
      const topK = Math.min(asked, config.vocabSize);
      const ancestor = options.ancestor === null ? undefined : await readAncestor(options.ancestor, config);
      const control = { ...(await unlockedTarget(config, checkpoint.tensors, accelerator, topK)), ancestor };
      const also = await readAlso(options, checkpoint, folder, context);
      return { original, bundles, texts, lab, control, also, topK, folder };
    } finally {
      await checkpoint.tensors.close();
    }
  } catch (error) {
    await original.close();
    throw error;
  }
}

interface Chosen {
  readonly attacks: readonly Attack[];
  readonly learningRate: number;
}

/** More than any audit asks for: each attack keeps to its own budget. */
const LICENSED_TOKENS = 1_000_000_000;

async function attackAll(
  options: AuditVerbOptions,
  { bundles, lab, control, also, topK, folder }: Opened,
  { attacks, learningRate }: Chosen,
  context: Context,
): Promise<{ findings: Finding[]; lines: Lines[] }> {
  const shared = sharedRuns();
  const findings: Finding[] = [];
  let lines: Lines[] = [];
  const { budgetTokens: budgets, steps } = options;
  const seeds = Array.from({ length: options.seeds }, (_, i) => i + 1);
  const runs = (curve: boolean): number => attacks.filter((attack) => (attack.curve === true) === curve).length;
  const totalTokens = bundles.length * seeds.length * (runs(false) + budgets.length * runs(true));
  const notices = new Set<string>();
  const progress = context.progress('auditing');
  for (const [index, { scheme, placement, locked }] of bundles.entries()) {
    const before = index * (totalTokens / bundles.length);
    progress.note(`${scheme}, ${placement}: ${attacks.map(({ name }) => name).join(', ')}`);
    progress.update({ tokens: before, totalTokens, unit: 'attempts' });
    const teacher = await startUnlicensed(locked, join(folder, `state-${index}`), (line) => {
      if (!notices.has(line)) progress.note(line);
      notices.add(line);
    });
    try {
      const now = Math.floor(Date.now() / 1000);
      await licenseHere(locked, teacher, {
        budgetTokens: LICENSED_TOKENS,
        topK,
        precision: 'float32',
        temperature: { min: 1, max: 1 },
        notBefore: now - 60,
        expires: now + 30 * 86_400,
      });
      const target = { ...(await bundleTarget(teacher, placement, topK)), ancestor: control.ancestor, also };
      const found = await auditTarget(target, control, lab, {
        attacks,
        budgets,
        seeds,
        steps,
        learningRate,
        shared,
        signal: context.signal,
        onTrial: ({ done }) => progress.update({ tokens: before + done, totalTokens, unit: 'attempts' }),
      });
      findings.push(...found.findings);
      lines = found.lines;
    } finally {
      await teacher.close();
    }
  }
  progress.update({ tokens: totalTokens, totalTokens, unit: 'attempts' });
  progress.stop();
  return { findings, lines };
}

/** Each probe has an enclave of its own, and a weak one as its control. */
async function probeAll({ bundles, folder }: Opened, probes: readonly Probe[], context: Context): Promise<ProbeRow[]> {
  if (probes.length === 0) return [];
  const progress = context.progress('probing');
  const totalTokens = bundles.length * probes.length;
  const rows: ProbeRow[] = [];
  for (const [index, { scheme, placement, locked }] of bundles.entries()) {
    let done = 0;
    const options = { bundleDir: locked.bundleDir, keys: locked.keys, folder };
    const found = await runProbes(probes, options, () => {
      context.signal.throwIfAborted();
      progress.update({ tokens: index * probes.length + done++, totalTokens, unit: 'probes' });
    });
    rows.push(...found.map((finding) => ({ ...finding, scheme, placement })));
  }
  progress.stop();
  return rows;
}

interface Found {
  readonly findings: readonly Finding[];
  readonly lines: readonly Lines[];
  readonly probed: readonly ProbeRow[];
}

function reportOf(
  options: AuditVerbOptions,
  { original, texts, topK }: Opened,
  { findings, lines, probed }: Found,
  { attacks, learningRate, started }: Chosen & { readonly started: number },
): AuditReport {
  const { config } = original;
  return {
    format: AUDIT_FORMAT,
    version: AUDIT_VERSION,
    distillock: programVersion(),
    date: new Date().toISOString(),
    command: commandOf(options),
    machine: describeMachine(),
    simulated: true,
    model: {
      name: basename(options.model),
      family: config.modelType,
      blocks: config.numHiddenLayers,
      width: config.hiddenSize,
      vocabulary: config.vocabSize,
    },
    settings: {
      attacks: attacks.map(({ name }) => name),
      budgetTokens: options.budgetTokens,
      seeds: Array.from({ length: options.seeds }, (_, i) => i + 1),
      steps: options.steps,
      learningRate,
      topK,
      heldOutTokens: texts.heldOutTokens,
      quick: options.quick,
    },
    lines: {
      noShield: NO_SHIELD,
      blackBox: lines.map(({ budgetTokens, seed, steps, blackBox }) => ({ budgetTokens, seed, ...blackBox, steps })),
    },
    attacks: reportRows(findings),
    probes: probed,
    seconds: (performance.now() - started) / 1000,
  };
}

async function present(report: AuditReport, { out }: AuditVerbOptions, context: Context): Promise<void> {
  context.print(auditText(report, context.colour));
  if (out === null) return;
  await mkdir(out, { recursive: true });
  await writeFileAtomic(join(out, 'audit.json'), `${JSON.stringify(report, null, 2)}\n`);
  await writeFileAtomic(join(out, 'audit.html'), renderReport(auditPage(report)));
  context.print(`report: ${join(out, 'audit.html')}`);
}
