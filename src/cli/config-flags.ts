// Every setting as a flag: `--learning_rate 1e-3` or `--learning-rate 1e-3`, grouped in --help as in the settings table.
import { type Command, Option } from 'commander';
import { CONFIG_KEYS, CONFIG_SECTIONS, type ConfigFlags, type ConfigName } from '../edge/config.js';

const NAMES = Object.keys(CONFIG_KEYS) as ConfigName[];

/** Declares `[config]` and a flag for every setting, or for those in `names`. */
export function addConfigFlags(command: Command, names: readonly ConfigName[] = NAMES): void {
  command.argument('[config]', 'YAML file of settings; flags override it');
  addSettingFlags(command, names);
}

/** Declares a flag for every setting in `names`. */
export function addSettingFlags(command: Command, names: readonly ConfigName[]): void {
  let section = '';
  for (const name of NAMES) {
    section = CONFIG_SECTIONS.find(([, first]) => first === name)?.[0] ?? section;
    if (!names.includes(name)) continue;
    const key = CONFIG_KEYS[name];
    const isSwitch = key.schema.safeParse(true).success;
    const value = isSwitch ? `[${key.placeholder}]` : `<${key.placeholder}>`;
    const fallback = key.fallback === undefined || key.fallback === null ? '' : ` (default: ${String(key.fallback)})`;
    command.addOption(new Option(`--${name} ${value}`, key.description + fallback).helpGroup(`${section}:`));
  }
}

/** The settings that were given as flags. */
export function givenFlags(command: Command): ConfigFlags {
  const given = command.opts<Record<string, string | boolean | undefined>>();
  return Object.fromEntries(NAMES.filter((name) => given[name] !== undefined).map((name) => [name, given[name]]));
}
